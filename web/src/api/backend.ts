/** Where images, annotations and embeddings live: on a server, or in this browser. */

import type {
  Annotations,
  Classes,
  ClassInfo,
  Effort,
  EmbeddingData,
  Example,
  ExportFormat,
  FoundMask,
  ImageInfo,
  Info,
  Judged,
  Lease,
  LocalDraft,
  Operation,
  Outlines,
  Plan,
  ServerEvent,
  Stage,
  Statistics,
  Status,
  Task,
} from "./types";
import type { RLE } from "../geometry/rle";

/** What went wrong, in words for the user; `status` as in HTTP, 0 where nothing answered. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    /** Seconds after which to try again, where the server says. */
    readonly retryAfter: number | null = null,
  ) {
    super(message);
  }
  get isOffline(): boolean {
    return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
  }
}

/** The annotations or classes changed elsewhere; `present` is their state now. */
export class Conflict<T> extends Error {
  constructor(readonly present: T) {
    super("changed elsewhere");
  }
}

/** Where the model's parts are fetched from. */
export interface ModelFiles {
  readonly decoder: "onnx" | "fake";
  /** Folder of model.json and the files it names, ending in a slash. */
  readonly base: string;
  /** Whether the page also runs the encoder. */
  readonly encodes: boolean;
}

/** The queues of a data engine's project. All throw ApiError with status 409 once somebody else has the picture. */
export interface Engine {
  work(): Promise<Plan>;
  next(worker: string, stage: Stage | null): Promise<{ readonly task: Task | null; readonly work: Plan }>;
  /** False once somebody else has the picture. */
  renew(lease: Lease): Promise<boolean>;
  /** `masks` are given for a second opinion alone, whose masks are not on the server. */
  finish(lease: Lease, effort: Effort, masks: readonly RLE[]): Promise<Statistics>;
  /** Finish a picture whose masks were judged; throws ApiError with status 412 if one of them has changed since. */
  judge(lease: Lease, effort: Effort, judged: Judged): Promise<Statistics>;
  skip(lease: Lease, reason: string): Promise<Plan>;
  giveBack(lease: Lease): Promise<Plan>;
  status(): Promise<Status>;
}

export interface Backend {
  readonly kind: "server" | "local";
  readonly formats: readonly ExportFormat[];
  readonly model: ModelFiles;
  /** Null where there can be none; `Info.engine` says whether the project has one. */
  readonly engine: Engine | null;
  info(): Promise<Info>;
  images(): Promise<ImageInfo[]>;
  /** The lowest predicted IoU of each image's masks, by the image's id; of images that have masks with one. */
  leastScores(): Promise<ReadonlyMap<string, number>>;
  upload(file: File): Promise<ImageInfo>;
  sample(name: string): Promise<ImageInfo>;
  /** The picture itself, in a form that the browser shows. */
  picture(id: string): Promise<Blob>;
  thumbnail(id: string): Promise<Blob>;
  encode(id: string, priority: "now" | "next"): Promise<ImageInfo>;
  /** Null where the page encodes for itself. */
  embedding(id: string): Promise<EmbeddingData | null>;
  annotations(id: string): Promise<Annotations>;
  /** Return the new revision once the change is safe. Throws Conflict<Annotations>. */
  change(id: string, base: number, client: string, changes: readonly Operation[]): Promise<number>;
  /** Keep annotations of a picture in this browser from now on; null keeps them on the server again. */
  keepLocally(id: string, local: LocalDraft | null): void;
  classes(): Promise<Classes>;
  /** Return an id for a new class, which no class of the project ever had. */
  classId(): Promise<number>;
  /** Return the new revision. Throws Conflict<Classes>. */
  putClasses(base: number, client: string, classes: readonly ClassInfo[]): Promise<number>;
  /** Null where the page finds everything itself. */
  everything(id: string): Promise<FoundMask[] | null>;
  text(id: string, phrases: readonly string[]): Promise<FoundMask[]>;
  /** Find what is like examples and not annotated yet, at least so alike; null where there is no server to look. */
  readonly similar: ((id: string, examples: readonly Example[], minSimilarity: number) => Promise<FoundMask[]>) | null;
  download(
    format: ExportFormat,
    ids: readonly string[],
    outlines?: Outlines | null,
  ): Promise<{ blob: Blob; name: string }>;
  /** Call `receive` at every event until the returned function is called. */
  listen(receive: (event: ServerEvent) => void): () => void;
}
