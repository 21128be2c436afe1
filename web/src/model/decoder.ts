/** The interface of whatever answers prompts, and the shape of its answers. */

import type { EmbeddingData } from "../api/types";
import type { Size } from "../geometry/frames";
import type { ModelPrompt } from "./prompt";

export interface Answer {
  /** Side of the logits' square. */
  readonly side: number;
  /** (masks, side, side), padded model frame. */
  readonly logits: Float32Array;
  /** Predicted IoU of each mask. */
  readonly scores: Float32Array;
}

export interface Decoder {
  /** What runs the model, such as "WebGPU" or "WASM × 4". */
  readonly device: string;
  /** Run the part of the decoder that is needed once per image. */
  prepare(embedding: EmbeddingData, original: Size): Promise<unknown>;
  /** Answer a prompt on a prepared image: three masks for a lone point, else one. */
  decode(image: unknown, prompt: ModelPrompt): Promise<Answer>;
  /** Encode a picture; null where that is the server's task. */
  encode: ((picture: ImageBitmap) => Promise<EmbeddingData>) | null;
  release(image: unknown): void;
}
