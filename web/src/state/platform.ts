/** What the state needs of the browser's window: main hands it in, and tests hand in their own. */

import type { Size } from "../geometry/frames";

/** A decoded picture. */
export interface Picture {
  /** [height, width] of the original. */
  readonly size: Size;
  /** The picture, and halves of it down to a size that any screen shows; the largest first. */
  readonly levels: readonly ImageBitmap[];
  /** Hand out a copy, as for the encoder. */
  copy(): Promise<ImageBitmap>;
  close(): void;
}

export interface Platform {
  readonly isMac: boolean;
  /** Whether the panel has room beside the picture. */
  readonly isWide: boolean;
  /** Decode a picture whose original size is known. */
  readPicture(blob: Blob, size: Size): Promise<Picture>;
  /** Offer a file as a download. */
  download(blob: Blob, name: string): void;
  reload(): void;
  /** What the address has after its "#". */
  fragment(): string;
  setFragment(fragment: string): void;
  onFragment(changed: () => void): void;
}
