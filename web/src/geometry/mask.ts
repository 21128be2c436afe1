/** Binary masks, held as the crop around their pixels: a mask costs what it covers, not what its image has. */

import type { ImagePoint, Size } from "./frames";

export interface Mask {
  /** [height, width] of the whole image. */
  readonly size: Size;
  /** Left column, top row, and extent of the crop; all outside is not in the mask. */
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
  /** The crop's pixels, row by row, 0 or 1. */
  readonly bits: Uint8Array;
}

export const emptyMask = (size: Size): Mask => ({ size, x: 0, y: 0, width: 0, height: 0, bits: new Uint8Array(0) });

/** Whether the pixel that holds the point is in the mask. */
export function covers(mask: Mask, point: ImagePoint): boolean {
  const column = Math.floor(point.x) - mask.x;
  const row = Math.floor(point.y) - mask.y;
  if (column < 0 || row < 0 || column >= mask.width || row >= mask.height) return false;
  return mask.bits[row * mask.width + column] === 1;
}

/** Count the mask's pixels. */
export function area(mask: Mask): number {
  let sum = 0;
  for (const bit of mask.bits) sum += bit;
  return sum;
}

/** Cut the crop down to the mask's pixels. */
export function tight(mask: Mask): Mask {
  const { width, height, bits } = mask;
  let left = width;
  let right = -1;
  let top = -1;
  let bottom = -1;
  for (let row = 0; row < height; row++) {
    const first = bits.indexOf(1, row * width) - row * width;
    if (first < 0 || first >= width) continue;
    const last = bits.lastIndexOf(1, (row + 1) * width - 1) - row * width;
    if (top < 0) top = row;
    bottom = row;
    left = Math.min(left, first);
    right = Math.max(right, last);
  }
  if (bottom < 0) return emptyMask(mask.size);
  if (left === 0 && top === 0 && right === width - 1 && bottom === height - 1) return mask;
  return cut(mask, mask.x + left, mask.y + top, right - left + 1, bottom - top + 1);
}

/** Return the same mask on another crop of the image; pixels outside the new crop are lost. */
function cut(mask: Mask, x: number, y: number, width: number, height: number): Mask {
  const bits = new Uint8Array(width * height);
  const left = Math.max(x, mask.x);
  const right = Math.min(x + width, mask.x + mask.width);
  const top = Math.max(y, mask.y);
  const bottom = Math.min(y + height, mask.y + mask.height);
  for (let row = top; row < bottom && left < right; row++) {
    const start = (row - mask.y) * mask.width - mask.x;
    bits.set(mask.bits.subarray(start + left, start + right), (row - y) * width + left - x);
  }
  return { size: mask.size, x, y, width, height, bits };
}

/** Return the mask on a crop that also holds the given box, with room to grow. */
export function grown(mask: Mask, x0: number, y0: number, x1: number, y1: number): Mask {
  const [height, width] = mask.size;
  const none = mask.bits.length === 0;
  if (!none && x0 >= mask.x && y0 >= mask.y && x1 <= mask.x + mask.width && y1 <= mask.y + mask.height) return mask;
  const room = Math.max(64, Math.ceil(Math.max(mask.width, mask.height) / 4));
  const left = Math.max(0, Math.min(none ? x0 : mask.x, x0 < mask.x ? x0 - room : x0));
  const top = Math.max(0, Math.min(none ? y0 : mask.y, y0 < mask.y ? y0 - room : y0));
  const right = Math.min(width, Math.max(none ? x1 : mask.x + mask.width, x1 + room));
  const bottom = Math.min(height, Math.max(none ? y1 : mask.y + mask.height, y1 + room));
  return cut(mask, left, top, right - left, bottom - top);
}

/** Intersection over union of two masks of one image; 0 where both are empty. */
export function iou(a: Mask, b: Mask): number {
  const left = Math.max(a.x, b.x);
  const right = Math.min(a.x + a.width, b.x + b.width);
  const top = Math.max(a.y, b.y);
  const bottom = Math.min(a.y + a.height, b.y + b.height);
  let both = 0;
  for (let row = top; row < bottom; row++) {
    const inA = (row - a.y) * a.width - a.x;
    const inB = (row - b.y) * b.width - b.x;
    for (let column = left; column < right; column++) both += a.bits[inA + column]! & b.bits[inB + column]!;
  }
  const either = area(a) + area(b) - both;
  return either === 0 ? 0 : both / either;
}

/** Return the mask on an image of another size, its sides scaled as the image's: a pixel is what lies at its centre. */
export function resized(mask: Mask, size: Size): Mask {
  const [height, width] = size;
  if (height === mask.size[0] && width === mask.size[1]) return mask;
  const [down, along] = [mask.size[0] / height, mask.size[1] / width];
  const x = Math.floor(mask.x / along);
  const y = Math.floor(mask.y / down);
  const columns = Math.min(width, Math.ceil((mask.x + mask.width) / along)) - x;
  const rows = Math.min(height, Math.ceil((mask.y + mask.height) / down)) - y;
  const bits = new Uint8Array(Math.max(0, rows * columns));
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const at = { x: (x + column + 0.5) * along, y: (y + row + 0.5) * down };
      if (covers(mask, at as ImagePoint)) bits[row * columns + column] = 1;
    }
  }
  return tight({ size, x, y, width: columns, height: rows, bits });
}

/** Return the mask moved by whole pixels; what leaves the image is lost. */
export function moved(mask: Mask, dx: number, dy: number): Mask {
  const [height, width] = mask.size;
  const shifted = { ...mask, x: mask.x + dx, y: mask.y + dy };
  const left = Math.max(0, shifted.x);
  const top = Math.max(0, shifted.y);
  const right = Math.min(width, shifted.x + mask.width);
  const bottom = Math.min(height, shifted.y + mask.height);
  if (left >= right || top >= bottom) return emptyMask(mask.size);
  return tight(cut(shifted, left, top, right - left, bottom - top));
}
