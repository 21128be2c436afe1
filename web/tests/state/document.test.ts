import { describe, expect, test } from "vitest";
import type { Annotation } from "../../src/api/types";
import { apply, type Change, done, emptyDocument, emptyHistory, redo, undo } from "../../src/state/document";
import { annotation } from "../annotation";

const put = (id: string, before: Annotation | null, after: Annotation | null): Change => ({
  on: "annotation",
  image: "i",
  id,
  before,
  after,
});

describe("a history of changesets", () => {
  const a = annotation("a");
  const named = annotation("a", { name: "cat" });
  const sets: Change[][] = [
    [{ on: "image", before: null, after: "i" }],
    [put("a", null, a)],
    [put("a", a, named), { on: "classes", before: [], after: [{ id: 1, name: "cat", color: "#ffffff", key: "1" }] }],
    [put("a", named, null), put("b", null, annotation("b"))],
    [{ on: "image", before: "i", after: "j" }],
  ];

  test("is walked back and forth through the same documents", () => {
    let document = emptyDocument;
    let history = emptyHistory;
    const seen = [document];
    for (const changes of sets) {
      document = apply(document, changes);
      history = done(history, { label: "undo", changes });
      seen.push(document);
    }
    const plain = (value: typeof document) => ({
      ...value,
      annotations: [...value.annotations].flatMap(([image, list]) => [...list.values()].map((item) => [image, item])),
    });
    for (let step = sets.length - 1; step >= 0; step--) {
      const back = undo(history)!;
      history = back.history;
      document = apply(document, back.changes);
      expect(plain(document)).toEqual(plain(seen[step]!));
    }
    expect(undo(history)).toBeNull();
    for (let step = 1; step <= sets.length; step++) {
      const forth = redo(history)!;
      history = forth.history;
      document = apply(document, forth.changes);
      expect(plain(document)).toEqual(plain(seen[step]!));
    }
    expect(redo(history)).toBeNull();
  });

  test("forgets what was undone when something else is done", () => {
    let history = done(emptyHistory, { label: "undo", changes: sets[0]! });
    history = undo(history)!.history;
    expect(redo(history)).not.toBeNull();
    history = done(history, { label: "undo", changes: sets[1]! });
    expect(redo(history)).toBeNull();
  });
});
