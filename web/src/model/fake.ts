/** A stand-in decoder without a model, for development and tests: discs around points, ellipses in boxes. */

import type { EmbeddingData } from "../api/types";
import { resizedSize, type Size } from "../geometry/frames";
import type { Answer, Decoder } from "./decoder";
import type { ModelPrompt } from "./prompt";

const RADII = [0.2, 0.11, 0.05];

export class FakeDecoder implements Decoder {
  readonly device = "fake";
  readonly encode = async (): Promise<EmbeddingData> => ({ data: new Uint16Array(4), shapes: { features: [1, 2, 2] } });
  constructor(
    private readonly imageSize: number,
    private readonly side: number,
  ) {}

  async prepare(_embedding: EmbeddingData, original: Size): Promise<Size> {
    return resizedSize(original, this.imageSize);
  }

  async decode(image: unknown, prompt: ModelPrompt): Promise<Answer> {
    const [height, width] = image as Size;
    const { side } = this;
    const cell = this.imageSize / side;
    const radii = prompt.isLonePoint ? RADII : [0.11];
    const logits = new Float32Array(radii.length * side * side);
    radii.forEach((share, index) => {
      for (let row = 0; row < side; row++) {
        for (let column = 0; column < side; column++) {
          const [x, y] = [(column + 0.5) * cell, (row + 0.5) * cell];
          const outside = x > width || y > height;
          logits[(index * side + row) * side + column] = outside ? -10 : fieldAt(prompt, x, y, share * this.imageSize);
        }
      }
    });
    return { side, logits, scores: Float32Array.from(radii, (_, index) => [0.82, 0.91, 0.74][index] ?? 0.9) };
  }

  release(): void {}
}

/** Positive within `radius` of a point on the object or inside the box, negative near points off it. */
function fieldAt(prompt: ModelPrompt, x: number, y: number, radius: number): number {
  let field = -10;
  let off = 10;
  const at = (index: number) => [prompt.points[2 * index]!, prompt.points[2 * index + 1]!] as const;
  prompt.labels.forEach((label, index) => {
    const [px, py] = at(index);
    const angle = Math.atan2(y - py, x - px);
    const wobble = radius * (1 + 0.12 * Math.sin(3 * angle + px) + 0.06 * Math.cos(7 * angle + py));
    const distance = Math.hypot(x - px, y - py);
    if (label === 1) field = Math.max(field, (wobble - distance) / 4);
    if (label === 0) off = Math.min(off, (distance - 0.6 * wobble) / 4);
    if (label !== 2) return;
    const [qx, qy] = at(index + 1);
    const u = (2 * x - px - qx) / Math.max(qx - px, 1);
    const v = (2 * y - py - qy) / Math.max(qy - py, 1);
    field = Math.max(field, 8 * (1 - Math.hypot(u, v)));
  });
  return Math.min(field, off);
}
