/** Connected regions of a grid of pixels, corners included: twin of the package's `geometry.regions`. */

/** A rectangle of pixels, row by row, 0 or 1. */
export interface Grid {
  readonly width: number;
  readonly height: number;
  readonly bits: Uint8Array;
}

/** Each pixel's region, 1 and up, 0 where there is no pixel; and the regions' areas, that of 0 left at 0. */
function components({ width, height, bits }: Grid): { labels: Int32Array; areas: number[] } {
  const labels = new Int32Array(bits.length);
  const areas = [0];
  const waiting: number[] = [];
  for (let start = 0; start < bits.length; start++) {
    if (!bits[start] || labels[start]) continue;
    const label = areas.length;
    let count = 0;
    labels[start] = label;
    waiting.push(start);
    for (let at = waiting.pop(); at !== undefined; at = waiting.pop()) {
      count += 1;
      const column = at % width;
      const row = (at - column) / width;
      for (let y = Math.max(row - 1, 0); y <= Math.min(row + 1, height - 1); y++) {
        for (let x = Math.max(column - 1, 0); x <= Math.min(column + 1, width - 1); x++) {
          const near = y * width + x;
          if (!bits[near] || labels[near]) continue;
          labels[near] = label;
          waiting.push(near);
        }
      }
    }
    areas.push(count);
  }
  return { labels, areas };
}

const MIN_PART = 0.1;
const MAX_HOLE = 0.02;

/**
 * Drop crumbs and close pinholes, both by their share of the mask.
 *
 * Regions of less than a tenth of the largest go, unless one of the clicks lies in them; holes of less than 2 % of what
 * stays are closed. What reaches the mask's outside, or the grid's border, is no hole.
 */
export function tidy(mask: Grid, clicks: readonly { readonly x: number; readonly y: number }[]): Uint8Array {
  // Around the mask lies its outside, which is one region in a frame of one pixel more.
  const [width, height] = [mask.width + 2, mask.height + 2];
  const bits = new Uint8Array(width * height);
  for (let row = 0; row < mask.height; row++) {
    bits.set(mask.bits.subarray(row * mask.width, (row + 1) * mask.width), (row + 1) * width + 1);
  }
  const { labels, areas } = components({ width, height, bits });
  const largest = Math.max(...areas);
  const stays = areas.map((area) => area > 0 && area >= MIN_PART * largest);
  for (const { x, y } of clicks) {
    const [column, row] = [Math.floor(x) + 1, Math.floor(y) + 1];
    if (column < 0 || row < 0 || column >= width || row >= height) continue;
    const label = labels[row * width + column]!;
    if (label > 0) stays[label] = true;
  }
  let kept = 0;
  for (let at = 0; at < bits.length; at++) kept += bits[at] = stays[labels[at]!] ? 1 : 0;
  const gaps = components({ width, height, bits: bits.map((bit) => 1 - bit) });
  const outside = gaps.labels[0]!;
  const closed = gaps.areas.map((area, label) => label > 0 && label !== outside && area < MAX_HOLE * kept);
  const result = new Uint8Array(mask.bits.length);
  for (let row = 0, to = 0; row < mask.height; row++) {
    for (let column = 0; column < mask.width; column++, to++) {
      const at = (row + 1) * width + column + 1;
      result[to] = bits[at] || closed[gaps.labels[at]!] ? 1 : 0;
    }
  }
  return result;
}
