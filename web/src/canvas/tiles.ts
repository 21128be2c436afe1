/**
 * Kept masks as raster tiles, painted once and drawn many times.
 *
 * Tiles of one level share a resolution: the power of two that is next finer than the screen's. Zooming in paints finer
 * ones, down to parts of an image pixel, so outlines stay crisp. Painting takes a few milliseconds of each frame; until
 * a tile is painted its older or coarser self stands in.
 */

import type { Coverage, Raster } from "../geometry/coverage";
import { type Ink, paint } from "./paint";
import type { Extent, View } from "./view";

const SIDE = 512;
const KEPT = 160;
const BUDGET_MS = 6;
/** Screen pixels, on a tile drawn at three quarters of its size. */
const OUTLINE = 1.5 / 0.75;
/** Levels finer than what is missing that may stand in: many tiles cover little. */
const FINER = 2;

export interface LayerMask {
  readonly id: string;
  readonly coverage: Coverage;
  readonly ink: Omit<Ink, "outline">;
}

interface Tile {
  readonly level: number;
  readonly raster: Raster;
  canvas: HTMLCanvasElement | null;
  stale: boolean;
  used: number;
}

export class MaskTiles {
  private masks: readonly LayerMask[] = [];
  private readonly tiles = new Map<string, Tile>();
  private clock = 0;
  private settled: number | null = null;

  /** Replace the masks, bottom first; only tiles that a difference touches are painted anew. */
  set(masks: readonly LayerMask[]): void {
    const before = new Map(this.masks.map((mask, place) => [mask.id, { mask, place }]));
    let place = -1;
    for (const mask of masks) {
      const old = before.get(mask.id);
      before.delete(mask.id);
      const same = old?.mask.coverage === mask.coverage && sameInk(old.mask.ink, mask.ink) && old.place > place;
      if (old && old.place > place) place = old.place;
      if (same) continue;
      this.touch(mask.coverage);
      if (old) this.touch(old.mask.coverage);
    }
    for (const { mask } of before.values()) this.touch(mask.coverage);
    this.masks = masks;
  }

  clear(): void {
    this.masks = [];
    this.tiles.clear();
    this.settled = null;
  }

  /** Draw what is in sight; return whether some of it is still to be painted. */
  draw(context: CanvasRenderingContext2D, view: View, viewport: Extent, ratio: number): boolean {
    const level = Math.floor(Math.log2(1 / (view.scale * ratio)));
    const start = performance.now();
    let waiting = false;
    for (const tile of this.inSight(level, view, viewport)) {
      tile.used = ++this.clock;
      if (!tile.canvas || tile.stale) {
        if (performance.now() - start < BUDGET_MS) this.repaint(tile, ratio);
        else waiting = true;
      }
      if (tile.canvas) put(context, tile, view);
      else this.standIn(context, tile, view, viewport);
    }
    if (!waiting) this.settled = level;
    this.forget();
    return waiting;
  }

  private touch({ reach: [x0, y0, x1, y1] }: Coverage): void {
    for (const tile of this.tiles.values()) {
      const { x, y, step } = tile.raster;
      const rim = 4 * step;
      if (x0 < x + SIDE * step + rim && x1 > x - rim && y0 < y + SIDE * step + rim && y1 > y - rim) tile.stale = true;
    }
  }

  private *inSight(level: number, view: View, viewport: Extent): Generator<Tile> {
    const step = 2 ** level;
    const extent = SIDE * step;
    const last = (stageSide: number, corner: number) => Math.floor((stageSide - corner) / view.scale / extent);
    for (let row = Math.floor(-view.y / view.scale / extent); row <= last(viewport.height, view.y); row++) {
      for (let column = Math.floor(-view.x / view.scale / extent); column <= last(viewport.width, view.x); column++) {
        const key = `${level}/${column}/${row}`;
        let tile = this.tiles.get(key);
        if (!tile) {
          const raster = { x: column * extent, y: row * extent, step, width: SIDE, height: SIDE };
          tile = { level, raster, canvas: null, stale: false, used: 0 };
          this.tiles.set(key, tile);
        }
        yield tile;
      }
    }
  }

  private repaint(tile: Tile, ratio: number): void {
    const pixels = new Uint32Array(SIDE * SIDE);
    const outline = OUTLINE * ratio;
    const { x: x0, y: y0, step } = tile.raster;
    const [x1, y1] = [x0 + SIDE * step, y0 + SIDE * step];
    for (const { coverage, ink } of this.masks) {
      const [left, top, right, bottom] = coverage.reach;
      if (left < x1 && right > x0 && top < y1 && bottom > y0) paint(pixels, tile.raster, coverage, { ...ink, outline });
    }
    tile.canvas ??= Object.assign(document.createElement("canvas"), { width: SIDE, height: SIDE });
    tile.canvas.getContext("2d")?.putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer), SIDE, SIDE), 0, 0);
    tile.stale = false;
  }

  /** Draw the level that was last complete in place of a tile that is not painted yet. */
  private standIn(context: CanvasRenderingContext2D, missing: Tile, view: View, viewport: Extent): void {
    if (this.settled === null || this.settled === missing.level || this.settled < missing.level - FINER) return;
    const { x, y, step } = missing.raster;
    context.save();
    context.beginPath();
    const side = SIDE * step * view.scale;
    context.rect(x * view.scale + view.x, y * view.scale + view.y, side, side);
    context.clip();
    for (const tile of this.inSight(this.settled, view, viewport)) if (tile.canvas) put(context, tile, view);
    context.restore();
  }

  private forget(): void {
    if (this.tiles.size <= KEPT) return;
    const oldest = [...this.tiles].sort(([, a], [, b]) => a.used - b.used).slice(0, this.tiles.size - KEPT);
    for (const [key] of oldest) this.tiles.delete(key);
  }
}

function put(context: CanvasRenderingContext2D, { raster, canvas }: Tile, view: View): void {
  if (!canvas) return;
  const side = SIDE * raster.step * view.scale;
  context.drawImage(canvas, raster.x * view.scale + view.x, raster.y * view.scale + view.y, side, side);
}

function sameInk(a: LayerMask["ink"], b: LayerMask["ink"]): boolean {
  return a.opacity === b.opacity && a.color.every((value, index) => value === b.color[index]);
}
