/** Making a mask on the picture: previews, clicks and boxes, the walk through candidates, strokes. */

import { computed, signal } from "@preact/signals";
import type { Annotation, Source } from "../api/types";
import { beginStroke, drawTo, endStroke, type Stroke } from "../geometry/brush";
import { type Box, boxBetween, type ImagePoint, isInside, type Size } from "../geometry/frames";
import type { Mask } from "../geometry/mask";
import { fromMask, toMask } from "../geometry/polygons";
import { fullMask } from "../geometry/resize";
import { encode, type RLE } from "../geometry/rle";
import { newId } from "../ids";
import type { PromptPoint } from "../model/prompt";
import type { Candidate, Candidates } from "../model/session";
import type { App } from "./app";
import { type AnnotationChange, type Change, type Draft, promptsOf } from "./document";
import { shapeOf } from "./appearance";

/** The mask under the pointer before any click. */
export interface Preview {
  readonly at: ImagePoint;
  readonly answer: Candidates;
  readonly chosen: number;
}

export class Editor {
  readonly preview = signal<Preview | null>(null);
  /** The box being dragged. */
  readonly dragged = signal<Box | null>(null);
  readonly stroke = signal<{ readonly stroke: Stroke; readonly target: Annotation | null } | null>(null);
  /** Increases with every change of the stroke's pixels. */
  readonly strokeTick = signal(0);
  /** The cursor that keys move. */
  readonly cursor = signal<ImagePoint | null>(null);
  readonly boxCorner = signal<ImagePoint | null>(null);
  readonly decodeMs = signal<number | null>(null);
  /** The draft, or else the preview, whose candidates can be walked through. */
  readonly shown = computed(() => this.app.store.document.value.draft ?? this.preview.value);

  /** The rank that was walked to, 0 (whole) to 2 (subpart); null takes the one with the best score. */
  private level: number | null = null;
  private line: Promise<unknown> = Promise.resolve();
  private hovered: ImagePoint | null = null;

  constructor(private readonly app: App) {}

  private get draft(): Draft | null {
    return this.app.store.document.peek().draft;
  }

  private target(): { id: string; original: Size } | null {
    const [id, original] = [this.app.pictures.promptable.peek(), this.app.pictures.size.peek()];
    return id !== null && original && id === this.app.store.document.peek().image ? { id, original } : null;
  }

  hover(at: ImagePoint): void {
    const target = this.target();
    this.hovered = at;
    if (!target || this.draft || this.app.proposals.shown.peek() || !isInside(at, target.original)) {
      this.unhover();
      return;
    }
    const prompt = { points: [{ ...at, label: 1 as const }], box: null, mask: null };
    this.app.model.session.hover({ ...target, prompt }).then(
      (answer) => {
        if (!answer || this.hovered === null || this.draft) return;
        this.decodeMs.value = answer.milliseconds;
        this.preview.value = { at, answer, chosen: this.preferred(answer) };
      },
      (error: Error) => this.app.notices.error(error.message),
    );
  }

  unhover(): void {
    this.hovered = null;
    this.app.model.session.dropHover();
    this.preview.value = null;
  }

  private preferred(answer: Candidates): number {
    return this.level === null || answer.ranked.length === 1
      ? answer.best
      : Math.min(this.level, answer.ranked.length - 1);
  }

  click(at: ImagePoint, label: 0 | 1): void {
    const size = this.app.pictures.size.peek();
    if (!size || !isInside(at, size)) return;
    this.ask((draft) => (draft || label === 1 ? { points: [...(draft?.points ?? []), { ...at, label }] } : null));
  }

  box(from: ImagePoint, to: ImagePoint): void {
    this.dragged.value = null;
    const size = this.app.pictures.size.peek();
    if (!size) return;
    const box = boxBetween(from, to, size);
    if (box[2] - box[0] >= 1 && box[3] - box[1] >= 1) this.ask(() => ({ box }));
  }

  dragBox(from: ImagePoint, to: ImagePoint): void {
    const size = this.app.pictures.size.peek();
    this.dragged.value = size && boxBetween(from, to, size);
  }

  /** Ask about what was asked so far and something new, after all that is still being answered. */
  private ask(add: (draft: Draft | null) => { points?: readonly PromptPoint[]; box?: Box } | null): void {
    const target = this.target();
    if (!target) {
      if (this.app.store.document.peek().image !== null) this.app.notices.info(this.app.t("encoding"));
      return;
    }
    const judged = this.app.masks.selected.peek()?.verdict ? this.app.masks.selected.peek()!.id : null;
    this.app.masks.selection.value = new Set();
    this.inTurn(async () => {
      const before = this.draft;
      const added = add(before);
      if (!added || this.app.store.document.peek().image !== target.id) return;
      const points = added.points ?? before?.points ?? [];
      const box = added.box ?? before?.box ?? null;
      const mask = before ? candidateOf(before).logits : null;
      const answer = await this.app.model.session.ask({ ...target, prompt: { points, box, mask } });
      if (this.app.store.document.peek().image !== target.id) return;
      const boxAfter = added.box ? points.length : (before?.boxAfter ?? 0);
      const replaces = before ? (before.replaces ?? null) : judged;
      const after = {
        id: before?.id ?? newId(),
        points,
        box,
        boxAfter,
        answer,
        chosen: this.preferred(answer),
        replaces,
      };
      this.decodeMs.value = answer.milliseconds;
      this.preview.value = null;
      this.app.store.commit("segment", [{ on: "draft", before, after }]);
    });
  }

  private inTurn(action: () => Promise<void>): void {
    this.line = this.line.then(action).catch((error: Error) => this.app.notices.error(error.message));
  }

  /** Walk through whole, part and subpart: by -1 larger, by 1 smaller; round and round if it wraps. */
  walk(by: number, wraps: boolean): boolean {
    const shown = this.shown.peek();
    const count = shown?.answer.ranked.length ?? 1;
    if (!shown || count < 2) return false;
    const next = wraps ? (shown.chosen + by + count) % count : Math.min(Math.max(shown.chosen + by, 0), count - 1);
    this.choose(next);
    return true;
  }

  choose(chosen: number): void {
    const { draft } = this;
    const preview = this.preview.peek();
    this.level = chosen;
    if (draft && draft.chosen !== chosen) {
      this.app.store.commit("walk", [{ on: "draft", before: draft, after: { ...draft, chosen } }]);
    } else if (!draft && preview) this.preview.value = { ...preview, chosen };
  }

  keep(): void {
    this.inTurn(async () => {
      const { image, draft } = this.app.store.document.peek();
      const original = this.app.pictures.size.peek();
      if (!draft || image === null || !original) return;
      const { logits, score } = candidateOf(draft);
      const { mask, rle } = await this.app.model.session.finish(logits, original);
      if (this.draft !== draft) return;
      this.level = null;
      if (mask.bits.length === 0) return this.drop();
      shapeOf(rle, mask);
      const replaced = this.replaced(draft);
      const fresh = this.fresh(rle, draft.box ? "box" : "click", score, draft);
      this.app.store.commit("keep", [
        { on: "draft", before: draft, after: null },
        { on: "annotation", image, ...(replaced ? instead(replaced, fresh.after) : fresh) },
      ]);
      if (!replaced) return;
      this.app.masks.select(replaced.id);
      this.app.settings.tool.value = "select";
    });
  }

  drop(): void {
    this.level = null;
    const { draft } = this;
    if (!draft) return;
    this.app.store.commit("cancel", [{ on: "draft", before: draft, after: null }]);
    const replaced = this.replaced(draft);
    if (replaced) this.app.masks.select(replaced.id);
  }

  /** The mask whose place a draft takes. */
  private replaced(draft: Draft | null): Annotation | null {
    return this.app.store.annotations.peek().get(draft?.replaces ?? "") ?? null;
  }

  private fresh(rle: RLE, source: Source, score: number | null, draft: Draft | null) {
    const id = draft?.id ?? newId();
    const prompts = draft && promptsOf(draft);
    const class_id = this.app.classes.chosen.peek();
    const after = { id, rle, class_id, name: null, visible: true, score, source, prompts, parent: null };
    return { id, before: null, after } satisfies Omit<AnnotationChange, "on" | "image">;
  }

  // Strokes

  /** Begin on the draft, the selected mask, or nothing. */
  beginStroke(at: ImagePoint, erases: boolean): void {
    const size = this.app.pictures.size.peek();
    if (!size) return;
    const { draft } = this;
    const target = draft ? null : this.app.masks.selected.peek();
    const { imageSize, fit } = this.app.model.session;
    const existing = draft ? fullMask(candidateOf(draft).logits, size, imageSize, fit) : null;
    const mask = existing ?? (target ? shapeOf(target.rle).mask : null);
    if (mask === null && erases) return;
    const stroke = beginStroke(mask, size, !erases, this.app.settings.brush.peek() / 2);
    drawTo(stroke, at);
    this.stroke.value = { stroke, target };
  }

  strokeTo(at: ImagePoint): void {
    const current = this.stroke.peek();
    if (!current) return;
    drawTo(current.stroke, at);
    this.strokeTick.value += 1;
  }

  endStroke(): void {
    const current = this.stroke.peek();
    const { image, draft } = this.app.store.document.peek();
    this.stroke.value = null;
    if (!current || image === null) return;
    const mask = endStroke(current.stroke);
    const changes: Change[] = draft ? [{ on: "draft", before: draft, after: null }] : [];
    const change = this.stroked(mask, current.target, draft);
    if (change) changes.push({ on: "annotation", image, ...change });
    this.app.store.commit(current.stroke.adds ? "draw" : "erase", changes);
    this.app.masks.select(change?.after ? change.id : null);
  }

  dropStroke = (): void => {
    this.stroke.value = null;
  };

  private stroked(mask: Mask, target: Annotation | null, draft: Draft | null) {
    if (mask.bits.length === 0) return target && { id: target.id, before: target, after: null };
    const rle = encode(mask);
    shapeOf(rle, mask);
    if (target) return { id: target.id, before: target, after: { ...target, rle, score: null } };
    const replaced = this.replaced(draft);
    const fresh = this.fresh(rle, "brush", null, draft);
    return replaced ? instead(replaced, fresh.after) : fresh;
  }

  /** Replace the selected mask by its simplified outline. */
  applyPolygon(): void {
    const target = this.app.masks.selected.peek();
    if (!target) return;
    const mask = toMask(
      fromMask(shapeOf(target.rle).mask, this.app.settings.tolerance.peek()),
      shapeOf(target.rle).mask.size,
    );
    const rle = encode(mask);
    shapeOf(rle, mask);
    this.app.masks.change(target.id, { rle, score: null });
  }

  // Without a pointer

  moveCursor(dx: number, dy: number): void {
    const size = this.app.pictures.size.peek();
    if (!size) return;
    const { x, y } = this.cursor.peek() ?? { x: size[1] / 2, y: size[0] / 2 };
    const at = { x: Math.min(Math.max(x + dx, 0), size[1] - 1), y: Math.min(Math.max(y + dy, 0), size[0] - 1) };
    this.cursor.value = at;
    if (this.boxCorner.peek()) this.dragBox(this.boxCorner.peek()!, at);
    else this.hover(at);
  }

  clickCursor(label: 0 | 1): void {
    const at = this.cursor.peek();
    if (at) this.click(at, label);
  }

  cornerAtCursor(): void {
    const [at, corner] = [this.cursor.peek(), this.boxCorner.peek()];
    if (!at) return;
    this.boxCorner.value = corner ? null : at;
    if (corner) this.box(corner, at);
  }
}

/** Replace a mask by another; name and class stay. */
function instead(before: Annotation, { rle, score, source, prompts }: Annotation) {
  return { id: before.id, before, after: { ...before, rle, score, source, prompts } };
}

export const candidateOf = ({ answer, chosen }: Pick<Draft, "answer" | "chosen">): Candidate => answer.ranked[chosen]!;
