/** Tools as small state machines: pointer events in, effects to perform out; the functions are pure. */

import type { ImagePoint, ScreenPoint } from "../geometry/frames";

export interface PointerInput {
  readonly is: "down" | "move" | "up" | "cancel" | "leave";
  readonly screen: ScreenPoint;
  readonly image: ImagePoint;
  /** 0 left, 1 middle, 2 right, as the browser counts. */
  readonly button: number;
  readonly alt: boolean;
  readonly shift: boolean;
  readonly touch: boolean;
}

export type Effect =
  | { readonly is: "hover"; readonly at: ImagePoint }
  | { readonly is: "unhover" }
  | { readonly is: "click"; readonly at: ImagePoint; readonly label: 0 | 1 }
  | { readonly is: "dragBox"; readonly from: ImagePoint; readonly to: ImagePoint }
  | { readonly is: "box"; readonly from: ImagePoint; readonly to: ImagePoint }
  | { readonly is: "pick"; readonly at: ImagePoint; readonly adds: boolean }
  | { readonly is: "beginStroke"; readonly at: ImagePoint; readonly inverse: boolean }
  | { readonly is: "stroke"; readonly at: ImagePoint }
  | { readonly is: "endStroke" }
  | { readonly is: "dropStroke" }
  | { readonly is: "pan"; readonly dx: number; readonly dy: number };

/** A gesture under way. */
export type Gesture =
  | { readonly is: "none" }
  | { readonly is: "press"; readonly down: PointerInput }
  | { readonly is: "box"; readonly from: ImagePoint }
  | { readonly is: "stroke" }
  | { readonly is: "pan"; readonly last: ScreenPoint };

export interface Step {
  readonly gesture: Gesture;
  readonly effects: readonly Effect[];
}
export type Tool = "segment" | "select" | "brush" | "eraser" | "polygon" | "pan";

export const idle: Gesture = { is: "none" };
const SLACK = { mouse: 4, touch: 10 };

/** Take one event; the gesture says what went before. */
export function step(tool: Tool, gesture: Gesture, input: PointerInput): Step {
  if (gesture.is === "pan") return panning(gesture, input);
  if (input.is === "down" && (input.button === 1 || tool === "pan")) {
    return { gesture: { is: "pan", last: input.screen }, effects: [{ is: "unhover" }] };
  }
  if (tool === "segment") return segmenting(gesture, input);
  if (tool === "brush" || tool === "eraser") return drawing(gesture, input);
  return picking(gesture, input);
}

function panning(gesture: Extract<Gesture, { is: "pan" }>, input: PointerInput): Step {
  if (input.is !== "move") return { gesture: input.is === "leave" ? gesture : idle, effects: [] };
  const effect = { is: "pan", dx: input.screen.x - gesture.last.x, dy: input.screen.y - gesture.last.y } as const;
  return { gesture: { is: "pan", last: input.screen }, effects: [effect] };
}

function segmenting(gesture: Gesture, input: PointerInput): Step {
  if (input.is === "cancel") return { gesture: idle, effects: [{ is: "unhover" }] };
  if (input.is === "leave") return { gesture, effects: gesture.is === "none" ? [{ is: "unhover" }] : [] };
  if (input.is === "down") return { gesture: { is: "press", down: input }, effects: [] };
  if (gesture.is === "box") {
    if (input.is === "move") return { gesture, effects: [{ is: "dragBox", from: gesture.from, to: input.image }] };
    return { gesture: idle, effects: [{ is: "box", from: gesture.from, to: input.image }] };
  }
  if (gesture.is === "press") {
    const { down } = gesture;
    if (input.is === "up") {
      const label = down.button === 2 || down.alt ? 0 : 1;
      return { gesture: idle, effects: [{ is: "click", at: down.image, label }] };
    }
    const isBox = down.button === 0 && !down.alt && distance(down, input) > slack(input);
    if (!isBox) return { gesture, effects: [] };
    return {
      gesture: { is: "box", from: down.image },
      effects: [{ is: "unhover" }, { is: "dragBox", from: down.image, to: input.image }],
    };
  }
  return { gesture, effects: input.is === "move" && !input.touch ? [{ is: "hover", at: input.image }] : [] };
}

function drawing(gesture: Gesture, input: PointerInput): Step {
  if (input.is === "down") {
    const inverse = input.button === 2 || input.alt;
    return { gesture: { is: "stroke" }, effects: [{ is: "beginStroke", at: input.image, inverse }] };
  }
  if (gesture.is !== "stroke") return { gesture, effects: [] };
  if (input.is === "move") return { gesture, effects: [{ is: "stroke", at: input.image }] };
  if (input.is === "up") return { gesture: idle, effects: [{ is: "endStroke" }] };
  return input.is === "cancel" ? { gesture: idle, effects: [{ is: "dropStroke" }] } : { gesture, effects: [] };
}

function picking(gesture: Gesture, input: PointerInput): Step {
  if (input.is === "down") return { gesture: { is: "press", down: input }, effects: [] };
  if (gesture.is === "press" && input.is === "move" && distance(gesture.down, input) > slack(input)) {
    const { screen } = gesture.down;
    const pan = { is: "pan", dx: input.screen.x - screen.x, dy: input.screen.y - screen.y } as const;
    return { gesture: { is: "pan", last: input.screen }, effects: [{ is: "unhover" }, pan] };
  }
  if (gesture.is === "press" && input.is === "up") {
    return { gesture: idle, effects: [{ is: "pick", at: input.image, adds: input.shift }] };
  }
  if (input.is === "cancel" || input.is === "leave") return { gesture: idle, effects: [{ is: "unhover" }] };
  return { gesture, effects: input.is === "move" && !input.touch ? [{ is: "hover", at: input.image }] : [] };
}

const distance = (a: PointerInput, b: PointerInput) => Math.hypot(a.screen.x - b.screen.x, a.screen.y - b.screen.y);
const slack = (input: PointerInput) => (input.touch ? SLACK.touch : SLACK.mouse);
