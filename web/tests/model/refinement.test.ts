import { expect, test } from "vitest";
import type { Answer, Decoder } from "../../src/model/decoder";
import { type ModelPrompt, toModelPrompt } from "../../src/model/prompt";
import { decodeRefined } from "../../src/model/refinement";

const SIDE = 8;
const SIZE = [64, 64] as const;

/** Says `three` to a lone point, else `one`, and remembers what it was asked. */
class Scripted implements Decoder {
  readonly device = "scripted";
  readonly encode = null;
  readonly asked: ModelPrompt[] = [];
  constructor(
    private readonly three: Answer,
    private readonly one: Answer,
  ) {}
  prepare = async () => null;
  release(): void {}
  async decode(_image: unknown, prompt: ModelPrompt): Promise<Answer> {
    this.asked.push(prompt);
    return prompt.isLonePoint ? this.three : this.one;
  }
}

function drawn(...values: number[]): Float32Array {
  return Float32Array.from(values.flatMap((value) => Array.from({ length: SIDE * SIDE }, () => value)));
}
const click = toModelPrompt({ points: [{ x: 20, y: 20, label: 1 }], box: null, mask: null }, SIZE, 64);
const box = toModelPrompt({ points: [], box: [8, 8, 40, 40], mask: null }, SIZE, 64);
const three: Answer = { side: SIDE, logits: drawn(1, 2, 3), scores: Float32Array.of(0.5, 0.9, 0.7) };
const one: Answer = { side: SIDE, logits: drawn(7), scores: Float32Array.of(0.4) };

test("the mask ranked first is asked again with its logits, and keeps its score", async () => {
  const decoder = new Scripted(three, one);
  const { logits, scores } = await decodeRefined(decoder, null, click, SIZE, 64);
  expect(logits).toEqual(drawn(1, 7, 3));
  expect(scores).toEqual(three.scores);
  expect(decoder.asked.length).toBe(2);
  expect(decoder.asked[1]).toEqual({ ...click, mask: drawn(2), isLonePoint: false });
  expect(three.logits).toEqual(drawn(1, 2, 3));
});

test("a box is asked again too, and takes the second answer's score", async () => {
  const decoder = new Scripted(three, one);
  expect(await decodeRefined(decoder, null, box, SIZE, 64)).toEqual(one);
  expect(decoder.asked[1]!.mask).toEqual(drawn(7));
});

test("later clicks are asked once", async () => {
  const mask = { side: SIDE, values: drawn(2) };
  for (const prompt of [
    toModelPrompt({ points: [{ x: 20, y: 20, label: 1 }], box: null, mask }, SIZE, 64),
    toModelPrompt({ points: [{ x: 20, y: 20, label: 1 }], box: [8, 8, 40, 40], mask: null }, SIZE, 64),
    toModelPrompt({ points: [], box: [8, 8, 40, 40], mask }, SIZE, 64),
  ]) {
    const decoder = new Scripted(three, one);
    expect(await decodeRefined(decoder, null, prompt, SIZE, 64)).toBe(one);
    expect(decoder.asked.length).toBe(1);
  }
});

test("crumbs and pinholes turn their sign, padding is left alone", async () => {
  const logits = drawn(-1);
  for (let row = 0; row < 4; row++) logits.fill(4, row * SIDE, row * SIDE + 4);
  logits[0] = -2; // at the border, no hole
  logits[7] = 3; // a crumb of one in fifteen
  logits[6 * SIDE + 1] = 5; // padding
  const decoder = new Scripted(three, { ...one, logits });
  const found = await decodeRefined(decoder, null, box, [32, 64], 64);
  const expected = logits.slice();
  expected[7] = -3;
  expect(found.logits).toEqual(expected);
});
