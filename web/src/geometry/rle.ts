/**
 * COCO run-length encoding, the stored form of a mask: twin of the Python package's, tested on the same vectors.
 *
 * Runs go down the columns, left to right, alternately outside and inside the mask, beginning outside.
 */

import type { Size } from "./frames";
import { emptyMask, type Mask } from "./mask";

export interface RLE {
  /** [height, width]. */
  readonly size: readonly number[];
  readonly counts: string;
}

const MAX_DIGITS = 7;

/** Return a mask's stored form. */
export function encode(mask: Mask): RLE {
  const [height, width] = mask.size;
  return { size: [height, width], counts: compress(countsOf(mask)) };
}

function countsOf(mask: Mask): number[] {
  const [height, width] = mask.size;
  const counts: number[] = [];
  let last = 0;
  const { bits } = mask;
  for (let column = 0; column < mask.width; column++) {
    const top = (mask.x + column) * height + mask.y;
    let inside = 0;
    for (let row = 0, at = column; row < mask.height; row++, at += mask.width) {
      if (bits[at] === inside) continue;
      inside ^= 1;
      last = push(counts, top + row, last, inside);
    }
    if (inside) last = push(counts, top + mask.height, last, 0);
  }
  if (last < height * width || counts.length === 0) counts.push(height * width - last);
  return counts;
}

/** Add an edge; a run that reaches the bottom goes on at the top of the next column. */
function push(counts: number[], edge: number, last: number, inside: number): number {
  if (inside && edge === last && counts.length > 0) return last - counts.pop()!;
  counts.push(edge - last);
  return edge;
}

/** Return the mask of a stored form. Throws RangeError if it is malformed. */
export function decode(rle: RLE): Mask {
  const size = checkedSize(rle.size);
  const [height] = size;
  const runs = runsOf(rle);
  let left = Number.POSITIVE_INFINITY;
  let right = -1;
  let top = height;
  let bottom = -1;
  eachRun(runs, (start, stop) => {
    const first = Math.floor(start / height);
    const last = Math.floor((stop - 1) / height);
    left = Math.min(left, first);
    right = Math.max(right, last);
    top = Math.min(top, first === last ? start - first * height : 0);
    bottom = Math.max(bottom, first === last ? stop - 1 - first * height : height - 1);
  });
  if (right < 0) return emptyMask(size);
  const width = right - left + 1;
  const bits = new Uint8Array(width * (bottom - top + 1));
  eachRun(runs, (start, stop) => {
    let column = Math.floor(start / height);
    let row = start - column * height;
    for (let at = start; at < stop; at++) {
      bits[(row - top) * width + column - left] = 1;
      row += 1;
      if (row === height) {
        row = 0;
        column += 1;
      }
    }
  });
  return { size, x: left, y: top, width, height: bottom - top + 1, bits };
}

function eachRun(runs: readonly number[], visit: (start: number, stop: number) => void): void {
  let position = 0;
  for (let index = 0; index < runs.length; index++) {
    const next = position + runs[index]!;
    if (index % 2 === 1 && next > position) visit(position, next);
    position = next;
  }
}

/** Return the uncompressed counts. Throws RangeError if the string or its sum makes no sense. */
export function runsOf(rle: RLE): number[] {
  const [height, width] = checkedSize(rle.size);
  const counts = decompress(rle.counts);
  let total = 0;
  for (const count of counts) {
    if (count < 0) throw new RangeError(`RLE of ${height} x ${width} pixels has a negative count`);
    total += count;
  }
  if (total !== height * width) {
    throw new RangeError(`RLE of ${height} x ${width} pixels has counts for ${total} instead of ${height * width}`);
  }
  return counts;
}

/** Count a stored mask's pixels without decoding it. */
export function areaOf(rle: RLE): number {
  return runsOf(rle).reduce((sum, run, index) => sum + (index % 2 === 1 ? run : 0), 0);
}

function checkedSize(size: readonly number[]): Size {
  const [height, width] = size;
  if (size.length !== 2 || height === undefined || width === undefined || !(height >= 0 && width >= 0)) {
    throw new RangeError(`RLE size must be [height, width], not ${JSON.stringify(size)}`);
  }
  return [height, width];
}

function compress(counts: readonly number[]): string {
  let text = "";
  for (let index = 0; index < counts.length; index++) {
    let value = counts[index]! - (index > 2 ? counts[index - 2]! : 0);
    for (let more = true; more;) {
      const digit = ((value % 32) + 32) % 32;
      value = Math.floor(value / 32);
      more = digit & 16 ? value !== -1 : value !== 0;
      text += String.fromCharCode(48 + digit + (more ? 32 : 0));
    }
  }
  return text;
}

function decompress(text: string): number[] {
  const counts: number[] = [];
  for (let at = 0; at < text.length;) {
    let value = 0;
    let weight = 1;
    for (let digits = 1, more = true; more; digits++, at++) {
      const code = text.charCodeAt(at) - 48;
      if (Number.isNaN(code) || digits > MAX_DIGITS) throw new RangeError("RLE string is cut short");
      if (code < 0 || code > 63) throw new RangeError("RLE string has characters outside COCO's alphabet");
      value += (code & 31) * weight;
      weight *= 32;
      more = code > 31;
      if (!more && code & 16) value -= weight;
    }
    if (counts.length > 2) value += counts[counts.length - 2]!;
    counts.push(value);
  }
  return counts;
}
