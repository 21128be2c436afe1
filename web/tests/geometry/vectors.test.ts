import { describe, expect, test } from "vitest";
import { paletteColor } from "../../src/geometry/colors";
import { resizedSize, type Size, toModel } from "../../src/geometry/frames";
import { area } from "../../src/geometry/mask";
import { fromMask, type Polygon, toMask } from "../../src/geometry/polygons";
import { tidy } from "../../src/geometry/regions";
import { fullMask } from "../../src/geometry/resize";
import { areaOf, decode, encode, type RLE, runsOf } from "../../src/geometry/rle";
import { fromRows, toRows, vectors } from "../vectors";

describe("run-length encoding", () => {
  const { cases, malformed } = vectors<{
    cases: { name: string; rows: string[]; rle: RLE; runs: number[]; area: number; bbox_xywh: number[] }[];
    malformed: RLE[];
  }>("rle");
  test.each(cases)("$name", ({ rows, rle, runs, area: expected, bbox_xywh }) => {
    const mask = fromRows(rows);
    expect(encode(mask)).toEqual(rle);
    expect(runsOf(rle)).toEqual(runs);
    expect(areaOf(rle)).toBe(expected);
    const decoded = decode(rle);
    expect(toRows(decoded)).toEqual(rows);
    expect(area(decoded)).toBe(expected);
    if (runs.length <= 3) return; // A run over two columns makes the crop as tall as the image.
    const { x, y, width, height } = mask;
    expect([x, y, width, height]).toEqual(bbox_xywh);
  });
  test.each(malformed)("refuses $counts", (rle) => {
    expect(() => decode(rle)).toThrow(RangeError);
  });
});

describe("frames", () => {
  const { cases } = vectors<{
    cases: { original: Size; model_size: number; resized: Size; points: number[][]; points_in_model: number[][] }[];
  }>("frames");
  test.each(cases)("$original to $model_size", ({ original, model_size, resized, points, points_in_model }) => {
    expect(resizedSize(original, model_size)).toEqual(resized);
    points.forEach(([x, y], index) => {
      const point = toModel({ x: x!, y: y! }, original, model_size);
      expect(point.x).toBeCloseTo(points_in_model[index]![0]!, 3);
      expect(point.y).toBeCloseTo(points_in_model[index]![1]!, 3);
    });
  });
});

describe("polygons", () => {
  const { outlines, filled } = vectors<{
    outlines: { name: string; rows: string[]; polygons: Polygon[] }[];
    filled: { name: string; rows: string[]; polygon: Polygon }[];
  }>("polygons");
  test.each(outlines)("outlines of $name", ({ rows, polygons }) => {
    expect(fromMask(fromRows(rows))).toEqual(polygons);
    expect(toRows(toMask(polygons, [rows.length, rows[0]!.length]))).toEqual(rows);
  });
  test.each(filled)("filled $name", ({ rows, polygon }) => {
    expect(toRows(toMask([polygon], [7, 9]))).toEqual(rows);
  });
});

describe("logits", () => {
  const { logits, cases } = vectors<{
    logits: { side: number; model_size: number; values: number[] }[];
    cases: { original: Size; rle: RLE }[];
  }>("logits");
  test.each(cases)("to $original", ({ original, rle }) => {
    const { side, model_size, values } = logits[0]!;
    const mask = fullMask({ side, values: Float32Array.from(values) }, original, model_size);
    expect(encode(mask)).toEqual(rle);
  });
});

describe("tidied masks", () => {
  const { cases } = vectors<{ cases: { name: string; rows: string[]; clicks: number[][]; tidied: string[] }[] }>(
    "tidied",
  );
  test.each(cases)("$name, clicks at $clicks", ({ rows, clicks, tidied }) => {
    const [height, width] = [rows.length, rows[0]!.length];
    const bits = Uint8Array.from(rows.join(""), (character) => (character === "#" ? 1 : 0));
    const places = clicks.map(([x, y]) => ({ x: x!, y: y! }));
    const found = Array.from(tidy({ width, height, bits }, places), (bit) => (bit ? "#" : ".")).join("");
    expect(found.match(new RegExp(`.{${width}}`, "g"))).toEqual(tidied);
  });
});

test("the palette is the package's", () => {
  const { palette } = vectors<{ palette: number[][] }>("colors");
  palette.forEach((color, index) => {
    expect(paletteColor(index)).toEqual(color);
  });
});
