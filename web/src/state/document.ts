/** What is undone and redone: the document, and changesets that say for each change what was before and after. */

import type { Annotation, ClassInfo, Operation } from "../api/types";
import type { Box } from "../geometry/frames";
import type { PromptPoint } from "../model/prompt";
import type { Candidates } from "../model/session";
import type { StringKey } from "../i18n/language";

/** The mask being made: all prompts so far, the answer, and which of its candidates is chosen. */
export interface Draft {
  /** That its mask will have. */
  readonly id?: string;
  readonly points: readonly PromptPoint[];
  readonly box: Box | null;
  /** How many of the points were there before the box. */
  readonly boxAfter?: number;
  readonly answer: Candidates;
  readonly chosen: number;
  /** Id of the judged mask that this one replaces. */
  readonly replaces?: string | null;
}

/** Whether masks hold the one that was made of a draft: a reload may come between the two that are written then. */
export function isUsed(draft: Draft, annotations: ReadonlyMap<string, Annotation>): boolean {
  if (draft.id !== undefined && annotations.has(draft.id)) return true;
  const asked = (prompts: Readonly<Record<string, unknown>>) => JSON.stringify([prompts.points, prompts.box]);
  const prompts = annotations.get(draft.replaces ?? "")?.prompts;
  return prompts ? asked(prompts) === asked(promptsOf(draft)) : false;
}

/** What a draft was asked with, as its mask keeps it. */
export function promptsOf({ points, box, boxAfter }: Pick<Draft, "points" | "box" | "boxAfter">) {
  return {
    points: points.map(({ x, y }) => [x, y]),
    labels: points.map(({ label }) => label),
    box: box && [...box],
    ...(box ? { box_after: boxAfter ?? 0 } : {}),
  };
}

export interface Document {
  readonly image: string | null;
  readonly draft: Draft | null;
  readonly annotations: ReadonlyMap<string, ReadonlyMap<string, Annotation>>;
  readonly classes: readonly ClassInfo[];
}

export type Change =
  | { readonly on: "image"; readonly before: string | null; readonly after: string | null }
  | { readonly on: "draft"; readonly before: Draft | null; readonly after: Draft | null }
  | { readonly on: "classes"; readonly before: readonly ClassInfo[]; readonly after: readonly ClassInfo[] }
  | AnnotationChange;
export interface AnnotationChange {
  readonly on: "annotation";
  readonly image: string;
  readonly id: string;
  readonly before: Annotation | null;
  readonly after: Annotation | null;
}

export interface Changeset {
  readonly label: StringKey;
  readonly changes: readonly Change[];
}

export const emptyDocument: Document = { image: null, draft: null, annotations: new Map(), classes: [] };

/** Return the document after some changes. */
export function apply(document: Document, changes: readonly Change[]): Document {
  let { image, draft, classes } = document;
  const touched = new Map<string, Map<string, Annotation>>();
  for (const change of changes) {
    if (change.on === "image") image = change.after;
    else if (change.on === "draft") draft = change.after;
    else if (change.on === "classes") classes = change.after;
    else {
      const ofImage = touched.get(change.image) ?? new Map(document.annotations.get(change.image));
      touched.set(change.image, ofImage);
      if (change.after) ofImage.set(change.id, change.after);
      else ofImage.delete(change.id);
    }
  }
  const annotations = touched.size === 0 ? document.annotations : new Map([...document.annotations, ...touched]);
  return { image, draft, annotations, classes };
}

/** Return the changes that take these back. */
export function inverted(changes: readonly Change[]): Change[] {
  return changes.map((change) => ({ ...change, before: change.after, after: change.before }) as Change).reverse();
}

/** What was done and what was undone, the latest last. */
export interface History {
  readonly past: readonly Changeset[];
  readonly future: readonly Changeset[];
}
const LONGEST = 400;

export const emptyHistory: History = { past: [], future: [] };

export function done(history: History, changeset: Changeset): History {
  return { past: [...history.past, changeset].slice(-LONGEST), future: [] };
}

/** Return the history after an undo, and the changes to apply; null if there is nothing to undo. */
export function undo({ past, future }: History): { history: History; changes: Change[]; of: Changeset } | null {
  const last = past.at(-1);
  if (!last) return null;
  return { history: { past: past.slice(0, -1), future: [...future, last] }, changes: inverted(last.changes), of: last };
}

export function redo({
  past,
  future,
}: History): { history: History; changes: readonly Change[]; of: Changeset } | null {
  const next = future.at(-1);
  if (!next) return null;
  return { history: { past: [...past, next], future: future.slice(0, -1) }, changes: next.changes, of: next };
}

/** The operation that tells the server of a change to an annotation. */
export function operation({ id, after }: Pick<AnnotationChange, "id" | "after">): Operation {
  return after ? { op: "put", annotation: after } : { op: "delete", id };
}
