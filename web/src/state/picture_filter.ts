/** Which pictures the strip shows: all, or those that are done, empty or unsure. */

import type { Annotation, ImageInfo } from "../api/types";

export const FILTERS = ["all", "done", "empty", "unsure"] as const;
/** Done has masks, all of them sure; empty has none; unsure has one that the model was unsure of. */
export type PictureFilter = (typeof FILTERS)[number];

/** A mask of a lower predicted IoU is unsure; one that a person drew has none, and is sure. */
export const SURE = 0.7;

/** What is known of a picture: its masks, where they were fetched, and what the backend says of all pictures. */
export interface Known {
  readonly annotations: ReadonlyMap<string, ReadonlyMap<string, Annotation>>;
  readonly leastScores: ReadonlyMap<string, number>;
}

export function passes(image: ImageInfo, filter: PictureFilter, { annotations, leastScores }: Known): boolean {
  if (filter === "all") return true;
  const masks = annotations.get(image.id);
  const count = masks?.size ?? image.num_annotations;
  if (filter === "empty" || count === 0) return filter === "empty" && count === 0;
  const least = masks
    ? Math.min(...[...masks.values()].map(({ score }) => score ?? 1))
    : (leastScores.get(image.id) ?? 1);
  return filter === "unsure" ? least < SURE : least >= SURE;
}
