/** Prompts as users give them, brought into the model's frame: twin of the package's `inference.prompts`. */

import { type Box, type Fit, type ImagePoint, type Size, toModel } from "../geometry/frames";
import type { Logits } from "../geometry/resize";

export interface PromptPoint extends ImagePoint {
  /** 1 on the object, 0 off it. */
  readonly label: 0 | 1;
}

export interface Prompt {
  readonly points: readonly PromptPoint[];
  readonly box: Box | null;
  /** The logits of an earlier answer, to go on from. */
  readonly mask: Logits | null;
}

/** One prompt as the decoder takes it. */
export interface ModelPrompt {
  /** (x, y) by turns, padded model frame. */
  readonly points: Float32Array;
  /** 1 on, 0 off, 2 and 3 a box's corners, -1 not a point. */
  readonly labels: Float32Array;
  readonly mask: Float32Array | null;
  /** One point and nothing else is ambiguous: three masks answer it. */
  readonly isLonePoint: boolean;
}

export function toModelPrompt(
  prompt: Prompt,
  original: Size,
  modelSize: number,
  fit: Fit = "pad",
  padsBoxes = false,
): ModelPrompt {
  const points: number[] = [];
  const labels: number[] = [];
  const add = (point: ImagePoint, label: number) => {
    const { x, y } = toModel(point, original, modelSize, fit);
    points.push(x, y);
    labels.push(label);
  };
  for (const point of prompt.points) add(point, point.label);
  if (prompt.box) {
    const [x0, y0, x1, y1] = prompt.box;
    add({ x: x0, y: y0 }, 2);
    add({ x: x1, y: y1 }, 3);
  }
  if (labels.length > 0 && (padsBoxes || !prompt.box)) {
    points.push(0, 0);
    labels.push(-1);
  }
  return {
    points: Float32Array.from(points),
    labels: Float32Array.from(labels),
    mask: prompt.mask?.values ?? null,
    isLonePoint: prompt.points.length === 1 && prompt.box === null && prompt.mask === null,
  };
}
