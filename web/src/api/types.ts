/** Types of page and backend: the server's own (`npm run types`, from openapi.json), a little narrower. */

import type { RLE } from "../geometry/rle";

import type { components, operations } from "./schema";

type Schemas = components["schemas"];

export type ImageInfo = Readonly<Schemas["Image"]>;
export type ModelInfo = Readonly<Omit<Schemas["Model"], "hash">> & { readonly hash?: string };
export type Info = Readonly<Omit<Schemas["Info"], "model" | "presets" | "samples" | "person" | "engine">> & {
  readonly model: ModelInfo;
  readonly samples: readonly string[];
  /** The name of who works here, where a token says it. */
  readonly person?: string | null;
  /** Whether pictures come from a data engine's queues. */
  readonly engine?: boolean;
};

/** Where a mask comes from: who made it, in which stage, and what it took. */
export type Provenance = Readonly<Required<Schemas["Provenance"]>>;

/** An annotation with every field there, as the server sends it. */
export type Annotation = Readonly<Required<Omit<Schemas["Annotation"], "rle" | "prompts" | "provenance">>> & {
  readonly rle: RLE;
  readonly provenance?: Provenance | null;
  readonly prompts: Readonly<Record<string, unknown>> | null;
  /** The verdict so far on a mask to be judged; never sent. */
  readonly verdict?: Verdict;
};
export interface Verdict {
  readonly is: "open" | Schemas["Judgement"]["verdict"];
  /** Run lengths of the mask as it came. */
  readonly seen: string;
  /** Predicted IoU, 0 to 1; null for a mask without one. */
  readonly score: number | null;
  /** Why the mask was rejected. */
  readonly reason?: string;
  /** Whether a rejected mask had been fixed before. */
  readonly wasFixed?: boolean;
}
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

/** A mask that everything-mode, words or examples found; not kept yet. */
export interface FoundMask {
  readonly rle: RLE;
  readonly score: number | null;
  readonly phrase: string | null;
  /** How like the examples it is, where there were any: 1 is the same. */
  readonly similarity?: number;
}

/** A mask of a thing to look for. */
export interface Example {
  /** Id of its image. */
  readonly image: string;
  readonly rle: RLE;
}

export interface EmbeddingData {
  /** Float16 bits of all arrays, C order, one after the other. */
  readonly data: Uint16Array;
  /** (channels, height, width) of each array by name, in the order of the data. */
  readonly shapes: Readonly<Record<string, readonly [number, number, number]>>;
}

export type ServerEvent = Readonly<
  | Schemas["HelloEvent"]
  | Schemas["ImageEvent"]
  | Schemas["ProgressEvent"]
  | Schemas["AnnotationsEvent"]
  | Schemas["ClassesEvent"]
  | Schemas["WorkEvent"]
>;

// The data engine

export type Stage = Schemas["Task"]["lease"]["stage"];
export type Lease = Readonly<Schemas["Lease"]>;
export type Task = Readonly<Schemas["Task"]>;
export type Plan = Readonly<Schemas["Work"]>;
export type Summary = Readonly<Schemas["Summary"]>;
export type Statistics = Readonly<Schemas["Statistics"]>;
export type Status = Readonly<Schemas["Status"]>;
export type Moment = Readonly<Schemas["Moment"]>;
export type Queue = Readonly<Schemas["Queue"]>;
export type Judgement = Readonly<Omit<Schemas["Judgement"], "fixed">> & { readonly fixed?: Annotation };
/** What a reviewer says of a picture's masks, as they were at a revision. */
export interface Judged {
  readonly revision: number;
  readonly judgements: readonly Judgement[];
  readonly added: readonly Annotation[];
}
/** Where what is done on a picture is kept, in this browser alone. */
export interface LocalDraft {
  readonly key: string;
  /** Begin with the masks that the server had then, to be judged; null begins with none. */
  readonly revision: number | null;
}
/** What a picture took, besides what its masks say. */
export interface Effort {
  readonly seconds: number;
  readonly clicks: number;
  readonly strokes: number;
}

/** How masks leave where a format has polygons: none is as they are, else outlines simpler by so many pixels. */
export interface Outlines {
  readonly tolerance: number;
}

export type ExportFormat = operations["export_api_export_get"]["parameters"]["query"]["format"];
