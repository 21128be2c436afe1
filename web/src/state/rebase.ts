/** Changes made here, brought onto a state that changed elsewhere meanwhile, so that neither side loses anything. */

import type { Annotation, ClassInfo } from "../api/types";

/** A change that is not saved yet: the annotation before and after it, as this page saw them. */
export interface Pending {
  readonly id: string;
  readonly before: Annotation | null;
  readonly after: Annotation | null;
}

export interface Rebased {
  readonly annotations: ReadonlyMap<string, Annotation>;
  readonly pending: readonly Pending[];
  /** Number of masks that both sides changed; ours is kept as a copy. */
  readonly conflicts: number;
}

/** Join changes of one annotation into one. */
export function joined(pending: readonly Pending[]): Pending[] {
  const byId = new Map<string, Pending>();
  for (const change of pending) {
    const first = byId.get(change.id);
    byId.set(change.id, { ...change, before: first ? first.before : change.before });
  }
  return [...byId.values()].filter(({ before, after }) => !sameAnnotation(before, after));
}

/**
 * Apply changes to what is stored now. Where an annotation is no longer what it was before our change, theirs stays and
 * ours becomes a copy under a new id; a deletion of what they changed is dropped.
 */
export function rebase(present: readonly Annotation[], pending: readonly Pending[], newId: () => string): Rebased {
  const annotations = new Map(present.map((annotation) => [annotation.id, annotation]));
  const kept: Pending[] = [];
  let conflicts = 0;
  for (const { id, before, after } of joined(pending)) {
    const theirs = annotations.get(id) ?? null;
    if (sameAnnotation(theirs, after)) continue;
    if (sameAnnotation(theirs, before) || theirs === null) {
      kept.push({ id, before: theirs, after });
      if (after) annotations.set(id, after);
      else annotations.delete(id);
      continue;
    }
    conflicts += 1;
    if (after === null) continue;
    const copy = { ...after, id: newId() };
    annotations.set(copy.id, copy);
    kept.push({ id: copy.id, before: null, after: copy });
  }
  return { annotations, pending: kept, conflicts };
}

export function sameAnnotation(a: Annotation | null, b: Annotation | null): boolean {
  if (a === b) return true;
  if (a === null || b === null) return false;
  return (
    a.id === b.id &&
    a.rle.counts === b.rle.counts &&
    (a.class_id ?? null) === (b.class_id ?? null) &&
    (a.name ?? null) === (b.name ?? null) &&
    a.visible === b.visible &&
    a.source === b.source &&
    (a.parent ?? null) === (b.parent ?? null) &&
    isOfSameMaker(a, b) &&
    a.verdict?.is === b.verdict?.is &&
    a.verdict?.reason === b.verdict?.reason
  );
}

/** Where one side does not say who made a mask, the server may have: it knows people by their tokens. */
function isOfSameMaker({ provenance: a }: Annotation, { provenance: b }: Annotation): boolean {
  return !a || !b || (a.author === b.author && a.stage === b.stage);
}

/** Join two edits of one list of classes: ours where we changed it, theirs elsewhere. */
export function mergeClasses(
  base: readonly ClassInfo[],
  ours: readonly ClassInfo[],
  theirs: readonly ClassInfo[],
): ClassInfo[] {
  const text = (item: ClassInfo | undefined) => JSON.stringify(item ? [item.name, item.color, item.key] : null);
  const find = (list: readonly ClassInfo[], id: number) => list.find((item) => item.id === id);
  const merged: ClassInfo[] = [];
  for (const item of theirs) {
    const [was, mine] = [find(base, item.id), find(ours, item.id)];
    if (!mine && was && text(was) === text(item)) continue; // We deleted it; they left it alone.
    merged.push(mine && text(mine) !== text(was) ? mine : item);
  }
  for (const item of ours) {
    if (find(theirs, item.id)) continue;
    const was = find(base, item.id);
    if (!was || text(was) !== text(item)) merged.push(item);
  }
  return merged;
}
