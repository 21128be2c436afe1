import type { Summary } from "../src/api/types";

/** A stage in which nothing has been done. */
export const none: Summary = {
  images: 0,
  masks: 0,
  masks_per_image: 0,
  seconds_per_mask: 0,
  clicks_per_mask: 0,
  strokes_per_mask: 0,
  by_hand: 0,
  seconds_per_added_mask: 0,
  prefilled: 0,
  confirmed: 0,
  fixed: 0,
  rejected: 0,
  added: 0,
};
