/** The backend without a server: pictures and annotations in this browser's database, the encoder in the page. */

import { ApiError, type Backend, Conflict, type ModelFiles } from "./backend";
import { toCoco } from "./coco";
import type { Database } from "./database";
import { newId } from "../ids";
import { LocalAnnotations } from "./local_annotations";
import type {
  Annotation,
  Annotations,
  Classes,
  ClassInfo,
  ExportFormat,
  ImageInfo,
  Info,
  Operation,
  Outlines,
} from "./types";

const MAX_BYTES = 200 * 2 ** 20;
const THUMBNAIL = 192;

export interface LocalConfig {
  /** Folder of the model's files, ending in a slash. */
  readonly models: string;
  readonly samples?: readonly string[];
  readonly decoder?: "onnx" | "fake";
}

export class LocalBackend implements Backend {
  readonly kind = "local";
  readonly engine = null;
  readonly formats: readonly ExportFormat[] = ["coco"];
  readonly model: ModelFiles;
  private readonly localAnnotations: LocalAnnotations;

  constructor(
    private readonly database: Database,
    private readonly config: LocalConfig,
  ) {
    this.localAnnotations = new LocalAnnotations(database);
    const base = new URL(config.models, document.baseURI).href;
    this.model = { decoder: config.decoder ?? "onnx", base, encodes: true };
  }

  async info(): Promise<Info> {
    return {
      version: "",
      project: "local",
      project_id: new URL(".", document.baseURI).href,
      // The page reads the sizes from model.json.
      model: {
        name: "",
        image_size: 256,
        fit: "pad",
        pads_boxes: false,
        embedding_size: 32,
        width: 128,
        mask_size: 128,
      },
      text: false,
      limits: { bytes: MAX_BYTES, pixels: 100e6 },
      samples: this.config.samples ?? [],
    };
  }

  async images(): Promise<ImageInfo[]> {
    const found = await this.database.entries<ImageInfo & { added: number }>("images");
    return found.map(([, image]) => image).sort((a, b) => a.added - b.added);
  }

  async leastScores(): Promise<ReadonlyMap<string, number>> {
    const least = new Map<string, number>();
    for (const { id } of await this.images()) {
      const scores = (await this.annotations(id)).annotations.flatMap(({ score }) => score ?? []);
      if (scores.length > 0) least.set(id, Math.min(...scores));
    }
    return least;
  }

  async upload(file: File): Promise<ImageInfo> {
    let bitmap: ImageBitmap;
    try {
      bitmap = await createImageBitmap(file);
    } catch {
      throw new ApiError(415, `${file.name} is not a picture that this browser opens: choose a JPEG, PNG or WebP.`);
    }
    const id = newId();
    const { width, height } = bitmap;
    bitmap.close();
    const image = { id, name: file.name || "pasted.png", width, height, revision: 0, num_annotations: 0 };
    await this.database.put("files", id, file);
    await this.database.put("images", id, { ...image, state: "ready", added: Date.now() });
    return { ...image, state: "ready" };
  }

  async sample(name: string): Promise<ImageInfo> {
    const response = await fetch(new URL(`samples/${name}`, document.baseURI));
    if (!response.ok) throw new ApiError(response.status, `The sample ${name} could not be fetched.`);
    return this.upload(new File([await response.blob()], name));
  }

  async picture(id: string): Promise<Blob> {
    const blob = await this.database.get<Blob>("files", id);
    if (!blob) throw new ApiError(404, "This picture is no longer in this browser: open it again.");
    return blob;
  }

  async thumbnail(id: string): Promise<Blob> {
    const bitmap = await createImageBitmap(await this.picture(id));
    const scale = THUMBNAIL / Math.max(bitmap.width, bitmap.height);
    const canvas = new OffscreenCanvas(Math.ceil(bitmap.width * scale), Math.ceil(bitmap.height * scale));
    canvas.getContext("2d")?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    bitmap.close();
    return canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 });
  }

  async encode(id: string): Promise<ImageInfo> {
    const image = await this.database.get<ImageInfo>("images", id);
    if (!image) throw new ApiError(404, "This picture is no longer in this browser: open it again.");
    return image;
  }

  keepLocally = () => undefined;
  embedding = async () => null;
  everything = async () => null;
  readonly similar = null;
  text = async () => {
    throw new ApiError(501, "Words need a server with a text model: run `anymask serve`.");
  };

  annotations = (id: string): Promise<Annotations> => this.localAnnotations.get(id);

  async change(id: string, base: number, _client: string, changes: readonly Operation[]): Promise<number> {
    const { revision, annotations } = await this.localAnnotations.change(id, base, changes);
    const image = await this.database.get<ImageInfo>("images", id);
    if (image) {
      await this.database.put("images", id, { ...image, revision, num_annotations: annotations.length });
    }
    return revision;
  }

  async classes(): Promise<Classes> {
    return (await this.database.get<Classes>("classes", "all")) ?? { revision: 0, classes: [] };
  }

  async classId(): Promise<number> {
    const { classes } = await this.classes();
    const last = (await this.database.get<number>("classes", "last")) ?? 0;
    const id = classes.reduce((most, item) => Math.max(most, item.id), last) + 1;
    await this.database.put("classes", "last", id);
    return id;
  }

  async putClasses(base: number, _client: string, classes: readonly ClassInfo[]): Promise<number> {
    const present = await this.classes();
    if (present.revision !== base) throw new Conflict(present);
    await this.database.put("classes", "all", { revision: base + 1, classes });
    return base + 1;
  }

  async download(
    _format: ExportFormat,
    ids: readonly string[],
    outlines: Outlines | null = null,
  ): Promise<{ blob: Blob; name: string }> {
    const images = (await this.images()).filter(({ id }) => ids.length === 0 || ids.includes(id));
    const annotations = new Map<string, readonly Annotation[]>();
    for (const { id } of images) annotations.set(id, (await this.annotations(id)).annotations);
    const file = toCoco(images, annotations, (await this.classes()).classes, outlines);
    return { blob: new Blob([JSON.stringify(file)], { type: "application/json" }), name: "annotations.coco.json" };
  }

  listen = () => () => undefined;
}
