/** The messages between the page and its worker. */

import type { ModelFiles } from "../api/backend";
import type { EmbeddingData, FoundMask } from "../api/types";
import type { Fit, Size } from "../geometry/frames";
import type { Mask } from "../geometry/mask";
import type { Logits } from "../geometry/resize";
import type { RLE } from "../geometry/rle";
import type { Answer } from "./decoder";
import type { ModelPrompt } from "./prompt";

/** What the page needs to know about a model in order to ask it. */
export interface ModelInput {
  readonly imageSize: number;
  readonly maskSize: number;
  readonly fit: Fit;
  /** Whether a prompt with a box ends with a padding point, as prompts without one do. */
  readonly padsBoxes: boolean;
}

export interface LoadedModel extends ModelInput {
  readonly device: string;
}

/** Every request the worker answers, with its reply. */
export interface Calls {
  load: { ask: ModelInput & { files: ModelFiles }; reply: LoadedModel };
  /** Set the image that prompts are about; with a null embedding, encode the picture. */
  image: {
    ask: { id: string; original: Size; embedding: EmbeddingData | null; picture: ImageBitmap | null };
    reply: null;
  };
  has: { ask: { id: string }; reply: boolean };
  /** Answer a prompt; `refines`: ask twice about first clicks and boxes, as the package does. */
  decode: {
    ask: { id: string; prompt: ModelPrompt; original: Size; imageSize: number; fit: Fit; refines: boolean };
    reply: Answer & { milliseconds: number };
  };
  /** A mask at the original size with its stored form. */
  finish: { ask: { logits: Logits; original: Size; imageSize: number; fit: Fit }; reply: { mask: Mask; rle: RLE } };
  everything: { ask: { id: string; original: Size; imageSize: number; fit: Fit; grid: number }; reply: FoundMask[] };
}
export type CallName = keyof Calls;

export interface Request<Name extends CallName = CallName> {
  readonly ticket: number;
  readonly name: Name;
  readonly ask: Calls[Name]["ask"];
}
export type Response =
  { readonly ticket: number; readonly reply: unknown } | { readonly ticket: number; readonly error: string };
