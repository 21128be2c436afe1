/** Waiting until an image is encoded; its state arrives by events and by answers, in any order. */

import type { Signal } from "@preact/signals";
import { ApiError } from "../api/backend";
import type { ImageInfo } from "../api/types";

const FIRST_WAIT = 250;
const LONGEST_WAIT = 4000;

/** Return a list of images with one of them replaced or added. */
export function learned(images: readonly ImageInfo[], image: ImageInfo): readonly ImageInfo[] {
  const known = images.some(({ id }) => id === image.id);
  return known ? images.map((old) => (old.id === image.id ? image : old)) : [...images, image];
}

/**
 * Ask for an embedding and wait for it; false if it is no longer wanted. Throws ApiError with the reason if the image
 * cannot be encoded.
 */
export async function encoded(
  id: string,
  images: Signal<readonly ImageInfo[]>,
  ask: () => Promise<ImageInfo>,
  isWanted: () => boolean,
): Promise<boolean> {
  const present = () => images.peek().find((image) => image.id === id);
  for (let wait = FIRST_WAIT; isWanted(); wait = Math.min(wait * 1.5, LONGEST_WAIT)) {
    const before = present();
    try {
      const answer = await ask();
      // An event that came meanwhile is newer than the answer.
      if (isWanted() && present() === before) images.value = learned(images.peek(), answer);
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 429)) throw error;
      await until(images, (error.retryAfter ?? 2) * 1000, () => present()?.state === "ready");
      continue;
    }
    await until(images, wait, () => ["ready", "failed"].includes(present()?.state ?? ""));
    const image = present();
    if (image?.state === "ready") return true;
    if (image?.state === "failed") throw new ApiError(422, image.error ?? "");
  }
  return false;
}

/** Wait for something to be true of a signal, but no longer than so many milliseconds. */
function until(images: Signal<unknown>, wait: number, isTrue: () => boolean): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      queueMicrotask(() => stop());
      resolve();
    };
    const timer = setTimeout(end, wait);
    const stop = images.subscribe(() => {
      if (isTrue()) end();
    });
  });
}
