/** The viewport: draws the picture and what lies on it when a signal it read has changed, and turns events to effects. */

import { effect, signal } from "@preact/signals";
import { paletteColor, toHex } from "../geometry/colors";
import { type Coverage, logitsCoverage, maskCoverage } from "../geometry/coverage";
import type { ImagePoint, ScreenPoint, Size } from "../geometry/frames";
import { fromMask, type Polygon } from "../geometry/polygons";
import type { Logits } from "../geometry/resize";
import type { RLE } from "../geometry/rle";
import type { App } from "../state/app";
import { candidateOf, type Editor } from "../state/editor";
import { nextPaletteIndex, paletteIndex, shapeOf } from "../state/appearance";
import { awaits } from "../state/provenance";
import { type Effect, type Gesture, idle, type PointerInput, step } from "../tools/gesture";
import { drawPicture } from "./picture";
import { drawBox, drawBrush, drawCross, drawPoint, drawPolygons, OverlayMask, type Scene } from "./overlay";
import { type LayerMask, MaskTiles } from "./tiles";
import { type Extent, fit, panBy, toImage, type View, zoomAt } from "./view";

const FADE_MS = 80;
const WHEEL = 0.0016;
const WHITE = [255, 255, 255] as const;

export class Viewport {
  readonly view = signal<View>({ scale: 1, x: 0, y: 0 });
  readonly extent = signal<Extent>({ width: 1, height: 1 });
  /** Held space makes any tool pan. */
  readonly spaceHeld = signal(false);
  private readonly pointer = signal<ImagePoint | null>(null);
  private readonly hoveredMask = signal<string | null>(null);
  private readonly tiles = new MaskTiles();
  private readonly previewMask = new OverlayMask();
  private readonly strokeMask = new OverlayMask();
  private readonly highlight = new OverlayMask();
  private readonly selectedMasks = new Map<string, OverlayMask>();
  private readonly base: CanvasRenderingContext2D;
  private readonly over: CanvasRenderingContext2D;
  private gesture: Gesture = idle;
  private readonly touches = new Map<number, ScreenPoint>();
  private frame = 0;
  private baseStale = true;
  private fadeFrom = 0;
  private shownFor: string | null = null;
  private covered: { logits: Logits; coverage: Coverage } | null = null;
  private outlined: { rle: RLE; tolerance: number; polygons: Polygon[] } | null = null;

  constructor(
    private readonly base_: HTMLCanvasElement,
    private readonly over_: HTMLCanvasElement,
    private readonly app: App,
    private readonly editor: Editor,
  ) {
    this.base = context(base_);
    this.over = context(over_);
  }

  /** Begin to draw and listen; return what ends it. */
  start(): () => void {
    const stops = [
      effect(() => this.tiles.set(this.layerMasks())),
      effect(() => {
        this.layerMasks();
        void this.app.pictures.picture.value;
        void this.view.value;
        void this.extent.value;
        this.baseStale = true;
        this.invalidate();
      }),
      effect(() => {
        this.readOverlay();
        this.invalidate();
      }),
      effect(() => {
        const picture = this.app.pictures.picture.value;
        const image = this.app.pictures.image.value;
        if (picture && image && this.shownFor !== image.id && picture.size[1] === image.width) {
          this.shownFor = image.id;
          this.fit();
        }
      }),
    ];
    const observer = new ResizeObserver(([entry]) => this.resize(entry!.contentRect));
    observer.observe(this.over_);
    const removers = this.listen();
    return () => {
      for (const stop of [...stops, ...removers]) stop();
      observer.disconnect();
    };
  }

  // View

  fit = (): void => this.withSize((size, extent) => fit(size, extent));
  actualSize = (): void => this.zoom(1 / this.view.peek().scale);
  /** Zoom by a factor around the middle. */
  zoom(factor: number): void {
    const { width, height } = this.extent.peek();
    this.zoomAt({ x: width / 2, y: height / 2 }, factor);
  }
  private zoomAt(at: ScreenPoint, factor: number): void {
    this.withSize((size, extent) => zoomAt(this.view.peek(), at, factor, size, extent));
  }
  private pan(dx: number, dy: number): void {
    this.withSize((size, extent) => panBy(this.view.peek(), dx, dy, size, extent));
  }
  private withSize(change: (size: Size, extent: Extent) => View): void {
    const size = this.app.pictures.size.peek();
    if (size) this.view.value = change(size, this.extent.peek());
  }

  private resize({ width, height }: Extent): void {
    const before = this.extent.peek();
    const ratio = this.ratio();
    for (const canvas of [this.base_, this.over_]) {
      canvas.width = Math.max(1, Math.round(width * ratio));
      canvas.height = Math.max(1, Math.round(height * ratio));
    }
    this.extent.value = { width, height };
    const size = this.app.pictures.size.peek();
    if (size) {
      const fitted = fit(size, before);
      const wasFit = Math.abs(fitted.scale - this.view.peek().scale) < 1e-6;
      if (wasFit || before.width <= 1) this.fit();
      else this.pan((width - before.width) / 2, (height - before.height) / 2);
    }
    this.baseStale = true;
    this.draw();
  }

  private ratio = (): number => Math.min(globalThis.devicePixelRatio || 1, 3);

  // Drawing

  private layerMasks(): LayerMask[] {
    if (!this.app.settings.showMasks.value) return [];
    const opacity = this.app.settings.opacity.value;
    const stroked = this.editor.stroke.value?.target?.id;
    // The one that is being judged stands out.
    const { selected } = this.app.masks;
    const judged = selected.value?.verdict ? selected.value.id : null;
    const masks: (LayerMask & { extent: number })[] = [];
    for (const annotation of this.app.store.annotations.value.values()) {
      if (!annotation.visible || annotation.id === stroked || annotation.verdict?.is === "reject") continue;
      const { mask, coverage } = shapeOf(annotation.rle);
      const color = this.app.masks.color(annotation);
      let ink: LayerMask["ink"] = { color, opacity };
      if (judged !== null && annotation.id !== judged) ink = { color, opacity: opacity / 5 };
      else if (awaits(annotation)) ink = { color, opacity: opacity / 3, edge: WHITE };
      masks.push({ id: annotation.id, coverage, ink, extent: mask.width * mask.height });
    }
    for (const { id, rle } of this.app.proposals.shown.value ?? []) {
      const { mask, coverage } = shapeOf(rle);
      masks.push({
        id,
        coverage,
        ink: { color: paletteColor(paletteIndex(id)), opacity: opacity * 0.75 },
        extent: mask.width * mask.height,
      });
    }
    // Parts lie on top of wholes.
    return masks.sort((a, b) => b.extent - a.extent);
  }

  /** Read every signal that the overlay shows, so that its effect hears of them. */
  private readOverlay(): void {
    const { app, editor } = this;
    for (const read of [
      editor.preview,
      editor.dragged,
      editor.stroke,
      editor.strokeTick,
      editor.cursor,
      app.model.state,
      app.masks.selection,
      app.settings.tool,
      app.store.document,
      app.settings.brush,
      app.settings.tolerance,
      app.settings.opacity,
      app.settings.colorBy,
      app.settings.showMasks,
      app.proposals.shown,
      this.pointer,
      this.hoveredMask,
    ])
      void read.value;
  }

  private invalidate(): void {
    if (this.frame === 0) this.frame = requestAnimationFrame(() => this.draw());
  }

  private draw(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const scene = { view: this.view.peek(), viewport: this.extent.peek(), ratio: this.ratio() };
    if (this.baseStale) {
      this.baseStale = this.drawBase({ ...scene, context: this.base });
      if (this.baseStale) this.invalidate();
    }
    this.drawOverlay({ ...scene, context: this.over });
  }

  private drawBase(scene: Scene): boolean {
    const { context, view, viewport, ratio } = scene;
    clear(scene);
    const picture = this.app.pictures.picture.peek();
    if (!picture || !this.app.pictures.image.peek()) return false;
    drawPicture(picture, context, view, viewport, ratio);
    context.imageSmoothingEnabled = true;
    return this.tiles.draw(context, view, viewport, ratio);
  }

  private drawOverlay(scene: Scene): void {
    clear(scene);
    if (!this.app.pictures.picture.peek() || !this.app.pictures.image.peek()) return;
    this.drawSelected(scene);
    this.drawActive(scene);
    const { draft } = this.app.store.document.peek();
    if (draft?.box) drawBox(scene, draft.box);
    for (const point of draft?.points ?? []) drawPoint(scene, point);
    const dragged = this.editor.dragged.peek();
    if (dragged) drawBox(scene, dragged);
    const tool = this.app.settings.tool.peek();
    const pointer = this.pointer.peek();
    if (pointer && (tool === "brush" || tool === "eraser")) drawBrush(scene, pointer, this.app.settings.brush.peek());
    const cursor = this.editor.cursor.peek();
    if (cursor) drawCross(scene, cursor);
  }

  /** The mask being made: the stroke, the draft or the preview. */
  private drawActive(scene: Scene): void {
    const stroked = this.editor.stroke.peek();
    const opacity = Math.max(this.app.settings.opacity.peek(), 0.3);
    if (stroked) {
      const color = stroked.target ? this.app.masks.color(stroked.target) : this.activeColor();
      this.strokeMask.draw(scene, maskCoverage(stroked.stroke.mask), { color, opacity });
      return;
    }
    const shown = this.editor.shown.peek();
    // A draft kept from before may be there sooner than the model, which knows its frame.
    if (!shown || this.app.model.state.peek().is !== "ready") {
      this.fadeFrom = 0;
      return;
    }
    this.fadeFrom ||= performance.now();
    const isDraft = this.app.store.document.peek().draft !== null;
    const alpha = isDraft ? 1 : Math.min(1, (performance.now() - this.fadeFrom + 8) / FADE_MS);
    const ink = { color: this.activeColor(), opacity: Math.min(opacity + 0.05, 1) };
    this.previewMask.draw(scene, this.coverageOf(candidateOf(shown).logits), ink, alpha);
    if (alpha < 1) this.invalidate();
  }

  private coverageOf(logits: Logits): Coverage {
    if (this.covered?.logits !== logits) {
      const { imageSize, fit } = this.app.model.session;
      const coverage = logitsCoverage(logits, this.app.pictures.size.peek() ?? [1, 1], imageSize, fit);
      this.covered = { logits, coverage };
    }
    return this.covered.coverage;
  }

  private activeColor = () =>
    this.app.settings.colorBy.peek() === "instance" ? paletteColor(nextPaletteIndex()) : this.app.masks.nextColor();

  private drawSelected(scene: Scene): void {
    const stroked = this.editor.stroke.peek()?.target?.id;
    const hovered = this.hoveredMask.peek();
    const proposal = this.app.proposals.shown.peek()?.find(({ id }) => id === hovered);
    if (proposal) {
      const ink = { color: paletteColor(paletteIndex(proposal.id)), opacity: 0.7, edge: WHITE };
      this.highlight.draw(scene, shapeOf(proposal.rle).coverage, ink);
    }
    const annotations = this.app.store.annotations.peek();
    for (const id of this.selectedMasks.keys())
      if (!this.app.masks.selection.peek().has(id)) this.selectedMasks.delete(id);
    for (const id of this.app.masks.selection.peek()) {
      const annotation = annotations.get(id);
      if (!annotation || id === stroked || !this.app.settings.showMasks.peek()) continue;
      const painter = this.selectedMasks.get(id) ?? new OverlayMask();
      this.selectedMasks.set(id, painter);
      const color = this.app.masks.color(annotation);
      if (this.app.settings.tool.peek() !== "polygon")
        painter.draw(scene, shapeOf(annotation.rle).coverage, { color, opacity: 0.3, edge: WHITE });
      else drawPolygons(scene, this.polygonsOf(annotation.rle), toHex(color));
    }
  }

  /** The outline of the selected mask at the tolerance of choice. */
  polygonsOf(rle: RLE): readonly Polygon[] {
    const tolerance = this.app.settings.tolerance.peek();
    if (this.outlined?.rle !== rle || this.outlined.tolerance !== tolerance) {
      this.outlined = { rle, tolerance, polygons: fromMask(shapeOf(rle).mask, tolerance) };
    }
    return this.outlined.polygons;
  }

  // Events

  private listen(): (() => void)[] {
    const canvas = this.over_;
    const on = <K extends keyof HTMLElementEventMap>(name: K, handle: (event: HTMLElementEventMap[K]) => void) => {
      canvas.addEventListener(name, handle, { passive: false });
      return () => canvas.removeEventListener(name, handle);
    };
    return [
      on("pointerdown", (event) => {
        canvas.setPointerCapture(event.pointerId);
        canvas.focus({ preventScroll: true });
        this.editor.cursor.value = null;
        if (event.pointerType === "touch") this.touches.set(event.pointerId, this.at(event));
        if (this.touches.size < 2) this.take("down", event);
        else if (this.gesture.is !== "none") this.take("cancel", event);
      }),
      on("pointermove", (event) => {
        if (this.touches.size >= 2) return this.pinch(event);
        // Every place that the pointer went through, so that fast strokes stay round.
        const coalesced = this.gesture.is === "stroke" ? (event.getCoalescedEvents?.() ?? []) : [];
        for (const part of coalesced.length > 0 ? coalesced : [event]) this.take("move", part);
      }),
      on("pointerup", (event) => this.lift("up", event)),
      on("pointercancel", (event) => this.lift("cancel", event)),
      on("pointerleave", (event) => this.take("leave", event)),
      on("contextmenu", (event) => event.preventDefault()),
      on("wheel", (event) => {
        event.preventDefault();
        const tool = this.app.settings.tool.peek();
        const amount = (event.deltaY || event.deltaX) * (event.deltaMode === 1 ? 16 : 1);
        if (event.shiftKey && (tool === "brush" || tool === "eraser")) this.sizeBrush(Math.exp(-amount * WHEEL));
        else this.zoomAt(this.at(event), Math.exp(-amount * WHEEL * (event.ctrlKey ? 4 : 1)));
      }),
    ];
  }

  sizeBrush(factor: number): void {
    const before = this.app.settings.brush.peek();
    const after = factor > 1 ? Math.max(before * factor, before + 1) : Math.min(before * factor, before - 1);
    this.app.settings.brush.value = Math.round(Math.min(Math.max(after, 1), 1000));
  }

  private lift(is: "up" | "cancel", event: PointerEvent): void {
    const pinched = this.touches.size >= 2;
    this.touches.delete(event.pointerId);
    if (!pinched) this.take(is, event);
  }

  private pinch(event: PointerEvent): void {
    if (!this.touches.has(event.pointerId)) return;
    const before = [...this.touches.values()] as [ScreenPoint, ScreenPoint];
    this.touches.set(event.pointerId, this.at(event));
    const after = [...this.touches.values()] as [ScreenPoint, ScreenPoint];
    const middle = ([a, b]: [ScreenPoint, ScreenPoint]) => ({ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });
    const apart = ([a, b]: [ScreenPoint, ScreenPoint]) => Math.max(Math.hypot(a.x - b.x, a.y - b.y), 1);
    this.pan(middle(after).x - middle(before).x, middle(after).y - middle(before).y);
    this.zoomAt(middle(after), apart(after) / apart(before));
  }

  private at(event: MouseEvent): ScreenPoint {
    const { left, top } = this.over_.getBoundingClientRect();
    return { x: event.clientX - left, y: event.clientY - top };
  }

  private take(is: PointerInput["is"], event: PointerEvent): void {
    const screen = this.at(event);
    const image = toImage(this.view.peek(), screen);
    const touch = event.pointerType === "touch";
    this.pointer.value = is === "leave" || (touch && is !== "down" && is !== "move") ? null : image;
    const inverted = touch && this.app.settings.tapLabel.peek() === 0;
    const input = {
      is,
      screen,
      image,
      button: event.button,
      alt: event.altKey || inverted,
      shift: event.shiftKey,
      touch,
    };
    const next = step(this.spaceHeld.peek() ? "pan" : this.app.settings.tool.peek(), this.gesture, input);
    this.gesture = next.gesture;
    for (const item of next.effects) this.perform(item);
  }

  private perform(item: Effect): void {
    const { app, editor } = this;
    if (item.is === "hover" && app.settings.tool.peek() === "segment") editor.hover(item.at);
    else if (item.is === "hover") this.hoveredMask.value = app.proposals.at(item.at)?.id ?? null;
    else if (item.is === "unhover") {
      editor.unhover();
      this.hoveredMask.value = null;
    } else if (item.is === "click") editor.click(item.at, item.label);
    else if (item.is === "dragBox") editor.dragBox(item.from, item.to);
    else if (item.is === "box") editor.box(item.from, item.to);
    else if (item.is === "pick") this.pick(item.at, item.adds);
    else if (item.is === "beginStroke")
      editor.beginStroke(item.at, (app.settings.tool.peek() === "eraser") !== item.inverse);
    else if (item.is === "stroke") editor.strokeTo(item.at);
    else if (item.is === "endStroke") editor.endStroke();
    else if (item.is === "dropStroke") editor.dropStroke();
    else this.pan(item.dx, item.dy);
  }

  private pick(at: ImagePoint, adds: boolean): void {
    const proposal = this.app.proposals.at(at);
    if (proposal) this.app.proposals.accept([proposal]);
    else this.app.masks.select(this.app.masks.at(at), adds);
    this.hoveredMask.value = null;
  }
}

function context(canvas: HTMLCanvasElement): CanvasRenderingContext2D {
  const found = canvas.getContext("2d");
  if (!found) throw new Error("This browser cannot draw on a canvas.");
  return found;
}

function clear({ context, viewport, ratio }: Scene): void {
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, viewport.width, viewport.height);
}
