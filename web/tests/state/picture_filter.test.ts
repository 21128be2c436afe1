import { expect, test } from "vitest";
import type { ImageInfo } from "../../src/api/types";
import { FILTERS, passes } from "../../src/state/picture_filter";
import { annotation } from "../annotation";

const image = (id: string, num_annotations: number): ImageInfo => ({
  id,
  name: id,
  width: 4,
  height: 4,
  state: "ready",
  revision: 0,
  num_annotations,
});
const masks = (...scores: (number | null)[]) =>
  new Map(scores.map((score, at) => [`${at}`, { ...annotation(`${at}`), score }]));

test.each([
  ["its masks are sure, or drawn", image("a", 0), masks(0.9, null), "done"],
  ["one of its masks is unsure", image("a", 0), masks(0.9, 0.5), "unsure"],
  ["its masks were deleted", image("a", 3), masks(), "empty"],
  ["it was never opened, and has none", image("b", 0), null, "empty"],
  ["it was never opened, and is said to be unsure", image("b", 2), null, "unsure"],
  ["it was never opened, and nothing is said of it", image("c", 2), null, "done"],
])("a picture is of one kind where %s", (_, picture, known, kind) => {
  const annotations = new Map(known ? [[picture.id, known]] : []);
  const leastScores = new Map([
    ["a", 0.1],
    ["b", 0.6],
  ]);
  const found = FILTERS.filter((filter) => passes(picture, filter, { annotations, leastScores }));
  expect(found).toEqual(["all", kind]);
});
