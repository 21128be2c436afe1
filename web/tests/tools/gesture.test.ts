import { expect, test } from "vitest";
import { type Effect, type Gesture, idle, type PointerInput, step, type Tool } from "../../src/tools/gesture";

type Event = [is: PointerInput["is"], x: number, y: number, more?: Partial<PointerInput>];

/** Run events through a tool and return what they meant. */
function run(tool: Tool, events: readonly Event[]): Effect[] {
  let gesture: Gesture = idle;
  const effects: Effect[] = [];
  for (const [is, x, y, more] of events) {
    const point = { x, y };
    const input = { is, screen: point, image: point, button: 0, alt: false, shift: false, touch: false, ...more };
    const next = step(tool, gesture, input);
    gesture = next.gesture;
    effects.push(...next.effects);
  }
  expect(gesture).toEqual(idle);
  return effects;
}

test("a hover, a click, a right click and an Alt click", () => {
  const effects = run("segment", [
    ["move", 5, 5],
    ["down", 5, 5],
    ["move", 6, 6],
    ["up", 6, 6],
    ["down", 9, 9, { button: 2 }],
    ["up", 9, 9, { button: 2 }],
    ["down", 7, 7, { alt: true }],
    ["up", 7, 7],
  ]);
  expect(effects).toEqual([
    { is: "hover", at: { x: 5, y: 5 } },
    { is: "click", at: { x: 5, y: 5 }, label: 1 },
    { is: "click", at: { x: 9, y: 9 }, label: 0 },
    { is: "click", at: { x: 7, y: 7 }, label: 0 },
  ]);
});

test("a drag is a box, from where it began", () => {
  const effects = run("segment", [
    ["down", 10, 10],
    ["move", 30, 20],
    ["move", 40, 50],
    ["up", 41, 51],
  ]);
  expect(effects.at(-1)).toEqual({ is: "box", from: { x: 10, y: 10 }, to: { x: 41, y: 51 } });
  expect(effects.filter(({ is }) => is === "dragBox")).toHaveLength(2);
});

test("a finger may tremble and does not hover", () => {
  const touch = { touch: true };
  const effects = run("segment", [
    ["move", 1, 1, touch],
    ["down", 10, 10, touch],
    ["move", 16, 14, touch],
    ["up", 16, 14, touch],
  ]);
  expect(effects).toEqual([{ is: "click", at: { x: 10, y: 10 }, label: 1 }]);
});

test("a stroke goes on outside and is dropped when cancelled", () => {
  const begin: Event[] = [
    ["down", 1, 1],
    ["leave", 2, 2],
    ["move", 3, 3],
  ];
  expect(run("brush", [...begin, ["up", 3, 3]]).map(({ is }) => is)).toEqual(["beginStroke", "stroke", "endStroke"]);
  expect(run("eraser", [...begin, ["cancel", 3, 3]]).at(-1)).toEqual({ is: "dropStroke" });
});

test("the middle button pans with every tool, a drag with the select tool too", () => {
  for (const [tool, button] of [
    ["brush", 1],
    ["segment", 1],
    ["pan", 0],
    ["select", 0],
  ] as const) {
    const effects = run(tool, [
      ["down", 10, 10, { button }],
      ["move", 30, 15],
      ["move", 35, 20],
      ["up", 35, 20],
    ]);
    const pans = effects.filter((effect) => effect.is === "pan");
    expect(pans.map(({ dx, dy }) => [dx, dy])).toEqual([
      [20, 5],
      [5, 5],
    ]);
  }
});
