/**
 * The frames of an image, and points that know which of them they are in.
 *
 * Points are (x, y), sizes [height, width], boxes [x0, y0, x1, y1]. Frames: the screen (CSS pixels of the viewport), the
 * original image, and the model's padded square, which shares origin and scale with the resized image.
 */

/** How an image becomes a model's square: its long side as long, the rest padded; or both sides stretched. */
export type Fit = "pad" | "stretch";
/** [height, width] in pixels. */
export type Size = readonly [number, number];
/** [x0, y0, x1, y1] in pixels of the original image. */
export type Box = readonly [number, number, number, number];

interface Point<Frame extends string> {
  readonly x: number;
  readonly y: number;
  /** Never set: it keeps points of different frames apart. */
  readonly frame?: Frame;
}
export type ScreenPoint = Point<"screen">;
export type ImagePoint = Point<"image">;
export type ModelPoint = Point<"model">;

/** Return the [height, width] of an image whose long side, or each, is scaled to `modelSize`; halves are rounded up. */
export function resizedSize([height, width]: Size, modelSize: number, fit: Fit = "pad"): Size {
  if (height < 1 || width < 1 || modelSize < 1) {
    throw new RangeError(`cannot resize ${height} x ${width} pixels to ${modelSize}: no side may be below 1`);
  }
  if (fit === "stretch") return [modelSize, modelSize];
  const scale = modelSize / Math.max(height, width);
  return [Math.max(Math.floor(height * scale + 0.5), 1), Math.max(Math.floor(width * scale + 0.5), 1)];
}

/** Map a point of the original image to the model's frame, in float32 as the server does. */
export function toModel(point: ImagePoint, original: Size, modelSize: number, fit: Fit = "pad"): ModelPoint {
  const [height, width] = resizedSize(original, modelSize, fit);
  return { x: Math.fround(point.x * (width / original[1])), y: Math.fround(point.y * (height / original[0])) };
}

/** Return the box spanned by two corners, in order and cut to the image. */
export function boxBetween(a: ImagePoint, b: ImagePoint, [height, width]: Size): Box {
  const x = (value: number) => Math.min(Math.max(value, 0), width);
  const y = (value: number) => Math.min(Math.max(value, 0), height);
  return [x(Math.min(a.x, b.x)), y(Math.min(a.y, b.y)), x(Math.max(a.x, b.x)), y(Math.max(a.y, b.y))];
}

/** Whether a point lies within the image. */
export function isInside(point: ImagePoint, [height, width]: Size): boolean {
  return point.x >= 0 && point.y >= 0 && point.x < width && point.y < height;
}
