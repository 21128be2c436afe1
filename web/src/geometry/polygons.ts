/**
 * Outlines of masks as polygons with holes, and masks from polygons: twin of the Python package's.
 *
 * Coordinates are (x, y) along pixel edges. Outlines run clockwise on the screen, holes counter-clockwise.
 */

import type { Size } from "./frames";
import { type Mask, tight } from "./mask";

/** A closed ring without a repeated last point. */
type Ring = readonly (readonly [number, number])[];
export interface Polygon {
  readonly exterior: Ring;
  readonly holes: readonly Ring[];
}

const [EAST, SOUTH, WEST, NORTH] = [0, 1, 2, 3] as const;
type Turn = readonly [entering: number, leaving: number];

/** How outlines turn at a corner, by the pixels around it: 1 north-west, 2 north-east, 4 south-west, 8 south-east. */
const TURNS: Readonly<Record<number, readonly Turn[]>> = {
  8: [[NORTH, EAST]],
  4: [[EAST, SOUTH]],
  1: [[SOUTH, WEST]],
  2: [[WEST, NORTH]],
  7: [[WEST, SOUTH]],
  14: [[EAST, NORTH]],
  13: [[SOUTH, EAST]],
  11: [[NORTH, WEST]],
  // Two pixels touch at the corner alone: two outlines pass and keep them joined. The one that stays left comes first.
  9: [
    [NORTH, WEST],
    [SOUTH, EAST],
  ],
  6: [
    [EAST, NORTH],
    [WEST, SOUTH],
  ],
};

interface Corner {
  readonly x: number;
  readonly y: number;
  readonly entering: number;
  readonly leaving: number;
}

/** Return the outlines of a mask's pieces, exact for tolerance 0, else simplified to within it (Douglas-Peucker). */
export function fromMask(mask: Mask, tolerance = 0): Polygon[] {
  const crop = tight(mask);
  if (crop.bits.length === 0) return [];
  const labels = components(crop);
  const exteriors = new Map<number, Ring>();
  const holes = new Map<number, Ring[]>();
  for (const ring of ringsOf(crop)) {
    const [x, y] = ring[0]!;
    const shifted = ring.map(([a, b]) => [a + crop.x, b + crop.y] as const);
    if (signedArea(ring) > 0) exteriors.set(labels[y * crop.width + x]!, shifted);
    else {
      const label = labels[y * crop.width + x - 1]!;
      holes.set(label, [...(holes.get(label) ?? []), shifted]);
    }
  }
  return [...exteriors].map(([label, exterior]) => simplifiedPolygon(exterior, holes.get(label) ?? [], tolerance));
}

function simplifiedPolygon(exterior: Ring, holes: readonly Ring[], tolerance: number): Polygon {
  if (tolerance <= 0) return { exterior, holes };
  const simpler = simplified(exterior, tolerance);
  return {
    exterior: signedArea(simpler) === 0 ? exterior : simpler,
    holes: holes.map((hole) => simplified(hole, tolerance)).filter((hole) => signedArea(hole) !== 0),
  };
}

/** A ring's area, positive if it runs clockwise on the screen. */
function signedArea(ring: Ring): number {
  let sum = 0;
  for (let index = 0; index < ring.length; index++) {
    const [x0, y0] = ring[index]!;
    const [x1, y1] = ring[(index + 1) % ring.length]!;
    sum += x0 * y1 - y0 * x1;
  }
  return sum / 2;
}

function ringsOf(crop: Mask): [number, number][][] {
  const corners = cornersOf(crop);
  const byRows = corners.map((_, index) => index);
  const below = (c: Corner) => (c.leaving === SOUTH || c.entering === NORTH ? 1 : 0);
  const byColumns = byRows.slice().sort((a, b) => {
    const [p, q] = [corners[a]!, corners[b]!];
    return p.x - q.x || p.y - q.y || below(p) - below(q);
  });
  const alongRow = partners(byRows);
  const alongColumn = partners(byColumns);
  const seen = new Uint8Array(corners.length);
  const rings: [number, number][][] = [];
  for (const first of byRows) {
    const ring: [number, number][] = [];
    for (let current = first; !seen[current];) {
      seen[current] = 1;
      const { x, y, leaving } = corners[current]!;
      ring.push([x, y]);
      current = (leaving === EAST || leaving === WEST ? alongRow : alongColumn)[current]!;
    }
    if (ring.length > 0) rings.push(ring);
  }
  return rings;
}

/** All turns of all outlines, by rows; of two at one corner the one with its edge to the left comes first. */
function cornersOf({ width, height, bits }: Mask): Corner[] {
  const corners: Corner[] = [];
  for (let y = 0; y <= height; y++) {
    const [up, down] = [(y - 1) * width, y * width];
    for (let x = 0; x <= width; x++) {
      const west = x > 0 ? 1 : 0;
      const east = x < width ? 1 : 0;
      const north = y > 0 ? 1 : 0;
      const south = y < height ? 1 : 0;
      let around = 0;
      if (north & west) around += bits[up + x - 1]!;
      if (north & east) around += 2 * bits[up + x]!;
      if (south & west) around += 4 * bits[down + x - 1]!;
      if (south & east) around += 8 * bits[down + x]!;
      if (around === 0 || around === 15) continue;
      for (const [entering, leaving] of TURNS[around] ?? []) corners.push({ x, y, entering, leaving });
    }
  }
  return corners;
}

/** Neighbours 2k and 2k + 1 of an order belong together: return each one's partner. */
function partners(order: readonly number[]): Int32Array {
  const result = new Int32Array(order.length);
  for (let index = 0; index + 1 < order.length; index += 2) {
    result[order[index]!] = order[index + 1]!;
    result[order[index + 1]!] = order[index]!;
  }
  return result;
}

/** Label pieces that touch at sides or corners, from 1. */
function components({ width, height, bits }: Mask): Int32Array {
  const labels = new Int32Array(bits.length);
  const stack: number[] = [];
  let count = 0;
  for (let seed = 0; seed < bits.length; seed++) {
    if (!bits[seed] || labels[seed]) continue;
    labels[seed] = ++count;
    stack.push(seed);
    for (let at = stack.pop(); at !== undefined; at = stack.pop()) {
      const column = at % width;
      const row = (at - column) / width;
      for (let r = Math.max(row - 1, 0); r <= Math.min(row + 1, height - 1); r++) {
        for (let c = Math.max(column - 1, 0); c <= Math.min(column + 1, width - 1); c++) {
          const next = r * width + c;
          if (!bits[next] || labels[next]) continue;
          labels[next] = count;
          stack.push(next);
        }
      }
    }
  }
  return labels;
}

/** Simplify a closed ring to within `tolerance` pixels, cut at its two corners that are far apart. */
function simplified(ring: Ring, tolerance: number): Ring {
  if (ring.length < 4) return ring;
  const start = ring[0]!;
  let far = 0;
  let farthest = -1;
  ring.forEach(([x, y], index) => {
    const distance = (x - start[0]) ** 2 + (y - start[1]) ** 2;
    if (distance > farthest) [far, farthest] = [index, distance];
  });
  const closed = [...ring, start];
  const kept = new Set([0, far]);
  keepBetween(closed, 0, far, tolerance, kept);
  keepBetween(closed, far, ring.length, tolerance, kept);
  return ring.filter((_, index) => kept.has(index));
}

function keepBetween(points: Ring, first: number, last: number, tolerance: number, kept: Set<number>): void {
  const stack: [number, number][] = [[first, last]];
  for (let span = stack.pop(); span; span = stack.pop()) {
    const [a, b] = span;
    const [ax, ay] = points[a]!;
    const [dx, dy] = [points[b]![0] - ax, points[b]![1] - ay];
    const length = Math.hypot(dx, dy);
    let worst = tolerance;
    let at = -1;
    for (let index = a + 1; index < b; index++) {
      const [x, y] = [points[index]![0] - ax, points[index]![1] - ay];
      const distance = length === 0 ? Math.hypot(x, y) : Math.abs(x * dy - y * dx) / length;
      if (distance > worst) [worst, at] = [distance, index];
    }
    if (at < 0) continue;
    kept.add(at);
    stack.push([a, at], [at, b]);
  }
}

/** Return the union of polygons: the pixels whose centre they enclose an odd number of times, holes included. */
export function toMask(polygons: readonly Polygon[], size: Size): Mask {
  const [height, width] = size;
  const bits = new Uint8Array(height * width);
  for (const polygon of polygons) fill(bits, size, [polygon.exterior, ...polygon.holes]);
  return tight({ size, x: 0, y: 0, width, height, bits });
}

function fill(bits: Uint8Array, [height, width]: Size, rings: readonly Ring[]): void {
  const crossings = new Map<number, number[]>();
  for (const ring of rings) {
    ring.forEach(([x0, y0], index) => {
      const [x1, y1] = ring[(index + 1) % ring.length]!;
      const first = Math.min(Math.max(Math.ceil(Math.min(y0, y1) - 0.5), 0), height);
      const past = Math.min(Math.max(Math.ceil(Math.max(y0, y1) - 0.5), 0), height);
      for (let row = first; row < past; row++) {
        const crossing = x0 + ((row + 0.5 - y0) * (x1 - x0)) / (y1 - y0);
        const column = Math.min(Math.max(Math.ceil(crossing - 0.5), 0), width);
        const known = crossings.get(row);
        if (known) known.push(column);
        else crossings.set(row, [column]);
      }
    });
  }
  for (const [row, columns] of crossings) {
    columns.sort((a, b) => a - b);
    for (let index = 0; index + 1 < columns.length; index += 2) {
      bits.fill(1, row * width + columns[index]!, row * width + columns[index + 1]!);
    }
  }
}
