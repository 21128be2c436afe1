/** Masks to pixels: the topmost mask's colour where it covers, opaque at its inner edge. */

import type { RGB } from "../geometry/colors";
import type { Coverage, Raster } from "../geometry/coverage";

export interface Ink {
  readonly color: RGB;
  /** Alpha within, 0 to 1; the outline is opaque. */
  readonly opacity: number;
  /** The outline's colour where it is another. */
  readonly edge?: RGB;
  /** Raster pixels. */
  readonly outline: number;
}

let inside = new Uint8Array(0);
let eroded = new Uint8Array(0);

/** Paint one mask over a raster's RGBA pixels. */
export function paint(pixels: Uint32Array, raster: Raster, coverage: Coverage, ink: Ink): void {
  const width = Math.max(1, Math.round(ink.outline));
  const [x0, y0, x1, y1] = coverage.reach;
  const left = Math.max(0, Math.floor((x0 - raster.x) / raster.step));
  const top = Math.max(0, Math.floor((y0 - raster.y) / raster.step));
  const right = Math.min(raster.width, Math.ceil((x1 - raster.x) / raster.step));
  const bottom = Math.min(raster.height, Math.ceil((y1 - raster.y) / raster.step));
  if (left >= right || top >= bottom) return;
  // Sampled with a rim, so that outlines do not stop at the raster's edge.
  const part: Raster = {
    x: raster.x + (left - width) * raster.step,
    y: raster.y + (top - width) * raster.step,
    step: raster.step,
    width: right - left + 2 * width,
    height: bottom - top + 2 * width,
  };
  const count = part.width * part.height;
  if (inside.length < count) [inside, eroded] = [new Uint8Array(count), new Uint8Array(count)];
  coverage.sample(part, inside);
  erode(inside, eroded, part.width, part.height, width);
  const fill = packed(ink.color, ink.opacity);
  const edge = packed(ink.edge ?? ink.color, 1);
  for (let y = top; y < bottom; y++) {
    let from = (y - top + width) * part.width + width;
    for (let to = y * raster.width + left; to < y * raster.width + right; to++, from++) {
      if (inside[from]) pixels[to] = eroded[from] ? fill : edge;
    }
  }
}

/** RGBA as the canvas keeps it, little-endian. */
function packed([r, g, b]: RGB, alpha: number): number {
  return ((Math.round(alpha * 255) << 24) | (b << 16) | (g << 8) | r) >>> 0;
}

let across = new Uint8Array(0);

/** Keep the pixels whose neighbours within `reach`, along rows and columns, are all inside. */
function erode(from: Uint8Array, to: Uint8Array, width: number, height: number, reach: number): void {
  const count = width * height;
  if (across.length < count) across = new Uint8Array(count);
  for (let y = 0; y < height; y++) {
    let run = 0;
    const start = y * width;
    for (let x = 0; x < width; x++) {
      run = from[start + x] ? run + 1 : 0;
      if (x >= reach) across[start + x - reach] = run > 2 * reach ? 1 : 0;
    }
    across.fill(0, start + Math.max(width - reach, 0), start + width);
  }
  const runs = new Uint16Array(width);
  to.fill(0, 0, Math.min(reach, height) * width);
  for (let y = 0; y < height; y++) {
    const start = y * width;
    const target = (y - reach) * width;
    for (let x = 0; x < width; x++) {
      const run = across[start + x] ? Math.min(runs[x]! + 1, 65535) : 0;
      runs[x] = run;
      if (y >= reach) to[target + x] = run > 2 * reach ? 1 : 0;
    }
  }
  to.fill(0, Math.max(height - reach, 0) * width, count);
}
