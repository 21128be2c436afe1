/** A round brush that adds or takes pixels along a stroke. */

import type { ImagePoint, Size } from "./frames";
import { emptyMask, grown, type Mask, tight } from "./mask";

/** A mask being drawn on; its pixels change in place, its crop grows with the stroke. */
export interface Stroke {
  mask: Mask;
  readonly adds: boolean;
  /** Pixels of the original image. */
  readonly radius: number;
  last: ImagePoint | null;
}

/** Begin a stroke on a copy of a mask, or on nothing. */
export function beginStroke(mask: Mask | null, size: Size, adds: boolean, radius: number): Stroke {
  const copy = mask === null ? emptyMask(size) : { ...mask, bits: mask.bits.slice() };
  return { mask: copy, adds, radius: Math.max(radius, 0.5), last: null };
}

/** Draw on to a point: every pixel whose centre is within the radius of the line from the last one. */
export function drawTo(stroke: Stroke, point: ImagePoint): void {
  const from = stroke.last ?? point;
  stroke.last = point;
  const [height, width] = stroke.mask.size;
  const reach = stroke.radius;
  const x0 = Math.max(0, Math.floor(Math.min(from.x, point.x) - reach));
  const y0 = Math.max(0, Math.floor(Math.min(from.y, point.y) - reach));
  const x1 = Math.min(width, Math.ceil(Math.max(from.x, point.x) + reach));
  const y1 = Math.min(height, Math.ceil(Math.max(from.y, point.y) + reach));
  if (x0 >= x1 || y0 >= y1) return;
  if (stroke.adds) stroke.mask = grown(stroke.mask, x0, y0, x1, y1);
  paint(stroke.mask, from, point, reach, stroke.adds ? 1 : 0, [x0, y0, x1, y1]);
}

function paint(mask: Mask, a: ImagePoint, b: ImagePoint, radius: number, bit: 0 | 1, area: readonly number[]): void {
  const [x0, y0, x1, y1] = area as [number, number, number, number];
  const dx = b.x - a.x;
  const dy = b.y - a.y;
  const length2 = dx * dx + dy * dy;
  const left = Math.max(x0, mask.x);
  const right = Math.min(x1, mask.x + mask.width);
  for (let row = Math.max(y0, mask.y); row < Math.min(y1, mask.y + mask.height); row++) {
    const start = (row - mask.y) * mask.width - mask.x;
    const py = row + 0.5 - a.y;
    for (let column = left; column < right; column++) {
      const px = column + 0.5 - a.x;
      const t = length2 === 0 ? 0 : Math.min(1, Math.max(0, (px * dx + py * dy) / length2));
      const ex = px - t * dx;
      const ey = py - t * dy;
      if (ex * ex + ey * ey <= radius * radius) mask.bits[start + column] = bit;
    }
  }
}

/** End a stroke: the mask it left. */
export const endStroke = (stroke: Stroke): Mask => tight(stroke.mask);
