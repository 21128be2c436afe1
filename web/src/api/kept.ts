/** Annotations kept in this browser's database, changed by the server's rules. */

import { Conflict } from "./backend";
import type { Database } from "./database";
import type { Annotation, Annotations, Operation } from "./types";

export class KeptAnnotations {
  constructor(private readonly database: Pick<Database, "get" | "put">) {}

  async get(key: string): Promise<Annotations> {
    return (await this.database.get<Annotations>("annotations", key)) ?? { revision: 0, annotations: [] };
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
