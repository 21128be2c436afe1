/**
 * First clicks and boxes made finer: twin of the package's `inference.refinement`, with its defaults.
 *
 * The decoder is asked again with the logits of the mask that it ranks first, whose place the answer takes; of three
 * masks all keep their scores. Then crumbs are dropped and pinholes closed, of all masks.
 */

import { type Fit, resizedSize, type Size } from "../geometry/frames";
import { tidy } from "../geometry/regions";
import type { Answer, Decoder } from "./decoder";
import type { ModelPrompt } from "./prompt";

/** Answer a prompt; later clicks and mask prompts get the decoder's answer as it is. */
export async function decodeRefined(
  decoder: Decoder,
  image: unknown,
  prompt: ModelPrompt,
  original: Size,
  imageSize: number,
  fit: Fit = "pad",
): Promise<Answer> {
  const first = await decoder.decode(image, prompt);
  if (!prompt.isLonePoint && !isLoneBox(prompt)) return first;
  const { side, scores } = first;
  const logits = first.logits.slice();
  const best = scores.reduce((top, score, index) => (score > scores[top]! ? index : top), 0);
  const place = best * side * side;
  const mask = logits.slice(place, place + side * side);
  const again = await decoder.decode(image, { ...prompt, mask, isLonePoint: false });
  logits.set(again.logits, place);
  tidyLogits(logits, side, prompt, original, imageSize, fit);
  return { side, logits, scores: scores.length === 1 ? again.scores : scores };
}

/** A box and nothing else, but for the padding point that some models want. */
const isLoneBox = ({ labels, mask }: ModelPrompt): boolean =>
  mask === null && labels[0] === 2 && (labels.length === 2 || (labels.length === 3 && labels[2] === -1));

/** Turn the sign of crumbs and pinholes, in place, in each of some masks; samples that are padding are left alone. */
function tidyLogits(
  logits: Float32Array,
  side: number,
  prompt: ModelPrompt,
  original: Size,
  imageSize: number,
  fit: Fit = "pad",
): void {
  const cell = imageSize / side;
  const samples = (length: number) => Math.min(side, Math.floor(length / cell + 0.5) + 1);
  const [height, width] = resizedSize(original, imageSize, fit).map(samples) as [number, number];
  const clicks = Array.from(prompt.labels)
    .map((label, index) => ({ label, x: prompt.points[2 * index]!, y: prompt.points[2 * index + 1]! }))
    .filter(({ label }) => label === 1)
    .map(({ x, y }) => ({ x: (x + 0.5) / cell, y: (y + 0.5) / cell }));
  const bits = new Uint8Array(width * height);
  for (let start = 0; start < logits.length; start += side * side) {
    const at = (index: number) => start + Math.floor(index / width) * side + (index % width);
    for (let index = 0; index < bits.length; index++) bits[index] = logits[at(index)]! > 0 ? 1 : 0;
    tidy({ width, height, bits }, clicks).forEach((bit, index) => {
      if (bit !== bits[index]) logits[at(index)] = -logits[at(index)]!;
    });
  }
}
