/** The backend over HTTP. */

import { ApiError, type Backend, Conflict, type Engine, type ModelFiles } from "./backend";
import type { Database } from "./database";
import { LocalAnnotations } from "./local_annotations";
import type { components } from "./schema";
import type {
  Annotations,
  Classes,
  ClassInfo,
  EmbeddingData,
  Example,
  ExportFormat,
  FoundMask,
  ImageInfo,
  Info,
  Lease,
  LocalDraft,
  Operation,
  Outlines,
  Plan,
  ServerEvent,
  Statistics,
  Status,
  Task,
} from "./types";

type Schemas = components["schemas"];

export class ServerBackend implements Backend {
  readonly kind = "server";
  readonly formats: readonly ExportFormat[] = [
    "coco",
    "sa1b",
    "yolo",
    "labels",
    "cutouts",
    "parquet",
    "webdataset",
    "labelme",
  ];
  readonly model: ModelFiles;
  readonly engine: Engine = {
    work: () => this.json<Plan>("GET", "engine/work"),
    next: (worker, stage) => this.json<{ task: Task | null; work: Plan }>("POST", "engine/next", { worker, stage }),
    renew: async (lease) => (await this.json<Schemas["Held"]>("POST", "engine/renew", lease)).held,
    finish: (lease, effort, masks) => this.finished("finish", lease, { ...effort, masks }),
    judge: (lease, effort, judged) => this.finished("judge", lease, { ...effort, ...judged }),
    skip: (lease, reason) => this.json<Plan>("POST", "engine/skip", { lease, reason }),
    giveBack: (lease) => this.json<Plan>("POST", "engine/give-back", lease),
    status: () => this.json<Status>("GET", "engine/status"),
  };
  private readonly localAnnotations: LocalAnnotations;
  private readonly localDrafts = new Map<string, LocalDraft>();
  private project = "";
  /** Headers that name the project and model the page was loaded from; a server with others refuses its requests. */
  private loaded: Record<string, string> = {};
  /** `root` ends in a slash. The token, if any, was put into a cookie when the page was opened with it. */
  constructor(
    private readonly root: string,
    decoder: ModelFiles["decoder"],
    database: Database,
  ) {
    this.localAnnotations = new LocalAnnotations(database);
    this.model = { decoder, base: `${root}api/models/`, encodes: false };
  }

  images = async () => (await this.json<{ images: ImageInfo[] }>("GET", "images")).images;
  leastScores = async () => {
    const { scores } = await this.json<Schemas["LeastScores"]>("GET", "images/least-scores");
    return new Map(Object.entries(scores));
  };
  sample = (name: string) => this.json<ImageInfo>("POST", "images", { sample: name });
  encode = (id: string, priority: "now" | "next") =>
    this.json<ImageInfo>("POST", `images/${id}/encode?priority=${priority}`);
  classes = () => this.json<Classes>("GET", "classes");
  classId = async () => (await this.json<Schemas["FreshClass"]>("POST", "classes/id")).id;
  picture = async (id: string) => (await this.send("GET", `images/${id}/file`)).blob();
  thumbnail = async (id: string) => (await this.send("GET", `images/${id}/thumbnail`)).blob();

  async info(): Promise<Info> {
    const info = await this.json<Schemas["Info"]>("GET", "info");
    this.project = info.project_id;
    this.loaded = { "X-Project": info.project_id, "X-Model": info.model.hash };
    return info;
  }

  upload(file: File): Promise<ImageInfo> {
    const form = new FormData();
    form.append("file", file, file.name || "pasted.png");
    return this.send("POST", "images", form).then((response) => response.json() as Promise<ImageInfo>);
  }

  async annotations(id: string): Promise<Annotations> {
    const local = this.localDrafts.get(id);
    const path = `images/${id}/annotations`;
    if (!local) return this.json<Annotations>("GET", path);
    if (local.revision === null) return this.localAnnotations.get(local.key);
    const { annotations } = await this.json<Annotations>("GET", `${path}?revision=${local.revision}`);
    return this.localAnnotations.toJudge(local.key, annotations);
  }

  async embedding(id: string): Promise<EmbeddingData> {
    const response = await this.send("GET", `images/${id}/embedding`);
    const shapes: Record<string, [number, number, number]> = {};
    for (const part of (response.headers.get("X-Shape") ?? "").split(";")) {
      const [name, sides = ""] = part.split("=");
      const [channels, height, width] = sides.split(",").map(Number);
      if (!name || !channels || !height || !width)
        throw new ApiError(500, "The server sent an embedding without its shape.");
      shapes[name] = [channels, height, width];
    }
    return { data: new Uint16Array(await response.arrayBuffer()), shapes };
  }

  keepLocally(id: string, local: LocalDraft | null): void {
    if (local === null) this.localDrafts.delete(id);
    else this.localDrafts.set(id, { ...local, key: `${this.project} ${local.key}` });
  }

  private async finished(how: "finish" | "judge", lease: Lease, what: object): Promise<Statistics> {
    const path = `engine/${how}`;
    const { statistics } = await this.json<{ statistics: Statistics }>("POST", path, { lease, ...what });
    const local = this.localDrafts.get(lease.image);
    if (local) await this.localAnnotations.forget(local.key).catch(() => undefined);
    return statistics;
  }

  async change(id: string, base: number, client: string, changes: readonly Operation[]): Promise<number> {
    const local = this.localDrafts.get(id);
    if (local) return (await this.localAnnotations.change(local.key, base, changes)).revision;
    const body = { base_revision: base, client, changes: changes.map(sent) };
    return (await this.saving<Annotations>("POST", `images/${id}/changes`, body)).revision;
  }

  async putClasses(base: number, client: string, classes: readonly ClassInfo[]): Promise<number> {
    return (await this.saving<Classes>("PUT", "classes", { base_revision: base, client, classes })).revision;
  }

  async everything(id: string): Promise<FoundMask[]> {
    const { records } = await this.json<Schemas["Everything"]>("POST", `images/${id}/everything`, {});
    return records.map(({ rle, predicted_iou }) => ({ rle, score: predicted_iou, phrase: null }));
  }

  async text(id: string, phrases: readonly string[]): Promise<FoundMask[]> {
    const { records } = await this.json<Schemas["Texts"]>("POST", `images/${id}/text`, { phrases });
    return records.map(({ rle, score, phrase }) => ({ rle, score, phrase }));
  }

  readonly similar = async (id: string, examples: readonly Example[], minSimilarity: number): Promise<FoundMask[]> => {
    const body: Schemas["SimilarRequest"] = {
      examples: examples.map(({ image, rle }) => ({ image, rle: { size: [...rle.size], counts: rle.counts } })),
      min_similarity: minSimilarity,
    };
    const { records } = await this.json<Schemas["SimilarRegions"]>("POST", `images/${id}/similar`, body);
    return records.map(({ rle, predicted_iou, similarity }) => ({
      rle,
      score: predicted_iou,
      phrase: null,
      similarity,
    }));
  };

  async download(
    format: ExportFormat,
    ids: readonly string[],
    outlines: Outlines | null = null,
  ): Promise<{ blob: Blob; name: string }> {
    const detail = outlines ? `&polygons=true&tolerance=${outlines.tolerance}` : "";
    const chosen = `format=${format}&ids=${ids.map(encodeURIComponent).join(",")}`;
    const response = await this.send("GET", `export?${chosen}${detail}`);
    const named = /filename="?([^";]+)/.exec(response.headers.get("Content-Disposition") ?? "");
    const blob = await response.blob();
    return { blob, name: named?.[1] ?? `${format}.${blob.type.includes("zip") ? "zip" : "json"}` };
  }

  listen(receive: (event: ServerEvent) => void): () => void {
    const source = new EventSource(`${this.root}api/events`);
    source.onmessage = (message) => receive(JSON.parse(message.data as string) as ServerEvent);
    return () => source.close();
  }

  /** Send a change; a 409 brings the present state with it. */
  private async saving<T extends { revision: number }>(method: string, path: string, body: unknown): Promise<T> {
    const response = await this.ask(method, path, body);
    if (response.status === 409) throw new Conflict((await response.json()) as T);
    if (!response.ok) throw await failure(response);
    return (await response.json()) as T;
  }

  private async json<T>(method: string, path: string, body?: unknown): Promise<T> {
    return (await (await this.send(method, path, body)).json()) as T;
  }

  private async send(method: string, path: string, body?: unknown): Promise<Response> {
    const response = await this.ask(method, path, body);
    if (!response.ok) throw await failure(response);
    return response;
  }

  private async ask(method: string, path: string, body?: unknown): Promise<Response> {
    const plain = body === undefined || body instanceof FormData;
    try {
      return await fetch(`${this.root}api/${path}`, {
        method,
        credentials: "same-origin",
        headers: { ...this.loaded, ...(plain ? {} : { "Content-Type": "application/json" }) },
        ...(body === undefined ? {} : { body: body instanceof FormData ? body : JSON.stringify(body) }),
      });
    } catch {
      throw new ApiError(0, "The server does not answer. Is `anymask serve` still running?");
    }
  }
}

/** A change without the verdict, which stays in this browser. */
function sent(change: Operation): Operation {
  if (change.op === "delete" || !change.annotation.verdict) return change;
  const { verdict: _, ...annotation } = change.annotation;
  return { op: "put", annotation };
}

async function failure(response: Response): Promise<ApiError> {
  const retry = Number(response.headers.get("Retry-After"));
  let message = `The server answered ${response.status}.`;
  try {
    const body = (await response.json()) as { error?: string };
    if (body.error) message = body.error;
  } catch {
    // Not JSON: the status must do.
  }
  return new ApiError(response.status, message, Number.isFinite(retry) && retry > 0 ? retry : null);
}
