import { readFileSync } from "node:fs";
import { emptyMask, type Mask, tight } from "../src/geometry/mask";

/** Read one of the vectors that the Python package is tested on too. */
export function vectors<T>(name: string): T {
  return JSON.parse(readFileSync(new URL(`../../tests/vectors/${name}.json`, import.meta.url), "utf8")) as T;
}

export function fromRows(rows: readonly string[]): Mask {
  const [height, width] = [rows.length, rows[0]?.length ?? 0];
  if (height === 0 || width === 0) return emptyMask([height, width]);
  const bits = Uint8Array.from(rows.join(""), (character) => (character === "#" ? 1 : 0));
  return tight({ size: [height, width], x: 0, y: 0, width, height, bits });
}

export function toRows(mask: Mask): string[] {
  const [height, width] = mask.size;
  const rows = Array.from({ length: height }, () => ".".repeat(width).split(""));
  mask.bits.forEach((bit, index) => {
    if (bit) rows[mask.y + Math.floor(index / mask.width)]![mask.x + (index % mask.width)] = "#";
  });
  return rows.map((row) => row.join(""));
}
