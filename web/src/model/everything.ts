/** Everything-mode in the page: a grid of clicks, the sure and steady masks among the answers, without doubles. */

import type { FoundMask } from "../api/types";
import type { Fit, Size } from "../geometry/frames";
import { area, iou, type Mask } from "../geometry/mask";
import { fullMask } from "../geometry/resize";
import { encode } from "../geometry/rle";
import type { Decoder } from "./decoder";
import { toModelPrompt } from "./prompt";

const MIN_SCORE = 0.8;
const MIN_STABILITY = 0.9;
const MAX_OVERLAP = 0.7;

interface Candidate {
  readonly logits: Float32Array;
  readonly score: number;
}

export async function findEverything(
  decoder: Decoder,
  image: unknown,
  original: Size,
  imageSize: number,
  fit: Fit,
  grid: number,
): Promise<FoundMask[]> {
  const candidates: Candidate[] = [];
  let side = 0;
  for (let index = 0; index < grid * grid; index++) {
    const x = (((index % grid) + 0.5) / grid) * original[1];
    const y = ((Math.floor(index / grid) + 0.5) / grid) * original[0];
    const prompt = toModelPrompt({ points: [{ x, y, label: 1 }], box: null, mask: null }, original, imageSize, fit);
    const answer = await decoder.decode(image, prompt);
    side = answer.side;
    answer.scores.forEach((score, place) => {
      const logits = answer.logits.slice(place * side * side, (place + 1) * side * side);
      if (score >= MIN_SCORE && stability(logits) >= MIN_STABILITY) candidates.push({ logits, score });
    });
  }
  candidates.sort((a, b) => b.score - a.score);
  const kept: { candidate: Candidate; small: Mask }[] = [];
  for (const candidate of candidates) {
    const small = fullMask({ side, values: candidate.logits }, [side, side], side);
    if (area(small) > 0 && kept.every((other) => iou(other.small, small) < MAX_OVERLAP))
      kept.push({ candidate, small });
  }
  return kept.map(({ candidate: { logits, score } }) => {
    return { rle: encode(fullMask({ side, values: logits }, original, imageSize, fit)), score, phrase: null };
  });
}

/** IoU of the masks above +1 and above -1; 0 for an empty mask. */
function stability(logits: Float32Array): number {
  let [inner, outer] = [0, 0];
  for (const value of logits) {
    if (value > 1) inner += 1;
    if (value > -1) outer += 1;
  }
  return outer === 0 ? 0 : inner / outer;
}
