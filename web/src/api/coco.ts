/** COCO instances of kept masks, made in the page. */

import { area, type Mask, tight } from "../geometry/mask";
import { decode } from "../geometry/rle";
import { fromMask } from "../geometry/polygons";
import type { Annotation, ClassInfo, ImageInfo, Outlines } from "./types";

export interface CocoFile {
  readonly info: { readonly description: string };
  readonly images: readonly { id: number; file_name: string; width: number; height: number }[];
  readonly categories: readonly { id: number; name: string }[];
  readonly annotations: readonly CocoAnnotation[];
}
interface CocoAnnotation {
  readonly id: number;
  readonly image_id: number;
  readonly category_id: number;
  readonly segmentation: { readonly size: readonly number[]; readonly counts: string } | readonly (readonly number[])[];
  readonly area: number;
  readonly bbox: readonly [number, number, number, number];
  readonly iscrowd: 0;
}

/**
 * Masks without a class get the category 0, "object"; classes keep their ids. With outlines a mask is polygons, a piece
 * each, unless it has holes, which COCO's polygons cannot say.
 */
export function toCoco(
  images: readonly ImageInfo[],
  annotations: ReadonlyMap<string, readonly Annotation[]>,
  classes: readonly ClassInfo[],
  outlines: Outlines | null = null,
): CocoFile {
  const records: CocoAnnotation[] = [];
  images.forEach((image, index) => {
    for (const { rle, class_id } of annotations.get(image.id) ?? []) {
      const mask = decode(rle);
      records.push({
        id: records.length + 1,
        image_id: index + 1,
        category_id: class_id ?? 0,
        segmentation: (outlines && flatPolygons(mask, outlines.tolerance)) ?? rle,
        area: area(mask),
        bbox: tightBox(mask),
        iscrowd: 0,
      });
    }
  });
  const unnamed = records.some(({ category_id }) => category_id === 0) ? [{ id: 0, name: "object" }] : [];
  return {
    info: { description: "Made with anymask" },
    images: images.map(({ name, width, height }, index) => ({ id: index + 1, file_name: name, width, height })),
    categories: [...unnamed, ...classes.map(({ id, name }) => ({ id, name }))],
    annotations: records,
  };
}

function flatPolygons(mask: Mask, tolerance: number): number[][] | null {
  const pieces = fromMask(mask, tolerance);
  return pieces.some(({ holes }) => holes.length > 0) ? null : pieces.map(({ exterior }) => exterior.flat());
}

function tightBox(mask: ReturnType<typeof decode>): [number, number, number, number] {
  const box = tight(mask);
  return [box.x, box.y, box.width, box.height];
}
