/** The masks of the open picture: which are selected, how they are coloured, and changes to them. */

import { computed, effect, type ReadonlySignal, signal } from "@preact/signals";
import type { Annotation } from "../api/types";
import { paletteColor, type RGB } from "../geometry/colors";
import type { ImagePoint, Size } from "../geometry/frames";
import { covers, moved, resized } from "../geometry/mask";
import { encode } from "../geometry/rle";
import { newId } from "../ids";
import { colorOf, nextPaletteIndex, shapeOf } from "./appearance";
import type { ClassEditor } from "./class_editor";
import type { AnnotationChange, Changeset } from "./document";
import type { Settings } from "./settings";
import type { Store } from "./store";
import type { Work } from "./work";

/** A mask that is pasted on its own picture is moved by this part of its long side. */
const ASIDE = 40;
/** What a pasted mask has of its own: nobody predicted how good it is here. */
const FRESH = { visible: true, score: null, prompts: null, parent: null } as const;

export class Masks {
  private readonly copied = signal<{ readonly image: string; readonly masks: readonly Annotation[] } | null>(null);
  readonly hasCopies = computed(() => this.copied.value !== null);

  readonly selection = signal<ReadonlySet<string>>(new Set());
  /** The one selected mask. */
  readonly selected = computed(() => {
    const [id, ...more] = this.selection.value;
    return id !== undefined && more.length === 0 ? (this.store.annotations.value.get(id) ?? null) : null;
  });
  /** The mask that is being renamed. */
  readonly renaming = signal<string | null>(null);

  constructor(
    private readonly store: Store,
    private readonly classes: ClassEditor,
    private readonly settings: Settings,
    /** Of the open picture. */
    private readonly size: ReadonlySignal<Size | null>,
    /** The person at work, where pictures come from a queue. */
    private readonly work: ReadonlySignal<Work | null>,
  ) {
    const image = computed(() => store.document.value.image);
    effect(() => {
      void image.value;
      this.selection.value = new Set();
    });
  }

  color = (annotation: Pick<Annotation, "id" | "class_id">): RGB =>
    colorOf(annotation, this.store.document.value.classes, this.settings.colorBy.value);

  /** The colour that the next mask will have. */
  nextColor(): RGB {
    if (this.settings.colorBy.value === "instance") return paletteColor(nextPaletteIndex());
    return this.color({ id: "", class_id: this.classes.chosen.value });
  }

  /** Masks in the order of the list: the latest first, or those first that are to be judged first. */
  listed(): Annotation[] {
    const work = this.work.value;
    return work?.judges.value ? work.inOrder() : [...this.store.annotations.value.values()].reverse();
  }

  // Selection

  /** Select one mask, or none; or add it to those that are selected, or take it from them. */
  select(id: string | null, adds = false): void {
    if (id === null) this.selection.value = adds ? this.selection.peek() : new Set();
    else if (!adds) this.selection.value = new Set([id]);
    else {
      const next = new Set(this.selection.peek());
      if (!next.delete(id)) next.add(id);
      this.selection.value = next;
    }
  }

  selectAll(): void {
    this.selection.value = new Set(this.store.annotations.peek().keys());
  }

  /** Select the mask after the selected one by 1, before it by -1, in the order of the list; false if there is none. */
  step(by: 1 | -1): boolean {
    const all = this.listed();
    if (all.length === 0) return false;
    const [chosen] = this.selection.peek();
    const place = all.findIndex(({ id }) => id === chosen);
    const next = place < 0 ? (by > 0 ? 0 : -1) : (place + by) % all.length;
    this.select(all.at(next)!.id);
    this.settings.tool.value = "select";
    return true;
  }

  /** The smallest visible mask under a point. */
  at(point: ImagePoint): string | null {
    let [best, least] = [null as string | null, Number.POSITIVE_INFINITY];
    for (const { id, rle, visible, verdict } of this.store.annotations.peek().values()) {
      const { mask } = shapeOf(rle);
      const extent = mask.width * mask.height;
      if (visible && verdict?.is !== "reject" && extent < least && covers(mask, point)) [best, least] = [id, extent];
    }
    return best;
  }

  /** After an undo or a redo select the masks whose verdicts it changed; else let go of those that are gone. */
  selectChanged({ changes }: Changeset): void {
    const here = this.store.annotations.peek();
    const judged = changes.flatMap((change) => (change.on === "annotation" && change.after?.verdict ? change.id : []));
    const chosen = judged.length > 0 ? judged : [...this.selection.peek()];
    this.selection.value = new Set(chosen.filter((id) => here.has(id)));
  }

  // Between pictures

  /** Keep copies of the selected masks for `paste`; return how many. */
  copy(): number {
    const chosen = [...this.selection.peek()].flatMap((id) => this.store.annotations.peek().get(id) ?? []);
    const { image } = this.store.document.peek();
    if (chosen.length > 0 && image !== null) this.copied.value = { image, masks: chosen };
    return chosen.length;
  }

  /**
   * Put the copied masks on the open picture, as large a share of it as they were of their own; on their own, a little
   * aside. False where there is nothing to paste.
   */
  paste(): boolean {
    const copied = this.copied.peek();
    const { image } = this.store.document.peek();
    const to = this.size.peek();
    if (!copied || image === null || !to) return false;
    const aside = image === copied.image ? Math.ceil(Math.max(...to) / ASIDE) : 0;
    const changes = copied.masks.flatMap((mask): AnnotationChange[] => {
      const placed = moved(resized(shapeOf(mask.rle).mask, to), aside, aside);
      if (placed.bits.length === 0) return [];
      const id = newId();
      const { class_id, name, source } = mask;
      const after = { id, rle: encode(placed), class_id, name, source };
      return [{ on: "annotation", image, id, before: null, after: { ...after, ...FRESH } }];
    });
    this.store.commit("paste", changes);
    this.selection.value = new Set(changes.map(({ id }) => id));
    this.settings.tool.value = "select";
    return changes.length > 0;
  }

  // Changes

  change(id: string, after: Partial<Annotation>): void {
    this.changeAll([id], after);
  }

  private changeAll(ids: Iterable<string>, after: Partial<Annotation>): void {
    const { image } = this.store.document.peek();
    const changes: AnnotationChange[] = [];
    for (const id of ids) {
      const before = this.store.annotations.peek().get(id);
      if (before && image !== null)
        changes.push({ on: "annotation", image, id, before, after: { ...before, ...after } });
    }
    this.store.commit("change", changes);
  }

  /** Give the selected masks a class, and new ones too from now on. */
  setClass(id: number | null): void {
    if (this.selection.peek().size > 0) this.changeAll(this.selection.peek(), { class_id: id });
    this.classes.chosen.value = id;
  }

  toggleVisible(ids: Iterable<string>): void {
    const all = [...ids];
    const visible = all.some((id) => this.store.annotations.peek().get(id)?.visible);
    this.changeAll(all, { visible: !visible });
  }

  /** Delete the selected masks; those that are being judged are rejected. */
  removeSelected(): void {
    const all = [...this.selection.peek()];
    const judged = all.filter((id) => this.store.annotations.peek().get(id)?.verdict);
    const rest = all.filter((id) => !judged.includes(id));
    if (rest.length > 0) this.remove(rest);
    this.work.peek()?.reject(...judged);
  }

  private remove(ids: readonly string[]): void {
    const { image } = this.store.document.peek();
    if (image === null) return;
    const changes = ids.flatMap((id): AnnotationChange[] => {
      const before = this.store.annotations.peek().get(id);
      return before ? [{ on: "annotation", image, id, before, after: null }] : [];
    });
    this.store.commit("remove", changes);
    this.selection.value = new Set();
  }
}
