/** What page and backend say to each other: the server's own types (`npm run types` while it runs), a little narrower. */

import type { RLE } from "../geometry/rle";

import type { components } from "./schema";

type Schemas = components["schemas"];

export type ImageInfo = Readonly<Schemas["Image"]>;
export type ImageState = ImageInfo["state"];
export type ModelInfo = Readonly<Omit<Schemas["Model"], "hash">>;
export type Info = Readonly<Omit<Schemas["Info"], "model" | "presets" | "samples">> & {
  readonly model: ModelInfo;
  readonly samples: readonly string[];
};

/** An annotation with every field there, as the server sends it. */
export type Annotation = Readonly<Required<Omit<Schemas["Annotation"], "rle" | "prompts">>> & {
  readonly rle: RLE;
  readonly prompts: Readonly<Record<string, unknown>> | null;
};
export type Source = Annotation["source"];
export interface Annotations {
  readonly revision: Schemas["Annotations"]["revision"];
  readonly annotations: readonly Annotation[];
}

export type Operation = { readonly op: "put"; readonly annotation: Annotation } | Readonly<Schemas["Delete"]>;

export type ClassInfo = Readonly<Required<Schemas["Class"]>>;
export interface Classes {
  readonly revision: Schemas["Classes"]["revision"];
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

export type ServerEvent = Readonly<
  | Schemas["HelloEvent"]
  | Schemas["ImageEvent"]
  | Schemas["ProgressEvent"]
  | Schemas["AnnotationsEvent"]
  | Schemas["ClassesEvent"]
>;

export type ExportFormat = "coco" | "sa1b" | "yolo" | "labels" | "cutouts";
