import { expect, test } from "vitest";
import { type Mask, moved, resized } from "../../src/geometry/mask";

const block: Mask = { size: [8, 10], x: 2, y: 4, width: 4, height: 2, bits: new Uint8Array(8).fill(1) };

test("a mask keeps its share of an image of another size", () => {
  expect(resized(block, [8, 10])).toBe(block);
  const larger = resized(block, [16, 30]);
  expect(larger).toMatchObject({ size: [16, 30], x: 6, y: 8, width: 12, height: 4 });
  expect(larger.bits.every(Boolean)).toBe(true);
  expect(resized(larger, [8, 10])).toEqual(block);
  expect(resized({ ...block, x: 0, y: 0, width: 1, height: 1, bits: new Uint8Array(1) }, [2, 2]).bits).toHaveLength(0);
});

test("a mask is moved, and what leaves the image is lost", () => {
  expect(moved(block, 1, -2)).toMatchObject({ x: 3, y: 2, width: 4, height: 2 });
  expect(moved(block, 6, 3)).toMatchObject({ x: 8, y: 7, width: 2, height: 1 });
  expect(moved(block, 20, 0).bits).toHaveLength(0);
});
