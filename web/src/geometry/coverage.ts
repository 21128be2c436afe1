/** Where a mask covers a raster: of full-size masks, and of low-resolution logits as they are. */

import { type Fit, resizedSize, type Size } from "./frames";
import type { Mask } from "./mask";
import { type Logits, positiveReach } from "./resize";

/** A raster of `width` x `height`, whose pixels are `step` image pixels wide, its corner at (x, y) of the image. */
export interface Raster {
  readonly x: number;
  readonly y: number;
  readonly step: number;
  readonly width: number;
  readonly height: number;
}

/** What fills part of a buffer with 0 and 1: whether each pixel's centre is in the mask. */
export interface Coverage {
  /** [x0, y0, x1, y1) in image pixels, beyond which nothing is covered. */
  readonly reach: readonly [number, number, number, number];
  sample(raster: Raster, out: Uint8Array): void;
}

/** From this many raster pixels a pixel on, a mask's pixels are shown as squares. */
const SQUARES = 4;

/** A full-size mask's coverage: its exact pixels, their corners smoothed while they are too small to be told apart. */
export function maskCoverage(mask: Mask): Coverage {
  return {
    reach: [mask.x, mask.y, mask.x + mask.width, mask.y + mask.height],
    sample(raster, out) {
      if (raster.step < 1 && raster.step * SQUARES > 1) return sampleSmoothly(mask, raster, out);
      const columns = new Int32Array(raster.width);
      for (let x = 0; x < raster.width; x++) {
        const column = Math.floor(raster.x + (x + 0.5) * raster.step) - mask.x;
        columns[x] = column < 0 || column >= mask.width ? -1 : column;
      }
      const { bits } = mask;
      for (let y = 0; y < raster.height; y++) {
        const row = Math.floor(raster.y + (y + 0.5) * raster.step) - mask.y;
        const at = y * raster.width;
        if (row < 0 || row >= mask.height) {
          out.fill(0, at, at + raster.width);
          continue;
        }
        const start = row * mask.width;
        for (let x = 0; x < raster.width; x++) {
          const column = columns[x]!;
          out[at + x] = column < 0 ? 0 : bits[start + column]!;
        }
      }
    },
  };
}

/** Interpolate between pixel centres and cut at one half. */
function sampleSmoothly(mask: Mask, raster: Raster, out: Uint8Array): void {
  const { width, height, bits } = mask;
  const left = new Int32Array(raster.width);
  const weight = new Float32Array(raster.width);
  for (let x = 0; x < raster.width; x++) {
    const at = raster.x + (x + 0.5) * raster.step - mask.x - 0.5;
    left[x] = Math.floor(at);
    weight[x] = at - left[x]!;
  }
  // Two lines of the mask with a rim of zeros, blended once a row.
  const line = new Float32Array(width + 2);
  for (let y = 0; y < raster.height; y++) {
    const at = raster.y + (y + 0.5) * raster.step - mask.y - 0.5;
    const row = Math.floor(at);
    const down = at - row;
    const start = y * raster.width;
    if (row < -1 || row >= height) {
      out.fill(0, start, start + raster.width);
      continue;
    }
    for (let x = 0; x < width; x++) {
      const upper = row < 0 ? 0 : bits[row * width + x]!;
      const lower = row + 1 >= height ? 0 : bits[(row + 1) * width + x]!;
      line[x + 1] = upper + down * (lower - upper);
    }
    for (let x = 0; x < raster.width; x++) {
      const column = left[x]! + 1;
      if (column < 0 || column > width) out[start + x] = 0;
      else out[start + x] = line[column]! + weight[x]! * (line[column + 1]! - line[column]!) > 0.5 ? 1 : 0;
    }
  }
}

/** The coverage of low-resolution logits, interpolated and cut at 0 as they are drawn. */
export function logitsCoverage(
  { side, values }: Logits,
  original: Size,
  modelSize: number,
  fit: Fit = "pad",
): Coverage {
  const [height, width] = original;
  const [resizedHeight, resizedWidth] = resizedSize(original, modelSize, fit);
  const cell = modelSize / side;
  const [toX, toY] = [resizedWidth / width / cell, resizedHeight / height / cell];
  const cells = positiveReach(values, side);
  const reach: Coverage["reach"] = cells
    ? [
        Math.max((cells.x0 - 0.5) / toX, 0),
        Math.max((cells.y0 - 0.5) / toY, 0),
        Math.min((cells.x1 + 1.5) / toX, width),
        Math.min((cells.y1 + 1.5) / toY, height),
      ]
    : [0, 0, 0, 0];
  return {
    reach,
    sample(raster, out) {
      const low = new Int32Array(raster.width);
      const weight = new Float32Array(raster.width);
      for (let x = 0; x < raster.width; x++) {
        const image = raster.x + (x + 0.5) * raster.step;
        const at = Math.min(Math.max(image * toX - 0.5, 0), side - 1);
        low[x] = image < 0 || image >= width ? -1 : Math.min(Math.floor(at), side - 2);
        weight[x] = at - low[x]!;
      }
      const line = new Float32Array(side);
      for (let y = 0; y < raster.height; y++) {
        const image = raster.y + (y + 0.5) * raster.step;
        const start = y * raster.width;
        if (image < 0 || image >= height) {
          out.fill(0, start, start + raster.width);
          continue;
        }
        const at = Math.min(Math.max(image * toY - 0.5, 0), side - 1);
        const row = Math.min(Math.floor(at), side - 2);
        const down = at - row;
        for (let x = 0, p = row * side; x < side; x++, p++) {
          line[x] = values[p]! + down * (values[p + side]! - values[p]!);
        }
        for (let x = 0; x < raster.width; x++) {
          const column = low[x]!;
          const left = column < 0 ? -1 : line[column]!;
          out[start + x] = column >= 0 && left + weight[x]! * (line[column + 1]! - left) > 0 ? 1 : 0;
        }
      }
    },
  };
}
