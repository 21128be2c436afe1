/** The worker: the model's session, full-size masks and their stored form, off the page's thread. */

import { fullMask } from "../geometry/resize";
import { encode } from "../geometry/rle";
import type { Decoder } from "./decoder";
import { findEverything } from "./everything";
import { FakeDecoder } from "./fake";
import type { CallName, Calls, Request, Response } from "./protocol";
import { decodeRefined } from "./refinement";

const KEPT_IMAGES = 3;

let decoder: Decoder | null = null;
const images = new Map<string, unknown>();

const answers: { [Name in CallName]: (ask: Calls[Name]["ask"]) => Promise<Calls[Name]["reply"]> } = {
  async load({ files, ...input }) {
    if (files.decoder === "fake") {
      decoder = new FakeDecoder(input.imageSize, input.maskSize);
      return { device: decoder.device, ...input, fit: "pad" };
    }
    const { OnnxDecoder } = await import("./onnx");
    const loaded = await OnnxDecoder.load(files, input);
    decoder = loaded;
    return { device: loaded.device, ...loaded.input };
  },
  async image({ id, original, embedding, picture }) {
    const model = ready();
    const encoded = embedding ?? (picture && model.encode ? await model.encode(picture) : null);
    picture?.close();
    if (!encoded) throw new Error("This page has no encoder: the picture must be encoded by a server.");
    images.set(id, await model.prepare(encoded, original));
    for (const [old, side] of images) {
      if (images.size <= KEPT_IMAGES) break;
      images.delete(old);
      model.release(side);
    }
    return null;
  },
  async has({ id }) {
    return images.has(id);
  },
  async decode({ id, prompt, original, imageSize, fit, refines }) {
    const start = performance.now();
    const [model, image] = [ready(), prepared(id)];
    const answer = refines
      ? await decodeRefined(model, image, prompt, original, imageSize, fit)
      : await model.decode(image, prompt);
    return { ...answer, milliseconds: performance.now() - start };
  },
  async finish({ logits, original, imageSize, fit }) {
    const mask = fullMask(logits, original, imageSize, fit);
    return { mask, rle: encode(mask) };
  },
  async everything({ id, original, imageSize, fit, grid }) {
    return findEverything(ready(), prepared(id), original, imageSize, fit, grid);
  },
};

function ready(): Decoder {
  if (!decoder) throw new Error("The model is not loaded yet.");
  return decoder;
}

function prepared(id: string): unknown {
  const image = images.get(id);
  if (image === undefined) throw new Error("The picture is not encoded yet.");
  images.delete(id);
  images.set(id, image);
  return image;
}

function post(response: Response): void {
  const buffers: Transferable[] = [];
  if ("reply" in response && response.reply !== null && typeof response.reply === "object") {
    for (const value of Object.values(response.reply)) if (value instanceof Float32Array) buffers.push(value.buffer);
  }
  self.postMessage(response, { transfer: buffers });
}

self.onmessage = async ({ data }: MessageEvent<Request>) => {
  const { ticket, name, ask } = data;
  try {
    const answer = answers[name] as (ask: unknown) => Promise<unknown>;
    post({ ticket, reply: await answer(ask) });
  } catch (error) {
    post({ ticket, error: error instanceof Error ? error.message : String(error) });
  }
};
