/**
 * The exported model in ONNX Runtime: `image` once an image, `prompt` once a click, and `encoder` where the page encodes.
 *
 * Files and names are those of `anymask export onnx`: what `image` gives, `prompt` takes by the same names, beside the
 * embedding's arrays and a prompt's `points`, `labels`, `mask_input` and `has_mask_input`.
 */

import type { InferenceSession, Tensor } from "onnxruntime-web";
import type { ModelFiles } from "../api/backend";
import type { EmbeddingData } from "../api/types";
import { type Fit, resizedSize, type Size } from "../geometry/frames";
import type { Answer, Decoder } from "./decoder";
import { fromFloat16, toFloat16 } from "./float16";
import type { ModelPrompt } from "./prompt";
import type { ModelInput } from "./protocol";

type Runtime = typeof import("onnxruntime-web/wasm");
type Tensors = Record<string, Tensor>;

/** What the page reads of model.json. */
interface Sidecar {
  readonly image_size: number;
  readonly mask_size: number;
  readonly fit: Fit;
  readonly pads_boxes: boolean;
}

const MOST_THREADS = 8;
const PATIENCE = 10;

export class OnnxDecoder implements Decoder {
  readonly encode: Decoder["encode"];

  private constructor(
    private readonly runtime: Runtime,
    readonly device: string,
    readonly input: ModelInput,
    private readonly image: InferenceSession,
    private readonly prompt: InferenceSession,
    encoder: InferenceSession | null,
  ) {
    this.encode = encoder ? (picture) => this.encodePicture(encoder, picture) : null;
  }

  /** Load the parts; the sizes are model.json's where there is one. */
  static async load(files: ModelFiles, given: ModelInput): Promise<OnnxDecoder> {
    const input = files.encodes ? inputOf((await (await fetched(files, "model.json")).json()) as Sidecar) : given;
    const names = ["image", "prompt", ...(files.encodes ? ["encoder"] : [])];
    const bytes = await Promise.all(
      names.map(async (name) => new Uint8Array(await (await fetched(files, `${name}.onnx`)).arrayBuffer())),
    );
    if (await hasGpu()) {
      try {
        const runtime = (await import("onnxruntime-web/webgpu")) as unknown as Runtime;
        return await OnnxDecoder.start(runtime, "webgpu", input, bytes);
      } catch (error) {
        console.warn("WebGPU cannot run this model; falling back to WASM.", error);
      }
    }
    return OnnxDecoder.start(await import("onnxruntime-web/wasm"), "wasm", input, bytes);
  }

  private static async start(
    runtime: Runtime,
    provider: "webgpu" | "wasm",
    input: ModelInput,
    bytes: readonly Uint8Array[],
  ): Promise<OnnxDecoder> {
    const threads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency || 1, MOST_THREADS) : 1;
    const glue = provider === "webgpu" ? "ort-wasm-simd-threaded.asyncify" : "ort-wasm-simd-threaded";
    const folder = new URL(`${import.meta.env.BASE_URL}ort/`, self.location.href.replace(/assets\/[^/]*$/, "")).href;
    runtime.env.wasm.numThreads = threads;
    runtime.env.wasm.wasmPaths = { mjs: `${folder}${glue}.mjs`, wasm: `${folder}${glue}.wasm` };
    const sessions = [];
    for (const model of bytes) {
      const options = { executionProviders: [provider], graphOptimizationLevel: "all" } as const;
      sessions.push(await runtime.InferenceSession.create(model, options));
    }
    const [image, prompt, encoder] = sessions as [InferenceSession, InferenceSession, InferenceSession | undefined];
    const device = provider === "webgpu" ? "WebGPU" : `WASM × ${threads}`;
    return new OnnxDecoder(runtime, device, input, image, prompt, encoder ?? null);
  }

  async prepare({ data, shapes }: EmbeddingData): Promise<Tensors> {
    const embedding: Tensors = {};
    let start = 0;
    for (const [name, shape] of Object.entries(shapes)) {
      const end = start + shape[0] * shape[1] * shape[2];
      embedding[name] = new this.runtime.Tensor("float32", fromFloat16(data.subarray(start, end)), [1, ...shape]);
      start = end;
    }
    const shared = await this.image.run(taken(this.image, embedding));
    return { ...embedding, ...shared };
  }

  async decode(image: unknown, prompt: ModelPrompt): Promise<Answer> {
    const { Tensor } = this.runtime;
    const count = prompt.labels.length;
    const side = this.input.maskSize;
    const feeds: Tensors = {
      ...(image as Tensors),
      points: new Tensor("float32", prompt.points, [1, count, 2]),
      labels: new Tensor("float32", prompt.labels, [1, count]),
      mask_input: new Tensor("float32", prompt.mask ?? new Float32Array(side * side), [1, side, side]),
      has_mask_input: new Tensor("float32", Float32Array.of(prompt.mask ? 1 : 0), [1]),
    };
    const { logits, iou } = await this.prompt.run(taken(this.prompt, feeds));
    if (!logits || !iou) throw new Error("prompt.onnx has no outputs named logits and iou: export it again.");
    // The first of four candidates answers a clear prompt, the others an ambiguous one.
    const [first, past] = prompt.isLonePoint ? [1, 4] : [0, 1];
    const values = (logits.data as Float32Array).slice(first * side * side, past * side * side);
    const scores = (iou.data as Float32Array).slice(first, past);
    logits.dispose();
    iou.dispose();
    return { side, logits: values, scores };
  }

  release(image: unknown): void {
    for (const tensor of Object.values(image as Tensors)) tensor.dispose();
  }

  /** Resize to the model's long side and encode. */
  private async encodePicture(encoder: InferenceSession, picture: ImageBitmap): Promise<EmbeddingData> {
    const size: Size = resizedSize([picture.height, picture.width], this.input.imageSize, this.input.fit);
    const image = new this.runtime.Tensor("uint8", await pixelsOf(picture, size), [...size, 3]);
    const outputs = Object.entries(await encoder.run({ image }));
    if (!outputs.some(([name]) => name === "features"))
      throw new Error("encoder.onnx has no output named features: export it again.");
    const parts = outputs.map(([, { data }]) => toFloat16(data as Float32Array));
    const data = new Uint16Array(parts.reduce((length, part) => length + part.length, 0));
    let start = 0;
    for (const part of parts) {
      data.set(part, start);
      start += part.length;
    }
    const shapes = outputs.map(([name, { dims }]) => [name, dims.slice(1)] as [string, [number, number, number]]);
    return { data, shapes: Object.fromEntries(shapes) };
  }
}

function inputOf({ image_size, mask_size, fit, pads_boxes }: Sidecar): ModelInput {
  return { imageSize: image_size, maskSize: mask_size, fit, padsBoxes: pads_boxes };
}

/** Return those of the named tensors that a graph takes. */
function taken({ inputNames }: InferenceSession, tensors: Tensors): Tensors {
  return Object.fromEntries(Object.entries(tensors).filter(([name]) => inputNames.includes(name)));
}

/** Return RGB pixels at a size, halving first: a single far step would skip pixels. */
async function pixelsOf(picture: ImageBitmap, [height, width]: Size): Promise<Uint8Array> {
  const resized = await createImageBitmap(picture, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("This browser cannot read the picture's pixels.");
  context.drawImage(resized, 0, 0);
  resized.close();
  const { data } = context.getImageData(0, 0, width, height);
  const rgb = new Uint8Array(height * width * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    rgb[to++] = data[from]!;
    rgb[to++] = data[from + 1]!;
    rgb[to++] = data[from + 2]!;
  }
  return rgb;
}

async function fetched(files: ModelFiles, name: string): Promise<Response> {
  let response = await fetch(files.base + name, { credentials: "same-origin" });
  // The server may still be making it.
  for (let attempt = 0; response.status === 503 && attempt < PATIENCE; attempt++) {
    await new Promise((resolve) => setTimeout(resolve, 1000 * (Number(response.headers.get("Retry-After")) || 2)));
    response = await fetch(files.base + name, { credentials: "same-origin" });
  }
  if (!response.ok) throw new Error(`${name} could not be fetched (${response.status}).`);
  return response;
}

async function hasGpu(): Promise<boolean> {
  const gpu = (navigator as { gpu?: { requestAdapter(): Promise<unknown> } }).gpu;
  try {
    return gpu !== undefined && (await gpu.requestAdapter()) !== null;
  } catch {
    return false;
  }
}
