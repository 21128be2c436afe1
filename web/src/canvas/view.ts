/** Zoom and pan: between CSS pixels of the viewport and pixels of the original image. */

import type { ImagePoint, ScreenPoint, Size } from "../geometry/frames";

export interface View {
  /** CSS pixels of one image pixel. */
  readonly scale: number;
  /** The image's top left corner, CSS pixels. */
  readonly x: number;
  readonly y: number;
}
export interface Extent {
  readonly width: number;
  readonly height: number;
}

const MAX_SCALE = 64;

export const toImage = (view: View, point: ScreenPoint): ImagePoint => ({
  x: (point.x - view.x) / view.scale,
  y: (point.y - view.y) / view.scale,
});
export const toScreen = (view: View, point: ImagePoint): ScreenPoint => ({
  x: point.x * view.scale + view.x,
  y: point.y * view.scale + view.y,
});

/** Show the whole image, never larger than four times its size, with a margin around. */
export function fit([height, width]: Size, viewport: Extent, margin = 16): View {
  const room = { width: Math.max(viewport.width - 2 * margin, 1), height: Math.max(viewport.height - 2 * margin, 1) };
  const scale = Math.min(room.width / width, room.height / height, 4);
  return { scale, x: (viewport.width - width * scale) / 2, y: (viewport.height - height * scale) / 2 };
}

/** Change the scale by a factor; the image stays in place under the given point. */
export function zoomAt(view: View, at: ScreenPoint, factor: number, [height, width]: Size, viewport: Extent): View {
  const smallest = Math.min(fit([height, width], viewport).scale / 4, 1);
  const scale = Math.min(Math.max(view.scale * factor, smallest), MAX_SCALE);
  const ratio = scale / view.scale;
  return { scale, x: at.x - (at.x - view.x) * ratio, y: at.y - (at.y - view.y) * ratio };
}

/** Move by CSS pixels; a corner of the image always stays in sight. */
export function panBy(view: View, dx: number, dy: number, [height, width]: Size, viewport: Extent): View {
  const rim = 48;
  const clamp = (value: number, low: number, high: number) => Math.min(Math.max(value, low), high);
  return {
    scale: view.scale,
    x: clamp(view.x + dx, rim - width * view.scale, viewport.width - rim),
    y: clamp(view.y + dy, rim - height * view.scale, viewport.height - rim),
  };
}
