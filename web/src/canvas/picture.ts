/** The picture in halves of its size, so that drawing it costs what the screen shows, however large it is. */

import type { Size } from "../geometry/frames";
import type { Picture } from "../state/platform";
import type { Extent, View } from "./view";

const SMALLEST = 1024;
/** From this many screen pixels a pixel on, pixels are shown as squares. */
const SQUARES = 3;

/** Decode a picture whose original size is known; a browser's own reading of it is stretched to that. */
export async function readPicture(blob: Blob, size: Size): Promise<Picture> {
  const first = await createImageBitmap(blob);
  const levels = [first];
  for (let last = first; Math.max(last.width, last.height) > 2 * SMALLEST;) {
    const resizeWidth = Math.max(last.width >> 1, 1);
    const resizeHeight = Math.max(last.height >> 1, 1);
    last = await createImageBitmap(last, { resizeWidth, resizeHeight, resizeQuality: "medium" });
    levels.push(last);
  }
  return {
    size,
    levels,
    copy: () => createImageBitmap(first),
    close: () => {
      for (const level of levels) level.close();
    },
  };
}

export function drawPicture(
  { size: [height, width], levels }: Picture,
  context: CanvasRenderingContext2D,
  view: View,
  viewport: Extent,
  ratio: number,
): void {
  const wanted = width * view.scale * ratio;
  const level = levels.findLast((bitmap) => bitmap.width >= wanted) ?? levels[0]!;
  const left = Math.max(0, Math.floor(-view.x / view.scale));
  const top = Math.max(0, Math.floor(-view.y / view.scale));
  const right = Math.min(width, Math.ceil((viewport.width - view.x) / view.scale));
  const bottom = Math.min(height, Math.ceil((viewport.height - view.y) / view.scale));
  if (left >= right || top >= bottom) return;
  const [sx, sy] = [level.width / width, level.height / height];
  context.imageSmoothingEnabled = view.scale * ratio < SQUARES;
  context.imageSmoothingQuality = "high";
  context.drawImage(
    level,
    left * sx,
    top * sy,
    (right - left) * sx,
    (bottom - top) * sy,
    left * view.scale + view.x,
    top * view.scale + view.y,
    (right - left) * view.scale,
    (bottom - top) * view.scale,
  );
}
