import type { Annotation } from "../src/api/types";

/** A mask that somebody clicked. */
export const annotation = (id: string, changes: Partial<Annotation> = {}): Annotation => ({
  id,
  rle: { size: [2, 2], counts: "04" },
  class_id: null,
  name: null,
  visible: true,
  score: null,
  source: "click",
  prompts: null,
  parent: null,
  ...changes,
});
