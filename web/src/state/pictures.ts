/** The list of pictures and the one that is open: its pixels, its masks, and whether prompts can be asked about it. */

import { computed, effect, signal } from "@preact/signals";
import { ApiError, type Backend } from "../api/backend";
import type { ImageInfo, Info } from "../api/types";
import type { Size } from "../geometry/frames";
import { persisted } from "./appearance";
import type { Change, Draft } from "./document";
import { encoded, learned } from "./encoding";
import type { KeptDraft } from "./journal";
import type { ModelLoader } from "./model_loader";
import { messageOf, type Notices } from "./notices";
import { passes, type PictureFilter } from "./picture_filter";
import type { Picture, Platform } from "./platform";
import type { Pending } from "./rebase";
import type { Settings } from "./settings";
import type { Store } from "./store";

const MEGABYTE = 2 ** 20;

export class Pictures {
  readonly list = signal<readonly ImageInfo[]>([]);
  readonly filter = signal<PictureFilter>("all");
  private readonly leastScores = signal<ReadonlyMap<string, number>>(new Map());
  /** The pictures that the strip shows: those of the filter, and the open one. */
  readonly listed = computed(() => {
    const { annotations, image } = this.store.document.value;
    const known = { annotations, leastScores: this.leastScores.value };
    return this.list.value.filter((each) => each.id === image || passes(each, this.filter.value, known));
  });
  /** Share of each image's encoding that is done, 0 to 1. */
  readonly progress = signal<ReadonlyMap<string, number>>(new Map());
  readonly picture = signal<Picture | null>(null);
  /** The image that is shown, with its masks. */
  readonly readable = signal<string | null>(null);
  /** The image that prompts can be asked about. */
  readonly promptable = signal<string | null>(null);
  readonly problem = signal<{ readonly image: string; readonly message: string } | null>(null);
  /** Increases whenever a picture is opened, the same one again included. */
  readonly opened = signal(0);
  readonly image = computed(() => {
    const { image } = this.store.document.value;
    return this.list.value.find(({ id }) => id === image) ?? null;
  });
  readonly size = computed<Size | null>(() =>
    this.image.value ? [this.image.value.height, this.image.value.width] : null,
  );
  /** Id of the open picture; null where none is open. */
  openId: string | null = null;
  private readonly lastId;
  /** Changes by image that an earlier page did not save. */
  private recovered = new Map<string, Pending[]>();
  /** Images whose masks were fetched. */
  private readonly loaded = new Set<string>();

  constructor(
    private readonly backend: Backend,
    private readonly store: Store,
    private readonly model: ModelLoader,
    private readonly platform: Platform,
    private readonly settings: Settings,
    private readonly notices: Notices,
    project: string,
  ) {
    this.lastId = persisted<string | null>(`image-${project}`, null);
  }

  // The list

  /** Take in what the server has; what came in meanwhile stays. */
  start(images: readonly ImageInfo[], recovered: Map<string, Pending[]>): void {
    const known = new Set(images.map(({ id }) => id));
    this.list.value = [...images, ...this.list.peek().filter(({ id }) => !known.has(id))];
    this.recovered = recovered;
  }

  learn(image: ImageInfo): void {
    this.list.value = learned(this.list.peek(), image);
  }

  async addFiles(files: Iterable<File>, limits: Info["limits"] | undefined): Promise<void> {
    for (const file of files) {
      const { name, size } = file;
      const limit = limits?.bytes ?? Number.POSITIVE_INFINITY;
      if (file.type && !file.type.startsWith("image/")) this.notices.error(this.settings.t("notPicture", { name }));
      else if (size > limit) {
        const blanks = { name, size: Math.round(size / MEGABYTE), limit: Math.round(limit / MEGABYTE) };
        this.notices.error(this.settings.t("tooLarge", blanks));
      } else await this.add(() => this.backend.upload(file));
    }
  }

  addSample = (name: string): Promise<void> => this.add(() => this.backend.sample(name));

  private async add(fetch: () => Promise<ImageInfo>): Promise<void> {
    try {
      const image = await fetch();
      this.learn(image);
      this.show(image.id);
    } catch (error) {
      this.notices.error(messageOf(error), () => void this.add(fetch));
    }
  }

  /** Change to another picture; a draft stays with the one it is of, and comes back with undo. */
  show(id: string): void {
    const { document } = this.store;
    const { image, draft } = document.peek();
    if (id === image) return;
    if (image === null) {
      // There is nothing to go back to.
      document.value = { ...document.peek(), image: id };
      return;
    }
    const changes: Change[] = [{ on: "image", before: image, after: id }];
    if (draft) changes.unshift({ on: "draft", before: draft, after: null });
    this.store.commit("switchImage", changes);
  }

  /** Change to the next picture by 1, to the one before by -1. */
  step(by: number): void {
    const images = this.listed.peek();
    const next = images[images.findIndex(({ id }) => id === this.openId) + by];
    if (next) this.show(next.id);
  }

  /** Show only some of the pictures; how sure the model was of their masks is asked anew. */
  async choose(filter: PictureFilter): Promise<void> {
    this.filter.value = filter;
    if (filter === "all" || filter === "empty") return;
    try {
      this.leastScores.value = await this.backend.leastScores();
    } catch (error) {
      this.notices.error(messageOf(error), () => void this.choose(filter));
    }
  }

  /** Show this picture alone, reopened if it is open; the history begins anew. */
  showAlone(image: ImageInfo, draft: Draft | null): void {
    this.loaded.delete(image.id);
    this.list.value = [image];
    this.openId = null;
    this.store.switchTo(image.id, draft);
  }

  closeAll(): void {
    this.store.switchTo(null);
    this.list.value = [];
  }

  // The open picture

  /** Choose the picture that was open last, with its draft. */
  chooseFirst(kept: KeptDraft | undefined): void {
    const { document } = this.store;
    if (document.peek().image !== null) return;
    const images = this.list.peek();
    const last = kept?.image ?? this.lastId.peek();
    const first = images.find(({ id }) => id === last) ?? images[0];
    const draft = kept && first?.id === kept.image ? kept.draft : null;
    if (first) document.value = { ...document.peek(), image: first.id, draft };
  }

  /** From now on open whichever picture the document says. */
  follow(): void {
    effect(() => {
      const { image } = this.store.document.value;
      if (image !== this.openId) void this.open(image);
    });
  }

  /** Open the picture anew, as after a failure. */
  retry = (): void => void this.open(this.openId);

  private async open(id: string | null): Promise<void> {
    this.openId = id;
    const turn = this.opened.peek() + 1;
    const isCurrent = () => turn === this.opened.peek();
    this.opened.value = turn;
    this.promptable.value = null;
    this.readable.value = null;
    this.problem.value = null;
    if (id === null) {
      this.picture.value = null;
      return;
    }
    this.lastId.value = id;
    try {
      await Promise.all([this.openPicture(id, isCurrent), this.openAnnotations(id)]);
      if (!isCurrent()) return;
      this.readable.value = id;
      await this.prepare(id, isCurrent);
    } catch (error) {
      if (isCurrent()) this.problem.value = { image: id, message: messageOf(error) };
    }
  }

  private async openPicture(id: string, isCurrent: () => boolean): Promise<void> {
    const image = this.list.peek().find((item) => item.id === id);
    if (!image) throw new ApiError(404, this.settings.t("failed", { message: id }));
    const picture = await this.platform.readPicture(await this.backend.picture(id), [image.height, image.width]);
    if (!isCurrent()) return picture.close();
    const former = this.picture.peek();
    this.picture.value = picture;
    former?.close();
    this.settings.brush.value = Math.max(2, Math.round(Math.max(image.width, image.height) / 80));
  }

  private async openAnnotations(id: string): Promise<void> {
    if (this.loaded.has(id)) return;
    this.store.load(id, await this.backend.annotations(id), this.recovered.get(id));
    this.recovered.delete(id);
    this.loaded.add(id);
    this.store.dropUsedDraft(id);
  }

  /** Save what a page that is gone left unsaved, of pictures that may never be opened here. */
  saveRecovered(): void {
    for (const id of this.recovered.keys()) void this.openAnnotations(id).catch(() => undefined);
  }

  /** Fetch an image's masks again if they are known and older than a revision; whether they were. */
  async refresh(id: string, revision: number): Promise<boolean> {
    const { autosave } = this.store;
    const known = autosave.revision(id);
    if (!this.loaded.has(id) || known === undefined || known >= revision) return false;
    const stored = await this.backend.annotations(id).catch(() => null);
    if (!stored || (autosave.revision(id) ?? 0) >= stored.revision) return false;
    this.store.load(id, stored);
    return true;
  }

  /** Get the image ready for prompts: encoded, and its part of the decoder run. */
  private async prepare(id: string, isCurrent: () => boolean): Promise<void> {
    const isEncoded = await encoded(id, this.list, () => this.backend.encode(id, "now"), isCurrent);
    await this.model.done;
    if (!isEncoded || this.model.state.peek().is !== "ready") return;
    const { session } = this.model;
    if (!(await session.hasImage(id))) {
      const embedding = await this.backend.embedding(id);
      const picture = embedding === null ? ((await this.picture.peek()?.copy()) ?? null) : null;
      const original = this.size.peek();
      if (!original || !isCurrent()) return;
      await session.setImage({ id, original, embedding, picture });
    }
    if (!isCurrent()) return;
    this.promptable.value = id;
    this.prefetch(id);
  }

  private prefetch(id: string): void {
    const images = this.list.peek();
    const next = images[images.findIndex((image) => image.id === id) + 1];
    if (next?.state === "new" && this.backend.kind === "server")
      this.backend.encode(next.id, "next").catch(() => undefined);
  }
}
