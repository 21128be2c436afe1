/** A stand-in for `anymask serve`, in memory, for work on the page alone: `npm run mock`. */

import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import type { IncomingMessage, ServerResponse } from "node:http";
import { join } from "node:path";
import type { Connect, Plugin } from "vite";
import type { Annotation, ClassInfo, ImageInfo, Operation } from "../src/api/types";
import { iou } from "../src/geometry/mask";
import { decode, encode } from "../src/geometry/rle";

type Stored = ImageInfo & { bytes: Buffer; annotations: Map<string, Annotation> };

const SAMPLES = ["cat", "coffee", "rocket"];
const ENCODING_MS = 600;

export function mockServer(samples: string): Plugin {
  const images = new Map<string, Stored>();
  const listeners = new Set<ServerResponse>();
  let classes = { revision: 0, classes: [] as ClassInfo[] };
  let lastClass = 0;
  const tell = (event: unknown) => {
    for (const listener of listeners) listener.write(`data: ${JSON.stringify(event)}\n\n`);
  };
  const shown = ({ bytes: _, annotations, ...image }: Stored): ImageInfo => ({
    ...image,
    num_annotations: annotations.size,
  });

  function add(name: string, bytes: Buffer): ImageInfo {
    const id = randomUUID();
    const [width, height] = jpegSize(bytes);
    const image: Stored = {
      id,
      name,
      width,
      height,
      state: "new",
      revision: 0,
      num_annotations: 0,
      bytes,
      annotations: new Map(),
    };
    images.set(id, image);
    tell({ type: "image", image: shown(image) });
    return shown(image);
  }

  function startEncoding(image: Stored): ImageInfo {
    if (image.state === "new") {
      Object.assign(image, { state: "encoding" });
      const start = Date.now();
      const timer = setInterval(() => {
        const fraction = Math.min((Date.now() - start) / ENCODING_MS, 1);
        tell({ type: "progress", id: image.id, fraction });
        if (fraction < 1) return;
        clearInterval(timer);
        Object.assign(image, { state: "ready" });
        tell({ type: "image", image: shown(image) });
      }, 100);
    }
    return shown(image);
  }

  function change(image: Stored, body: { base_revision: number; client: string; changes: Operation[] }): Answer {
    const present = () => ({ revision: image.revision, annotations: [...image.annotations.values()] });
    if (body.base_revision !== image.revision) return [409, { error: "changed meanwhile", ...present() }];
    for (const item of body.changes) {
      if (item.op === "put") image.annotations.set(item.annotation.id, item.annotation);
      else image.annotations.delete(item.id);
    }
    Object.assign(image, { revision: image.revision + 1 });
    tell({ type: "annotations", id: image.id, revision: image.revision, client: body.client });
    return [200, { revision: image.revision }];
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<Answer | null> {
    const url = new URL(request.url ?? "", "http://mock");
    const [, , what, id, action] = url.pathname.split("/");
    const body = request.method === "GET" ? Buffer.alloc(0) : await read(request);
    const json = () => JSON.parse(body.toString() || "{}");
    if (what === "info") return [200, info];
    if (what === "events") {
      response.writeHead(200, { "Content-Type": "text/event-stream" });
      const hello = { type: "hello", project_id: info.project_id, model_hash: info.model.hash };
      response.write(`data: ${JSON.stringify(hello)}\n\n`);
      listeners.add(response);
      request.on("close", () => listeners.delete(response));
      return null;
    }
    if (what === "classes" && id) return [200, { id: ++lastClass }];
    if (what === "classes" && request.method === "PUT") {
      const next = json();
      if (next.base_revision !== classes.revision) return [409, { error: "changed meanwhile", ...classes }];
      classes = { revision: classes.revision + 1, classes: next.classes };
      tell({ type: "classes", revision: classes.revision, client: next.client });
    }
    if (what === "classes") return [200, classes];
    if (what === "export") return [200, { images: [...images.values()].map(shown) }];
    if (what !== "images") return [404, { error: `there is no ${url.pathname}` }];
    if (!id && request.method === "GET") return [200, { images: [...images.values()].map(shown) }];
    if (id === "least-scores") return [200, { scores: leastScores(images.values()) }];
    if (!id) {
      if (request.headers["content-type"]?.includes("json")) {
        const { sample } = json();
        return [201, add(`${sample}.jpg`, readFileSync(join(samples, `${sample}.jpg`)))];
      }
      const start = body.indexOf("\r\n\r\n") + 4;
      return [201, add(/filename="([^"]*)"/.exec(body.toString("latin1"))?.[1] ?? "picture", body.subarray(start))];
    }
    const image = images.get(id);
    if (!image) return [404, { error: `there is no image ${id}` }];
    if (action === "encode") return [202, startEncoding(image)];
    if (action === "annotations")
      return [200, { revision: image.revision, annotations: [...image.annotations.values()] }];
    if (action === "changes") return change(image, json());
    if (action === "everything") return [200, { records: everything(image) }];
    if (action === "similar") return [200, { records: similar(image) }];
    if (action === "text")
      return [
        200,
        {
          records: everything(image)
            .slice(0, 2)
            .map((r) => ({ ...r, score: 0.6, phrase: json().phrases[0] })),
        },
      ];
    if (action === "embedding") response.setHeader("X-Shape", "features=1,2,2");
    response.end(action === "embedding" ? Buffer.alloc(8) : image.bytes);
    return null;
  }

  const answerAll: Connect.NextHandleFunction = async (request, response, next) => {
    if (request.url === "/config.json") return send(response, [200, { backend: "server", decoder: "fake" }]);
    if (!request.url?.startsWith("/api/")) return next();
    const result = await answer(request, response).catch((error: Error): Answer => [500, { error: error.message }]);
    if (result) send(response, result);
  };
  return {
    name: "mock-server",
    configureServer: ({ middlewares }) => void middlewares.use(answerAll),
    configurePreviewServer: ({ middlewares }) => void middlewares.use(answerAll),
  };
}

type Answer = [status: number, body: unknown];

const info = {
  version: "mock",
  project: "mock",
  project_id: "mock",
  model: {
    name: "fake",
    hash: "fake",
    image_size: 256,
    fit: "pad",
    pads_boxes: false,
    embedding_size: 32,
    width: 128,
    mask_size: 128,
  },
  text: true,
  limits: { bytes: 2 ** 26, pixels: 1e8 },
  samples: SAMPLES,
};

function send(response: ServerResponse, [status, body]: Answer): void {
  response.writeHead(status, { "Content-Type": "application/json" });
  response.end(JSON.stringify(body));
}

async function read(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts);
}

/** Width and height from a JPEG's frame header. */
function jpegSize(bytes: Buffer): [number, number] {
  for (let at = 2; at + 9 < bytes.length; at += 2 + bytes.readUInt16BE(at + 2)) {
    const marker = bytes[at + 1]!;
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      return [bytes.readUInt16BE(at + 7), bytes.readUInt16BE(at + 5)];
    }
  }
  return [640, 480];
}

function leastScores(images: Iterable<Stored>): Record<string, number> {
  const least: Record<string, number> = {};
  for (const { id, annotations } of images) {
    const scores = [...annotations.values()].flatMap(({ score }) => score ?? []);
    if (scores.length > 0) least[id] = Math.min(...scores);
  }
  return least;
}

/** Discs that are less alike one after the other, but for those that overlap what is kept. */
function similar(image: Stored) {
  const kept = [...image.annotations.values()].map(({ rle }) => decode(rle));
  return everything(image)
    .filter(({ rle }) => kept.every((mask) => iou(decode(rle), mask) === 0))
    .map(({ rle, predicted_iou }, index, { length }) => ({
      rle,
      predicted_iou,
      similarity: 1 - (0.8 * index) / length,
    }));
}

/** Discs on a grid. */
function everything({ width, height }: ImageInfo) {
  const records = [];
  const radius = Math.round(Math.min(width, height) / 14);
  for (let row = 0; row < 5; row++) {
    for (let column = 0; column < 7; column++) {
      const side = 2 * radius + 1;
      const bits = Uint8Array.from({ length: side * side }, (_, index) => {
        return Math.hypot((index % side) - radius, Math.floor(index / side) - radius) <= radius ? 1 : 0;
      });
      const x = Math.round(((column + 0.5) * width) / 7) - radius;
      const y = Math.round(((row + 0.5) * height) / 5) - radius;
      const rle = encode({ size: [height, width], x, y, width: side, height: side, bits });
      records.push({ rle, predicted_iou: 0.9, stability_score: 0.95 });
    }
  }
  return records;
}
