/** Appearance: settings that the browser remembers, and the colour and coverage of each mask. */

import { type Signal, signal } from "@preact/signals";
import type { Annotation, ClassInfo } from "../api/types";
import { fromHex, paletteColor, type RGB, toHex } from "../geometry/colors";
import { type Coverage, maskCoverage } from "../geometry/coverage";
import type { Mask } from "../geometry/mask";
import { decode, type RLE } from "../geometry/rle";
import type { Language } from "../i18n/language";

export interface Shape {
  readonly mask: Mask;
  readonly coverage: Coverage;
}

const shapes = new WeakMap<RLE, Shape>();

/** Decode a mask once; a malformed one is empty. */
export function shapeOf(rle: RLE, known?: Mask): Shape {
  let shape = shapes.get(rle);
  if (!shape) {
    const mask = known ?? decode(rle);
    shape = { mask, coverage: maskCoverage(mask) };
    shapes.set(rle, shape);
  }
  return shape;
}

const places = new Map<string, number>();

/** A mask's place in the palette, given when first seen and kept. */
export function paletteIndex(id: string): number {
  let place = places.get(id);
  if (place === undefined) {
    place = places.size;
    places.set(id, place);
  }
  return place;
}
export const nextPaletteIndex = (): number => places.size;

const UNCLASSED: RGB = [160, 160, 160];

export function colorOf(
  annotation: Pick<Annotation, "id" | "class_id">,
  classes: readonly ClassInfo[],
  by: "instance" | "class",
): RGB {
  if (by === "instance") return paletteColor(paletteIndex(annotation.id));
  const found = classes.find(({ id }) => id === annotation.class_id);
  return found ? fromHex(found.color) : UNCLASSED;
}

/** The colour of a new class, unlike those of the first masks. */
export const classColor = (number: number): string => toHex(paletteColor(number + 3));

/** A signal whose value the browser remembers. */
export function persisted<T>(name: string, initial: T): Signal<T> {
  const key = `anymask-${name}`;
  let value = initial;
  try {
    const text = localStorage.getItem(key);
    if (text !== null) value = JSON.parse(text) as T;
  } catch {
    // Unreadable or forbidden storage: the default will do.
  }
  const result = signal(value);
  let first = true;
  result.subscribe((now) => {
    if (!first) {
      try {
        localStorage.setItem(key, JSON.stringify(now));
      } catch {
        // Not persisted, then.
      }
    }
    first = false;
  });
  return result;
}

export const persistedLanguage = (): Signal<Language> =>
  persisted<Language>("language", navigator.language.startsWith("zh") ? "zh" : "en");
