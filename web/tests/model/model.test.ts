import { expect, test } from "vitest";
import { FakeDecoder } from "../../src/model/fake";
import { fromFloat16, toFloat16 } from "../../src/model/float16";
import { toModelPrompt } from "../../src/model/prompt";
import { rank } from "../../src/model/session";

test("half precision comes back", () => {
  const values = Float32Array.of(0, 1, -2.5, 65504, 2 ** -14, 2 ** -24, -0.333251953125);
  expect(fromFloat16(toFloat16(values))).toEqual(values);
  expect([...fromFloat16(Uint16Array.of(0x3c00, 0xc000, 0x7c00, 0x0001))]).toEqual([1, -2, Infinity, 2 ** -24]);
  expect(fromFloat16(toFloat16(Float32Array.of(1e6, 1.0001)))).toEqual(Float32Array.of(Infinity, 1));
});

test("prompts get the tokens that the server's get", () => {
  const lone = toModelPrompt({ points: [{ x: 50, y: 20, label: 1 }], box: null, mask: null }, [100, 200], 256);
  expect([...lone.points]).toEqual([64, Math.fround(25.6), 0, 0]);
  expect([...lone.labels]).toEqual([1, -1]);
  expect(lone.isLonePoint).toBe(true);
  const mask = { side: 2, values: new Float32Array(4) };
  const box = toModelPrompt({ points: [{ x: 0, y: 0, label: 0 }], box: [10, 20, 30, 40], mask }, [200, 200], 200);
  expect([...box.points]).toEqual([0, 0, 10, 20, 30, 40]);
  expect([...box.labels]).toEqual([0, 2, 3]);
  expect(box.isLonePoint).toBe(false);
});

test("candidates are ranked from whole to subpart", async () => {
  const decoder = new FakeDecoder(64, 16);
  const image = await decoder.prepare({ data: new Uint16Array(0), shapes: { features: [1, 1, 1] } }, [64, 64]);
  const prompt = toModelPrompt({ points: [{ x: 32, y: 32, label: 1 }], box: null, mask: null }, [64, 64], 64);
  const { logits, scores, side } = await decoder.decode(image, prompt);
  const backwards = new Float32Array([...logits.slice(512), ...logits.slice(256, 512), ...logits.slice(0, 256)]);
  const { ranked, best } = rank(backwards, Float32Array.of(scores[2]!, scores[1]!, scores[0]!), side, 0);
  const cells = ranked.map((candidate) => candidate.logits.values.filter((value) => value > 0).length);
  expect(cells).toEqual([...cells].sort((a, b) => b - a));
  expect(cells[0]).toBeGreaterThan(cells[2]!);
  expect(ranked[best]!.score).toBe(Math.max(...scores));
});
