/**
 * Logits up to the original image, as the server does: bilinear to the padded square, cut to the resized image, bilinear
 * to the original. In float32, and only where the mask can be.
 */

import { type Fit, resizedSize, type Size } from "./frames";
import { type Mask, tight } from "./mask";

/** Logits of one mask, low resolution, padded model frame. */
export interface Logits {
  readonly side: number;
  readonly values: Float32Array;
}

/** For each of some targets of a bilinear resize: the source before it, the source after it, the latter's weight. */
interface Taps {
  readonly first: number;
  readonly low: Int32Array;
  readonly high: Int32Array;
  readonly weight: Float32Array;
}

function taps(source: number, target: number, first: number, past: number): Taps {
  const scale = Math.fround(source / target);
  const count = Math.max(past - first, 0);
  const result = { first, low: new Int32Array(count), high: new Int32Array(count), weight: new Float32Array(count) };
  for (let index = 0; index < count; index++) {
    const at = Math.max(Math.fround(Math.fround(scale * Math.fround(first + index + 0.5)) - 0.5), 0);
    const low = Math.min(Math.floor(at), source - 1);
    result.low[index] = low;
    result.high[index] = Math.min(low + 1, source - 1);
    result.weight[index] = Math.fround(at - low);
  }
  return result;
}

/** Return the mask of logits above 0, at the original size. */
export function fullMask({ side, values }: Logits, original: Size, modelSize: number, fit: Fit = "pad"): Mask {
  const [height, width] = original;
  const [resizedHeight, resizedWidth] = resizedSize(original, modelSize, fit);
  const reach = positiveReach(values, side);
  if (reach === null) return { size: original, x: 0, y: 0, width: 0, height: 0, bits: new Uint8Array(0) };
  const cell = modelSize / side;
  const range = (low: number, high: number, resized: number, whole: number): [number, number] => {
    const scale = whole / resized;
    const from = Math.floor(((low - 1) * cell - 2) * scale) - 2;
    const past = Math.ceil(((high + 2) * cell + 2) * scale) + 2;
    return [Math.max(from, 0), Math.min(Math.max(past, 0), whole)];
  };
  const [x0, x1] = range(reach.x0, reach.x1, resizedWidth, width);
  const [y0, y1] = range(reach.y0, reach.y1, resizedHeight, height);
  if (x1 <= x0 || y1 <= y0) return { size: original, x: 0, y: 0, width: 0, height: 0, bits: new Uint8Array(0) };
  const columns = taps(resizedWidth, width, x0, x1);
  const rows = taps(resizedHeight, height, y0, y1);
  const row = squareRows(values, side, modelSize, columns.low[0]!, columns.high[columns.high.length - 1]! + 1);
  const bits = new Uint8Array((x1 - x0) * (y1 - y0));
  upsample(row, columns, rows, bits);
  return tight({ size: original, x: x0, y: y0, width: x1 - x0, height: y1 - y0, bits });
}

function upsample(row: (index: number) => Float32Array, columns: Taps, rows: Taps, bits: Uint8Array): void {
  const width = columns.low.length;
  const offset = columns.low[0]!;
  for (let y = 0; y < rows.low.length; y++) {
    const upper = row(rows.low[y]!);
    const lower = row(rows.high[y]!);
    const down = rows.weight[y]!;
    const up = Math.fround(1 - down);
    for (let x = 0, at = y * width; x < width; x++, at++) {
      const low = columns.low[x]! - offset;
      const high = columns.high[x]! - offset;
      const right = columns.weight[x]!;
      const left = 1 - right;
      const value =
        up * (left * upper[low]! + right * upper[high]!) + down * (left * lower[low]! + right * lower[high]!);
      if (value > 0) bits[at] = 1;
    }
  }
}

/** Return a function that gives rows of the padded square, columns `first` to before `past`; the last two are kept. */
function squareRows(values: Float32Array, side: number, modelSize: number, first: number, past: number) {
  const columns = taps(side, modelSize, first, past);
  const rows = taps(side, modelSize, 0, modelSize);
  const kept = new Map<number, Float32Array>();
  return (index: number): Float32Array => {
    const known = kept.get(index);
    if (known) return known;
    const upper = rows.low[index]! * side;
    const lower = rows.high[index]! * side;
    const down = rows.weight[index]!;
    const up = 1 - down;
    const result = new Float32Array(past - first);
    for (let x = 0; x < result.length; x++) {
      const low = columns.low[x]!;
      const high = columns.high[x]!;
      const right = columns.weight[x]!;
      const left = 1 - right;
      result[x] =
        up * (left * values[upper + low]! + right * values[upper + high]!) +
        down * (left * values[lower + low]! + right * values[lower + high]!);
    }
    if (kept.size > 3) kept.delete(kept.keys().next().value!);
    kept.set(index, result);
    return result;
  };
}

/** Return the cells that hold the logits above 0, or null if there are none. */
export function positiveReach(values: Float32Array, side: number) {
  let [x0, y0, x1, y1] = [side, side, -1, -1];
  for (let y = 0, at = 0; y < side; y++) {
    for (let x = 0; x < side; x++, at++) {
      if (values[at]! <= 0) continue;
      if (x < x0) x0 = x;
      if (x > x1) x1 = x;
      if (y < y0) y0 = y;
      y1 = y;
    }
  }
  return x1 < 0 ? null : { x0, y0, x1, y1 };
}
