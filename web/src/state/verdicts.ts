/** Verdicts on masks in a review or a check: kept in this browser until the picture is done, then sent at once. */

import type { Annotation, LocalDraft, Judged, Judgement, Stage, Task, Verdict } from "../api/types";
import type { Change } from "./document";

export const isJudged = (stage: Stage | undefined): boolean => stage === "review" || stage === "check";

/** The local draft of a task, or null where masks go to the server as they are made. */
export function localDraftOf({ lease, image }: Task): LocalDraft | null {
  if (lease.is_second) return { key: `second ${lease.job}`, revision: null };
  if (isJudged(lease.stage)) return { key: `${lease.stage} ${lease.job}`, revision: image.revision };
  return null;
}

/** Sort masks: the least confident first, those that are not judged last. */
export function byConfidence(annotations: Iterable<Annotation>): Annotation[] {
  const place = ({ verdict }: Annotation) => (verdict ? (verdict.score ?? 2) : 3);
  return [...annotations].sort((a, b) => place(a) - place(b));
}

/** Whether a mask was reshaped since it came. */
const isReshaped = ({ rle, verdict }: Annotation): boolean => verdict !== undefined && rle.counts !== verdict.seen;

/** Return a mask with a verdict: rejected for a reason; with null accepted, or fixed if it was reshaped. */
export function ruled(before: Annotation, reason: string | null): Annotation {
  if (!before.verdict) return before;
  const { seen, score, is, wasFixed = is === "fix" } = before.verdict;
  if (reason !== null) return { ...before, verdict: { is: "reject", seen, score, reason, wasFixed } };
  return { ...before, verdict: { is: wasFixed || isReshaped(before) ? "fix" : "accept", seen, score } };
}

/** Turn changes to judged masks into verdicts: what is changed is fixed, what is deleted is rejected. */
export function asVerdicts(changes: readonly Change[], reason: string): readonly Change[] {
  return changes.map((change) => {
    if (change.on !== "annotation" || !change.before?.verdict) return change;
    const { before, after } = change;
    if (after === null) return { ...change, after: ruled(before, reason) };
    const isSame = after.rle.counts === before.rle.counts && after.class_id === before.class_id;
    const isWord = after.verdict?.is !== before.verdict!.is;
    if (isWord || (isSame && after.name === before.name)) return change;
    const { seen, score } = before.verdict!;
    return { ...change, after: { ...after, verdict: { is: "fix", seen, score } } };
  });
}

/** The verdicts and added masks, as the server takes them. */
export function judgements(annotations: Iterable<Annotation>): Pick<Judged, "judgements" | "added"> {
  const all = [...annotations];
  const told = all.flatMap(({ verdict, ...mask }): Judgement[] => {
    if (!verdict || verdict.is === "open") return [];
    const { id: key } = mask;
    if (verdict.is === "reject") return [{ key, verdict: "reject", reason: verdict.reason ?? "" }];
    return [verdict.is === "fix" ? { key, verdict: "fix", fixed: mask } : { key, verdict: "accept" }];
  });
  return { judgements: told, added: all.filter(({ verdict }) => !verdict) };
}

/** Count a picture's masks by verdict. */
export function counted(annotations: Iterable<Annotation>): Readonly<Record<Verdict["is"], number>> {
  const counts = { open: 0, accept: 0, fix: 0, reject: 0 };
  for (const { verdict } of annotations) if (verdict) counts[verdict.is] += 1;
  return counts;
}
