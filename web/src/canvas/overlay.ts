/** What lies over picture and kept masks and changes with the pointer: drawn anew each frame, at the screen's pixels. */

import type { Coverage, Raster } from "../geometry/coverage";
import type { Box, ImagePoint } from "../geometry/frames";
import type { Polygon } from "../geometry/polygons";
import type { PromptPoint } from "../model/prompt";
import { type Ink, paint } from "./paint";
import { type Extent, toScreen, type View } from "./view";

const MOST_PIXELS = 2_500_000;
const HANDLE = 7;

export interface Scene {
  readonly context: CanvasRenderingContext2D;
  readonly view: View;
  readonly viewport: Extent;
  /** Device pixels of one CSS pixel. */
  readonly ratio: number;
}

/** One mask painted for one view, kept until either changes. */
export class OverlayMask {
  private canvas: HTMLCanvasElement | null = null;
  private painted: { coverage: Coverage; view: View; raster: Raster; look: string } | null = null;

  draw(scene: Scene, coverage: Coverage, ink: Omit<Ink, "outline">, alpha = 1): void {
    const look = `${ink.color} ${ink.edge} ${ink.opacity} ${scene.viewport.width} ${scene.viewport.height}`;
    const old = this.painted;
    if (old?.coverage !== coverage || old.view !== scene.view || old.look !== look) {
      const raster = this.paint(scene, coverage, ink);
      this.painted = raster && { coverage, view: scene.view, raster, look };
    }
    if (!this.painted || !this.canvas) return;
    const { context, view } = scene;
    const { x, y, width, height, step } = this.painted.raster;
    const at = toScreen(view, { x, y });
    const [w, h] = [width * step * view.scale, height * step * view.scale];
    context.globalAlpha = alpha;
    context.drawImage(this.canvas, 0, 0, width, height, at.x, at.y, w, h);
    context.globalAlpha = 1;
  }

  private paint({ view, viewport, ratio }: Scene, coverage: Coverage, ink: Omit<Ink, "outline">): Raster | null {
    const [x0, y0, x1, y1] = coverage.reach;
    const from = toScreen(view, { x: x0, y: y0 });
    const to = toScreen(view, { x: x1, y: y1 });
    const left = Math.floor(Math.max(from.x - 4, 0) * ratio);
    const top = Math.floor(Math.max(from.y - 4, 0) * ratio);
    const right = Math.ceil(Math.min(to.x + 4, viewport.width) * ratio);
    const bottom = Math.ceil(Math.min(to.y + 4, viewport.height) * ratio);
    if (right <= left || bottom <= top) return null;
    const coarse = Math.max(1, Math.ceil(Math.sqrt(((right - left) * (bottom - top)) / MOST_PIXELS)));
    const step = coarse / (view.scale * ratio);
    const width = Math.ceil((right - left) / coarse);
    const height = Math.ceil((bottom - top) / coarse);
    const x = (left / ratio - view.x) / view.scale;
    const y = (top / ratio - view.y) / view.scale;
    const raster = { x, y, step, width, height };
    const pixels = new Uint32Array(width * height);
    paint(pixels, raster, coverage, { ...ink, outline: Math.max(1, (2 * ratio) / coarse) });
    this.canvas ??= document.createElement("canvas");
    if (this.canvas.width < width) this.canvas.width = width;
    if (this.canvas.height < height) this.canvas.height = height;
    this.canvas
      .getContext("2d")
      ?.putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer), width, height), 0, 0);
    return raster;
  }
}

/** A click: a disc with its sign, plus on the object and minus off it. */
export function drawPoint({ context, view }: Scene, point: PromptPoint): void {
  const { x, y } = toScreen(view, point);
  context.beginPath();
  context.arc(x, y, HANDLE, 0, 2 * Math.PI);
  context.fillStyle = point.label ? "#1a7f37" : "#cf222e";
  context.fill();
  context.lineWidth = 2;
  context.strokeStyle = "#fff";
  context.stroke();
  context.beginPath();
  context.moveTo(x - 3, y);
  context.lineTo(x + 3, y);
  if (point.label) {
    context.moveTo(x, y - 3);
    context.lineTo(x, y + 3);
  }
  context.lineWidth = 1.5;
  context.stroke();
}

/** A rectangle that shows on any ground. */
export function drawBox({ context, view }: Scene, [x0, y0, x1, y1]: Box): void {
  const from = toScreen(view, { x: x0, y: y0 });
  const to = toScreen(view, { x: x1, y: y1 });
  context.setLineDash([]);
  context.lineWidth = 3;
  context.strokeStyle = "rgb(0 0 0 / 45%)";
  context.strokeRect(from.x, from.y, to.x - from.x, to.y - from.y);
  context.lineWidth = 1.5;
  context.strokeStyle = "#fff";
  context.strokeRect(from.x, from.y, to.x - from.x, to.y - from.y);
}

export function drawBrush({ context, view }: Scene, at: ImagePoint, diameter: number): void {
  const { x, y } = toScreen(view, at);
  const radius = Math.max((diameter * view.scale) / 2, 1);
  for (const [width, style] of [
    [3, "rgb(0 0 0 / 45%)"],
    [1.5, "#fff"],
  ] as const) {
    context.beginPath();
    context.arc(x, y, radius, 0, 2 * Math.PI);
    context.lineWidth = width;
    context.strokeStyle = style;
    context.stroke();
  }
}

export function drawCross({ context, view }: Scene, at: ImagePoint): void {
  const { x, y } = toScreen(view, at);
  for (const [width, style] of [
    [4, "rgb(0 0 0 / 55%)"],
    [1.5, "#fff"],
  ] as const) {
    context.beginPath();
    context.moveTo(x - 14, y);
    context.lineTo(x + 14, y);
    context.moveTo(x, y - 14);
    context.lineTo(x, y + 14);
    context.lineWidth = width;
    context.strokeStyle = style;
    context.stroke();
  }
}

/** Outlines with their corners; corners too dense to be told apart are left out. */
export function drawPolygons({ context, view }: Scene, polygons: readonly Polygon[], color: string): void {
  const rings = polygons.flatMap(({ exterior, holes }) => [exterior, ...holes]);
  const path = new Path2D();
  const corners = new Path2D();
  let last = { x: Number.NEGATIVE_INFINITY, y: 0 };
  for (const ring of rings) {
    ring.forEach(([px, py], index) => {
      const { x, y } = toScreen(view, { x: px, y: py });
      if (index === 0) path.moveTo(x, y);
      else path.lineTo(x, y);
      if (Math.hypot(x - last.x, y - last.y) < 6) return;
      corners.rect(x - 2.5, y - 2.5, 5, 5);
      last = { x, y };
    });
    path.closePath();
  }
  context.lineWidth = 3;
  context.strokeStyle = "rgb(0 0 0 / 55%)";
  context.stroke(path);
  context.lineWidth = 1.5;
  context.strokeStyle = color;
  context.stroke(path);
  context.fillStyle = "#fff";
  context.fill(corners);
  context.lineWidth = 1;
  context.strokeStyle = "rgb(0 0 0 / 70%)";
  context.stroke(corners);
}
