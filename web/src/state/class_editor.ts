/** Changes to the list of classes, and the class that new masks get. */

import { effect, type Signal } from "@preact/signals";
import type { Backend } from "../api/backend";
import type { ClassInfo } from "../api/types";
import { classColor, persisted } from "./appearance";
import type { Change } from "./document";
import { messageOf, type Notices } from "./notices";
import type { Settings } from "./settings";
import type { Store } from "./store";

export class ClassEditor {
  /** The class of this project that new masks get until another is chosen. */
  readonly chosen: Signal<number | null>;

  constructor(
    private readonly backend: Pick<Backend, "classId">,
    private readonly store: Store,
    private readonly settings: Settings,
    private readonly notices: Notices,
    project: string,
  ) {
    this.chosen = persisted<number | null>(`class-${project}`, null);
  }

  /** From now on let go of a chosen class that is no longer in the list: nobody could see what new masks would get. */
  watch(): void {
    effect(() => {
      const { classes } = this.store.document.value;
      if (!classes.some(({ id }) => id === this.chosen.value)) this.chosen.value = null;
    });
  }

  async add(name?: string): Promise<void> {
    try {
      const id = await this.backend.classId();
      const before = this.store.document.peek().classes;
      const label = name ?? this.settings.t("newClass", { number: id });
      const item = { id, name: label, color: classColor(id), key: null };
      this.store.commit("changeClass", [{ on: "classes", before, after: [...before, item] }]);
      this.chosen.value = id;
    } catch (error) {
      this.notices.error(messageOf(error), () => void this.add(name));
    }
  }

  edit(id: number, change: Partial<ClassInfo>): void {
    const before = this.store.document.peek().classes;
    const after = before.map((item) => (item.id === id ? { ...item, ...change } : item));
    this.store.commit("changeClass", [{ on: "classes", before, after }]);
  }

  /** Delete a class; masks of the open picture that have it lose it. */
  remove(id: number): void {
    const { image, classes: before } = this.store.document.peek();
    const changes: Change[] = [{ on: "classes", before, after: before.filter((item) => item.id !== id) }];
    for (const annotation of this.store.annotations.peek().values()) {
      if (annotation.class_id !== id || image === null) continue;
      const after = { ...annotation, class_id: null };
      changes.push({ on: "annotation", image, id: annotation.id, before: annotation, after });
    }
    this.store.commit("changeClass", changes);
  }
}
