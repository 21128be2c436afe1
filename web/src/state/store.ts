/** The document with its history, saved as it changes. */

import { computed, signal } from "@preact/signals";
import { type Backend, Conflict } from "../api/backend";
import type { Annotation, Annotations, Classes, ClassInfo } from "../api/types";
import type { StringKey } from "../ui/strings";
import { Autosave } from "./autosave";
import {
  apply,
  type Change,
  type Changeset,
  type Document,
  type Draft,
  done,
  emptyDocument,
  emptyHistory,
  type History,
  redo,
  undo,
} from "./document";
import type { TabJournal } from "./journal";
import { mergeClasses, type Pending, type Rebased } from "./rebase";

const NONE: ReadonlyMap<string, Annotation> = new Map();

export class Store {
  readonly document = signal<Document>(emptyDocument);
  readonly history = signal<History>(emptyHistory);
  readonly annotations = computed(() => {
    const { image, annotations } = this.document.value;
    return (image !== null && annotations.get(image)) || NONE;
  });
  readonly autosave: Autosave;
  /** Sees every change before it is made, and may add to it. */
  stamp: ((label: StringKey, changes: readonly Change[]) => readonly Change[]) | null = null;
  private storedClasses: Classes = { revision: 0, classes: [] };
  private savingClasses = false;

  constructor(
    private readonly backend: Backend,
    private readonly journal: TabJournal,
    private readonly tell: (what: StringKey, blanks?: Record<string, number>) => void,
  ) {
    const newId = () => crypto.randomUUID();
    this.autosave = new Autosave(
      backend,
      journal,
      journal.client,
      (image, result) => this.rebased(image, result),
      newId,
    );
  }

  get client(): string {
    return this.journal.client;
  }

  /** Do something that can be undone. */
  commit(label: StringKey, made: readonly Change[]): void {
    if (made.length === 0) return;
    const changes = this.stamp?.(label, made) ?? made;
    this.history.value = done(this.history.value, { label, changes });
    this.enact(changes);
  }

  undo = (): Changeset | null => this.walk(undo(this.history.value));
  redo = (): Changeset | null => this.walk(redo(this.history.value));

  private walk(step: { history: History; changes: readonly Change[]; of: Changeset } | null): Changeset | null {
    if (!step) return null;
    this.history.value = step.history;
    this.enact(step.changes);
    return step.of;
  }

  private enact(changes: readonly Change[]): void {
    this.document.value = apply(this.document.value, changes);
    const pending = new Map<string, Pending[]>();
    for (const change of changes) {
      if (change.on === "classes") void this.saveClasses();
      if (change.on === "draft") this.keepDraft();
      if (change.on !== "annotation") continue;
      const { image, id, before, after } = change;
      pending.set(image, [...(pending.get(image) ?? []), { id, before, after }]);
    }
    for (const [image, list] of pending) this.autosave.add(image, list);
  }

  /** Show what the server has of an image, with changes that are not yet there. */
  load(image: string, stored: Annotations, recovered: readonly Pending[] = []): void {
    this.show(image, this.autosave.load(image, stored, recovered));
  }

  loadClasses(classes: Classes): void {
    const ours = this.document.value.classes;
    const merged = mergeClasses(this.storedClasses.classes, ours, classes.classes);
    this.storedClasses = classes;
    this.document.value = { ...this.document.value, classes: merged };
  }

  /** Show another picture, or none, with no way back to the one before. */
  turnTo(image: string | null, draft: Draft | null = null): void {
    this.history.value = emptyHistory;
    this.document.value = { ...this.document.value, image, draft };
  }

  private rebased(image: string, result: Rebased): void {
    this.show(image, result);
    if (result.conflicts > 0) this.tell("conflict", { count: result.conflicts });
  }

  private show(image: string, { annotations }: Rebased): void {
    const document = this.document.value;
    // Annotations that did not change keep their identity, and so their decoded masks.
    const before = document.annotations.get(image);
    const shown = new Map<string, Annotation>();
    for (const [id, annotation] of annotations) {
      const old = before?.get(id);
      const same = old && old.rle.counts === annotation.rle.counts;
      shown.set(id, same ? { ...annotation, rle: old.rle } : annotation);
    }
    this.document.value = { ...document, annotations: new Map([...document.annotations, [image, shown]]) };
  }

  private keepDraft(): void {
    const { image, draft } = this.document.value;
    this.journal.keepDraft(image && draft ? { image, draft } : null).catch(() => undefined);
  }

  private async saveClasses(): Promise<void> {
    if (this.savingClasses) return;
    this.savingClasses = true;
    try {
      for (let attempt = 0; attempt < 6; attempt++) {
        const classes: readonly ClassInfo[] = this.document.value.classes;
        if (JSON.stringify(classes) === JSON.stringify(this.storedClasses.classes)) return;
        await this.tryClasses(classes, attempt);
      }
    } finally {
      this.savingClasses = false;
    }
  }

  private async tryClasses(classes: readonly ClassInfo[], attempt: number): Promise<void> {
    try {
      const revision = await this.backend.putClasses(this.storedClasses.revision, this.client, classes);
      this.storedClasses = { revision, classes };
    } catch (error) {
      if (error instanceof Conflict) this.loadClasses(error.present as Classes);
      else await new Promise((resolve) => setTimeout(resolve, 1000 * 2 ** attempt));
    }
  }
}
