/** The document with its history, saved as it changes. */

import { computed, signal } from "@preact/signals";
import type { Backend } from "../api/backend";
import type { Annotation, Annotations } from "../api/types";
import { newId } from "../ids";
import type { StringKey } from "../i18n/language";
import { Autosave } from "./autosave";
import { ClassList } from "./class_list";
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
  isUsed,
  redo,
  undo,
} from "./document";
import type { TabJournal } from "./journal";
import type { Pending, Rebased } from "./rebase";
import { worse } from "./save_state";

const NONE: ReadonlyMap<string, Annotation> = new Map();

export class Store {
  readonly document = signal<Document>(emptyDocument);
  readonly history = signal<History>(emptyHistory);
  readonly annotations = computed(() => {
    const { image, annotations } = this.document.value;
    return (image !== null && annotations.get(image)) || NONE;
  });
  readonly autosave: Autosave;
  readonly classes: ClassList;
  /** The worse of the states of masks and of classes. */
  readonly saving = computed(() => worse(this.autosave.state.value, this.classes.state.value));
  /** Called with every change before it is made; returns the change to make. */
  stamp: ((label: StringKey, changes: readonly Change[]) => readonly Change[]) | null = null;

  constructor(
    backend: Backend,
    private readonly journal: TabJournal,
    private readonly tell: (what: StringKey, blanks?: Record<string, number>) => void,
  ) {
    this.autosave = new Autosave(
      backend,
      journal,
      journal.client,
      (image, result) => this.rebased(image, result),
      newId,
    );
    this.classes = new ClassList(
      backend,
      journal,
      journal.client,
      () => this.document.peek().classes,
      (classes) => (this.document.value = { ...this.document.peek(), classes }),
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
      if (change.on === "classes") this.classes.save();
      if (change.on !== "annotation") continue;
      const { image, id, before, after } = change;
      pending.set(image, [...(pending.get(image) ?? []), { id, before, after }]);
    }
    for (const [image, list] of pending) this.autosave.add(image, list);
    if (changes.some(({ on }) => on === "draft")) this.keepDraft();
  }

  /** Drop a draft from before a reload whose mask is there. */
  dropUsedDraft(image: string): void {
    const { document } = this;
    const { draft, image: open, annotations } = document.peek();
    if (!draft || open !== image || !isUsed(draft, annotations.get(image) ?? NONE)) return;
    document.value = { ...document.peek(), draft: null };
    this.keepDraft();
  }

  /** Show what the server has of an image, with changes that are not yet there. */
  load(image: string, stored: Annotations, recovered: readonly Pending[] = []): void {
    this.show(image, this.autosave.load(image, stored, recovered));
  }

  /** Try to save again now, as when the connection is back. */
  retry(): void {
    this.autosave.retry();
    this.classes.save();
  }

  /** Send nothing any more: what is not saved stays in the journal. */
  hold(): void {
    this.autosave.hold();
    this.classes.hold();
  }

  /** Show another picture, or none; the history begins anew. */
  switchTo(image: string | null, draft: Draft | null = null): void {
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
}
