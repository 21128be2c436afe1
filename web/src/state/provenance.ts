/** Who made a mask, in which stage, with which model and effort; and rates of it, computed as the server does. */

import type { Annotation, Effort, Provenance, Stage, Summary } from "../api/types";
import type { Change } from "./document";

/** The author of masks that nobody has looked at. */
const MODEL = "model";

export interface Maker {
  readonly author: string;
  readonly stage: Stage;
  /** Hash of the model that answers. */
  readonly model: string | null;
}

/** Whether a mask waits for a person's verdict: it is to be judged, or prefilled by the model. */
export const awaits = ({ provenance, verdict }: Pick<Annotation, "provenance" | "verdict">): boolean =>
  verdict ? verdict.is === "open" : provenance?.origin === "prefilled" && provenance.author === MODEL;

/** The provenance of a mask that somebody made of `before`, or of nothing. */
export function provenanceOf(before: Annotation | null, maker: Maker, effort: Effort): Provenance {
  const known = before?.provenance ?? null;
  const own = known?.author === maker.author && known.stage === maker.stage ? known : null;
  return {
    ...maker,
    origin: known?.origin ?? (before ? "imported" : "added"),
    seconds: Math.round(1000 * ((own?.seconds ?? 0) + effort.seconds)) / 1000,
    clicks: (own?.clicks ?? 0) + effort.clicks,
    strokes: (own?.strokes ?? 0) + effort.strokes,
  };
}

const HANDMADE = new Set(["draw", "erase", "change"]);

/** Put provenance on the masks that a changeset makes or reshapes; `lap` ends and returns the seconds they took. */
export function stamped(label: string, changes: readonly Change[], maker: Maker, lap: () => number): readonly Change[] {
  const isMade = (change: Change) =>
    change.on === "annotation" && change.after !== null && change.before?.rle.counts !== change.after.rle.counts;
  const made = changes.filter(isMade).length;
  if (made === 0) return changes;
  const asked = changes.find((change) => change.on === "draft")?.before ?? null;
  const clicks = asked ? asked.points.length + (asked.box ? 1 : 0) : 0;
  const effort = { seconds: lap() / made, clicks, strokes: HANDMADE.has(label) ? 1 : 0 };
  return changes.map((change) => {
    if (change.on !== "annotation" || !change.after || !isMade(change)) return change;
    return { ...change, after: { ...change.after, provenance: provenanceOf(change.before, maker, effort) } };
  });
}

export interface Rates {
  readonly masks: number;
  readonly secondsPerMask: number | null;
  readonly clicksPerMask: number | null;
  readonly masksPerImage: number | null;
  /** Share of the masks that the brush touched. */
  readonly byHand: number | null;
}

/** Rates over finished pictures and, where there is one, the present picture. */
export function rates(done: Summary, now?: { readonly effort: Effort; readonly made: readonly Annotation[] }): Rates {
  const kept = done.confirmed + done.fixed + done.added;
  const masks = kept + (now?.made.length ?? 0);
  const images = done.images + (now && now.made.length > 0 ? 1 : 0);
  const share = (of: number) => (masks > 0 ? of / masks : null);
  const painted = now?.made.filter(({ provenance }) => (provenance?.strokes ?? 0) > 0).length ?? 0;
  return {
    masks,
    secondsPerMask: share(done.seconds_per_mask * kept + (now?.effort.seconds ?? 0)),
    clicksPerMask: share(done.clicks_per_mask * kept + (now?.effort.clicks ?? 0)),
    masksPerImage: images > 0 ? masks / images : null,
    byHand: share(done.by_hand * kept + painted),
  };
}
