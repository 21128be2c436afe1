/** What page and backend say to each other. Names and shapes are the server's; see its OpenAPI schema. */

import type { RLE } from "../geometry/rle";

export type ImageState = "new" | "waiting" | "encoding" | "ready" | "failed";
export interface ImageInfo {
  readonly id: string;
  readonly name: string;
  readonly width: number;
  readonly height: number;
  readonly state: ImageState;
  readonly error?: string | null;
  readonly revision: number;
  readonly num_annotations: number;
}

export interface ModelInfo {
  readonly name: string;
  readonly image_size: number;
  readonly embedding_size: number;
  readonly width: number;
  readonly mask_size: number;
}

export interface Info {
  readonly version: string;
  readonly project: string;
  readonly model: ModelInfo;
  readonly text: boolean;
  readonly limits: { readonly bytes: number; readonly pixels: number };
  readonly samples: readonly string[];
}

export type Source = "click" | "box" | "brush" | "everything" | "text" | "import";
export interface Annotation {
  readonly id: string;
  readonly rle: RLE;
  readonly class_id: number | null;
  readonly name: string | null;
  readonly visible: boolean;
  readonly score: number | null;
  readonly source: Source;
  readonly prompts: Readonly<Record<string, unknown>> | null;
  readonly parent: string | null;
}

export interface Annotations {
  readonly revision: number;
  readonly annotations: readonly Annotation[];
}

export type Operation =
  | { readonly op: "put"; readonly annotation: Annotation }
  | { readonly op: "delete"; readonly id: string };

export interface ClassInfo {
  readonly id: number;
  readonly name: string;
  readonly color: string;
  readonly key: string | null;
}
export interface Classes {
  readonly revision: number;
  readonly classes: readonly ClassInfo[];
}

/** A mask that everything-mode or words found; not kept yet. */
export interface Found {
  readonly rle: RLE;
  readonly score: number | null;
  readonly phrase: string | null;
}

export interface EmbeddingData {
  /** Float16 bits, (channels, height, width), C order. */
  readonly data: Uint16Array;
  readonly shape: readonly [number, number, number];
}

export type ServerEvent =
  | { readonly type: "hello" }
  | { readonly type: "image"; readonly image: ImageInfo }
  | { readonly type: "progress"; readonly id: string; readonly fraction: number }
  | { readonly type: "annotations"; readonly id: string; readonly revision: number; readonly client: string }
  | { readonly type: "classes"; readonly revision: number; readonly client: string };

export type ExportFormat = "coco" | "sa1b" | "yolo" | "labels" | "cutouts";
