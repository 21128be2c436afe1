/** Annotations in this browser's database, with revisions and conflicts as on the server. */

import { Conflict } from "./backend";
import type { Database } from "./database";
import type { Annotation, Annotations, Operation } from "./types";

export class LocalAnnotations {
  constructor(private readonly database: Pick<Database, "get" | "put" | "delete">) {}

  async get(key: string): Promise<Annotations> {
    return (await this.database.get<Annotations>("annotations", key)) ?? { revision: 0, annotations: [] };
  }

  async forget(key: string): Promise<void> {
    await this.database.delete("annotations", key);
  }

  /** Begin with masks to be judged, or go on with the verdicts from before. */
  async toJudge(key: string, stored: readonly Annotation[]): Promise<Annotations> {
    const { revision, annotations } = await this.get(key);
    const next = { revision, annotations: masksToJudge(stored, annotations) };
    await this.database.put("annotations", key, next);
    return next;
  }

  /** Return what there is after the changes. Throws Conflict<Annotations>. */
  async change(key: string, base: number, changes: readonly Operation[]): Promise<Annotations> {
    const present = await this.get(key);
    if (present.revision !== base) throw new Conflict(present);
    const byId = new Map<string, Annotation>(present.annotations.map((annotation) => [annotation.id, annotation]));
    for (const change of changes) {
      if (change.op === "put") byId.set(change.annotation.id, change.annotation);
      else byId.delete(change.id);
    }
    const next: Annotations = { revision: base + 1, annotations: [...byId.values()] };
    await this.database.put("annotations", key, next);
    return next;
  }
}

/** The masks to judge, as the server has them, with their verdicts from before; verdicts on others are dropped. */
export function masksToJudge(stored: readonly Annotation[], kept: readonly Annotation[]): Annotation[] {
  const known = new Map(kept.map((annotation) => [annotation.id, annotation]));
  const masks = stored.map((annotation): Annotation => {
    const said = known.get(annotation.id);
    if (said?.verdict?.seen === annotation.rle.counts) return said;
    return { ...annotation, verdict: { is: "open", seen: annotation.rle.counts, score: annotation.score } };
  });
  const isKnown = masks.some((mask) => known.get(mask.id) === mask);
  return [...masks, ...(isKnown ? kept.filter(({ verdict }) => !verdict) : [])];
}
