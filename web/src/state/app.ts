/** The whole page's state and what can be done to it; the user interface calls this and shows its signals. */

import { computed, effect, type Signal, signal, untracked } from "@preact/signals";
import type { Backend, Engine } from "../api/backend";
import { ApiError } from "../api/backend";
import type {
  Annotation,
  LocalDraft,
  ClassInfo,
  ExportFormat,
  FoundMask,
  ImageInfo,
  Info,
  ServerEvent,
} from "../api/types";
import { Picture } from "../canvas/picture";
import { paletteColor, type RGB } from "../geometry/colors";
import type { Size } from "../geometry/frames";
import { covers } from "../geometry/mask";
import { newId } from "../ids";
import { ModelSession } from "../model/session";
import type { Tool } from "../tools/gesture";
import { type Bindings, Keymap } from "../tools/keys";
import { filled, inLanguage, type StringKey } from "../i18n/language";
import type { AnnotationChange, Change, Changeset } from "./document";
import { encoded, learned } from "./encoding";
import type { KeptDraft, TabJournal } from "./journal";
import { classColor, colorOf, nextPaletteIndex, persisted, persistedLanguage, shapeOf } from "./appearance";
import type { Pending } from "./rebase";
import { Store } from "./store";
import { Work } from "./work";

export interface Notice {
  readonly text: string;
  readonly kind: "info" | "error";
  readonly retry: (() => void) | null;
}
export type ModelState =
  | { readonly is: "loading" }
  | { readonly is: "ready"; readonly device: string }
  | { readonly is: "failed"; readonly message: string };
/** A mask that everything-mode or words found, to be picked. */
export interface Proposal extends FoundMask {
  readonly id: string;
}

const NOTICE_MS = 8000;
const GRID = 16;

export class App {
  readonly session = new ModelSession();
  readonly store: Store;
  readonly info = signal<Info | null>(null);
  readonly images = signal<readonly ImageInfo[]>([]);
  readonly progress = signal<ReadonlyMap<string, number>>(new Map());
  readonly model = signal<ModelState>({ is: "loading" });
  readonly picture = signal<Picture | null>(null);
  /** The image that is shown, with its masks. */
  readonly readable = signal<string | null>(null);
  /** Whether what is done is kept in this browser until the picture is done. */
  readonly isLocal = signal(false);
  /** The image that prompts can be asked about. */
  readonly promptable = signal<string | null>(null);
  readonly problem = signal<{ readonly image: string; readonly message: string } | null>(null);
  readonly notice = signal<Notice | null>(null);
  readonly online = signal(true);
  readonly busy = signal<StringKey | null>(null);

  readonly tool = signal<Tool>("segment");
  readonly selection = signal<ReadonlySet<string>>(new Set());
  readonly proposals = signal<readonly Proposal[] | null>(null);
  /** What a tap means, where there is no second button. */
  readonly tapLabel = signal<0 | 1>(1);
  readonly brush = signal(12);
  readonly tolerance = persisted("tolerance", 1);
  readonly opacity = persisted("opacity", 0.45);
  readonly colorBy = persisted<"instance" | "class">("color-by", "instance");
  readonly showMasks = signal(true);
  readonly panelOpen = persisted("panel", typeof innerWidth === "undefined" || innerWidth > 720);
  readonly sideOpen = signal<"help" | "text" | null>(null);
  readonly renaming = signal<string | null>(null);
  readonly language = persistedLanguage();
  readonly bindings = persisted<Bindings>("keys", {});
  readonly keymap = computed(() => new Keymap(this.bindings.value));
  /** The class of this project that new masks get until another is chosen. */
  readonly stickyClass: Signal<number | null>;

  /** Where pictures come from a data engine's queues: the person at work. */
  readonly work = signal<Work | null>(null);
  readonly view = signal<"pictures" | "dashboard">("pictures");
  /** Rises whenever somebody took, finished or skipped a picture of a queue. */
  readonly workTick = signal(0);

  readonly image = computed(() => {
    const { image } = this.store.document.value;
    return this.images.value.find(({ id }) => id === image) ?? null;
  });
  readonly size = computed<Size | null>(() =>
    this.image.value ? [this.image.value.height, this.image.value.width] : null,
  );
  /** The one selected mask. */
  readonly selected = computed(() => {
    const [id, ...more] = this.selection.value;
    return id !== undefined && more.length === 0 ? (this.store.annotations.value.get(id) ?? null) : null;
  });
  private readonly lastImage: Signal<string | null>;
  private recovered = new Map<string, Pending[]>();
  private readonly loaded = new Set<string>();
  private opening = 0;
  private noticeTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly backend: Backend,
    private readonly journal: TabJournal,
  ) {
    this.stickyClass = persisted<number | null>(`class-${journal.project}`, null);
    this.lastImage = persisted<string | null>(`image-${journal.project}`, null);
    this.store = new Store(backend, journal, (what, blanks) => this.say(this.t(what, blanks)));
  }

  t = (key: StringKey, blanks?: Readonly<Record<string, string | number>>): string =>
    filled(inLanguage(this.language.value)[key], blanks);

  /** Title of a control: what it does and its key. */
  keyed = (command: Parameters<Keymap["label"]>[0]): string => {
    const label = this.keymap.value.label(command, isMac);
    return label ? `${this.t(command)} (${label})` : this.t(command);
  };

  async start(info: Info): Promise<void> {
    this.info.value = info;
    if (info.engine) this.watchAddress();
    this.modelLoaded = this.loadModel();
    const [images, classes, recovered, kept] = await Promise.all([
      info.engine ? [] : this.backend.images(),
      this.backend.classes(),
      this.journal.recover(),
      this.journal.draft(),
    ]);
    const known = new Set(images.map(({ id }) => id));
    this.images.value = [...images, ...this.images.peek().filter(({ id }) => !known.has(id))];
    this.recovered = recovered.changes;
    this.store.classes.load(classes, recovered.classes);
    effect(() => this.dropGoneClass());
    this.backend.listen(
      (event) => this.hear(event),
      (online) => this.connection(online),
    );
    if (info.engine && this.backend.engine) await this.startWork(this.backend.engine, kept);
    else this.begin(kept);
    const count = [...recovered.changes.values()].reduce((sum, list) => sum + list.length, 0);
    if (count > 0) this.say(this.t("recovered", { count }));
  }

  /** The dashboard has an address of its own. */
  private watchAddress(): void {
    const look = () => (this.view.value = location.hash === "#dashboard" ? "dashboard" : "pictures");
    addEventListener("hashchange", look);
    look();
  }

  private async startWork(engine: Engine, kept: KeptDraft | undefined): Promise<void> {
    const host = {
      open: (image: ImageInfo, local: LocalDraft | null) => {
        this.backend.keepLocally(image.id, local);
        this.isLocal.value = local !== null;
        this.loaded.delete(image.id);
        this.images.value = [image];
        this.selection.value = new Set();
        this.openImage = null; // Opened anew, also if it is the same.
        this.store.switchTo(image.id, kept?.image === image.id ? kept.draft : null);
        kept = undefined;
      },
      close: () => {
        this.store.switchTo(null);
        this.images.value = [];
      },
      latest: (image: string) => this.backend.encode(image, "now"),
      annotations: () => this.store.annotations.value,
      hasDraft: () => this.store.document.peek().draft !== null,
      saved: () => this.store.autosave.settled(),
      commit: (label: StringKey, changes: readonly Change[]) => this.store.commit(label, changes),
      select: (id: string | null) => {
        this.select(id);
        this.tool.value = id === null ? "segment" : "select";
      },
      say: (what: StringKey, blanks?: Record<string, string | number>) => this.say(this.t(what, blanks)),
      fail: (message: string, retry: (() => void) | null) => this.fail(message, retry),
      model: this.info.peek()?.model.hash ?? null,
    };
    const work = new Work(engine, host);
    this.work.value = work;
    this.store.stamp = work.stamp;
    this.follow();
    await work.start();
    work.run();
    effect(() => {
      // To judge masks takes no prompts: there is no waiting for those.
      const ready = work.judges.value ? this.readable : this.promptable;
      if (ready.value !== null) this.selectWaiting(work);
    });
    // What a tab that is gone left unsaved, of pictures that may never be opened here.
    for (const id of this.recovered.keys()) void this.openAnnotations(id).catch(() => undefined);
  }

  private selectWaiting(work: Work): void {
    work.ready();
    const [first] = untracked(work.waiting);
    if (!first || this.store.document.peek().draft) return;
    this.select(first.id);
    this.tool.value = "select";
  }

  /** Open the picture that was open last, with its draft, and from now on whichever the document says. */
  private begin(kept: KeptDraft | undefined): void {
    const { document } = this.store;
    if (document.peek().image === null) {
      const images = this.images.peek();
      const last = kept?.image ?? this.lastImage.peek();
      const first = images.find(({ id }) => id === last) ?? images[0];
      const draft = kept && first?.id === kept.image ? kept.draft : null;
      if (first) document.value = { ...document.peek(), image: first.id, draft };
    }
    this.follow();
  }

  /** From now on open whichever picture the document says. */
  private follow(): void {
    effect(() => {
      const { image } = this.store.document.value;
      if (image !== this.openImage) void this.open(image);
    });
  }

  private openImage: string | null = null;
  private modelLoaded: Promise<void> = Promise.resolve();

  async loadModel(): Promise<void> {
    const { model } = this.info.peek()!;
    this.model.value = { is: "loading" };
    try {
      const sizes = { imageSize: model.image_size, maskSize: model.mask_size };
      const ask = { files: this.backend.model, ...sizes, fit: model.fit, padsBoxes: model.pads_boxes };
      this.model.value = { is: "ready", device: (await this.session.load(ask)).device };
    } catch (error) {
      const message = messageOf(error);
      this.model.value = { is: "failed", message };
      this.fail(this.t("noModel", { message }), () => {
        this.modelLoaded = this.loadModel();
        void this.open(this.openImage);
      });
    }
  }

  // Pictures

  async addFiles(files: Iterable<File>): Promise<void> {
    if (this.work.peek()) return; // Pictures come from the queue.
    const { limits } = this.info.peek() ?? { limits: { bytes: Number.POSITIVE_INFINITY } };
    for (const file of files) {
      const megabytes = (bytes: number) => Math.round(bytes / 2 ** 20);
      if (file.type && !file.type.startsWith("image/")) this.fail(this.t("notPicture", { name: file.name }));
      else if (file.size > limits.bytes) {
        const blanks = { name: file.name, size: megabytes(file.size), limit: megabytes(limits.bytes) };
        this.fail(this.t("tooLarge", blanks));
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
      this.fail(messageOf(error), () => void this.add(fetch));
    }
  }

  /** Change to another picture; a draft stays with the one it is of, and comes back with undo. */
  show(id: string): void {
    const { image, draft } = this.store.document.peek();
    if (id === image) return;
    const changes: Change[] = [{ on: "image", before: image, after: id }];
    if (draft) changes.unshift({ on: "draft", before: draft, after: null });
    this.store.commit("switchImage", changes);
    this.selection.value = new Set();
  }

  step(by: number): void {
    const work = this.work.peek();
    if (work) return by > 0 ? void work.finish() : undefined;
    const images = this.images.peek();
    const place = images.findIndex(({ id }) => id === this.openImage);
    const next = images[place + by];
    if (next) this.show(next.id);
  }

  private async open(id: string | null): Promise<void> {
    this.openImage = id;
    const turn = ++this.opening;
    const isCurrent = () => turn === this.opening;
    this.promptable.value = null;
    this.readable.value = null;
    this.proposals.value = null;
    this.problem.value = null;
    if (id === null) {
      this.picture.value = null;
      return;
    }
    this.lastImage.value = id;
    try {
      await Promise.all([this.openPicture(id, isCurrent), this.openAnnotations(id)]);
      if (!isCurrent()) return;
      this.readable.value = id;
      await this.prepare(id, isCurrent);
    } catch (error) {
      if (isCurrent()) this.problem.value = { image: id, message: messageOf(error) };
    }
  }

  retry = (): void => void this.open(this.openImage);

  private async openPicture(id: string, isCurrent: () => boolean): Promise<void> {
    const image = this.images.peek().find((item) => item.id === id);
    if (!image) throw new ApiError(404, this.t("failed", { message: id }));
    const picture = await Picture.read(await this.backend.picture(id), [image.height, image.width]);
    if (!isCurrent()) return picture.close();
    const former = this.picture.peek();
    this.picture.value = picture;
    former?.close();
    this.brush.value = Math.max(2, Math.round(Math.max(image.width, image.height) / 80));
  }

  private async openAnnotations(id: string): Promise<void> {
    if (this.loaded.has(id)) return;
    this.store.load(id, await this.backend.annotations(id), this.recovered.get(id));
    this.recovered.delete(id);
    this.loaded.add(id);
  }

  /** Get the image ready for prompts: encoded, and its part of the decoder run. */
  private async prepare(id: string, isCurrent: () => boolean): Promise<void> {
    const isEncoded = await encoded(id, this.images, () => this.backend.encode(id, "now"), isCurrent);
    await this.modelLoaded;
    if (!isEncoded || this.model.peek().is !== "ready") return;
    if (!(await this.session.hasImage(id))) {
      const embedding = await this.backend.embedding(id);
      const picture = embedding === null ? ((await this.picture.peek()?.copy()) ?? null) : null;
      const original = this.size.peek();
      if (!original || !isCurrent()) return;
      await this.session.setImage({ id, original, embedding, picture });
    }
    if (!isCurrent()) return;
    this.promptable.value = id;
    this.prefetch(id);
  }

  private prefetch(id: string): void {
    const images = this.images.peek();
    const next = images[images.findIndex((image) => image.id === id) + 1];
    if (next?.state === "new" && this.backend.kind === "server")
      this.backend.encode(next.id, "next").catch(() => undefined);
  }

  private learn(image: ImageInfo): void {
    this.images.value = learned(this.images.peek(), image);
  }

  // What others do

  private hear(event: ServerEvent): void {
    if (event.type === "hello") this.greeted(event.project_id, event.model_hash);
    if (event.type === "work") this.workTick.value += 1;
    if (event.type === "image" && (!this.work.peek() || event.image.id === this.openImage)) this.learn(event.image);
    if (event.type === "progress") this.progress.value = new Map([...this.progress.peek(), [event.id, event.fraction]]);
    if (event.type === "classes" && event.client !== this.store.client) {
      void this.backend
        .classes()
        .then((classes) => this.store.classes.load(classes))
        .catch(() => undefined);
    }
    if (event.type === "annotations" && event.client !== this.store.client) void this.reload(event.id, event.revision);
  }

  /** Go on with the server where there is the same project and model as before; else begin anew. */
  private greeted(project: string, model: string): void {
    const info = this.info.peek()!;
    if (project === info.project_id && model === info.model.hash) {
      this.store.retry();
      void this.refresh();
      return;
    }
    this.store.hold();
    location.reload();
  }

  /** Ask again for what may have changed while no events came. */
  private async refresh(): Promise<void> {
    try {
      if (this.work.peek()) {
        if (this.openImage !== null) await this.reload(this.openImage, Number.MAX_SAFE_INTEGER);
      } else this.images.value = await this.backend.images();
      this.store.classes.load(await this.backend.classes());
      for (const { id, revision } of this.work.peek() ? [] : this.images.peek()) await this.reload(id, revision);
    } catch {
      // The next hello asks again.
    }
  }

  private async reload(id: string, revision: number): Promise<void> {
    const known = this.store.autosave.revision(id);
    if (!this.loaded.has(id) || known === undefined || known >= revision) return;
    const stored = await this.backend.annotations(id).catch(() => null);
    if (!stored || (this.store.autosave.revision(id) ?? 0) >= stored.revision) return;
    this.store.load(id, stored);
    if (id === this.openImage) this.say(this.t("changedElsewhere"));
  }

  private connection(online: boolean): void {
    this.online.value = online;
  }

  // Masks

  annotationColor = (annotation: Pick<Annotation, "id" | "class_id">): RGB =>
    colorOf(annotation, this.store.document.value.classes, this.colorBy.value);

  /** The colour that the next mask will have. */
  nextColor(): RGB {
    if (this.colorBy.value === "instance") return paletteColor(nextPaletteIndex());
    return this.annotationColor({ id: "", class_id: this.stickyClass.value });
  }

  change(id: string, after: Partial<Annotation>): void {
    this.changeAll([id], after);
  }

  private changeAll(ids: Iterable<string>, after: Partial<Annotation>): void {
    const changes: AnnotationChange[] = [];
    for (const id of ids) {
      const before = this.store.annotations.peek().get(id);
      if (before && this.openImage) {
        changes.push({ on: "annotation", image: this.openImage, id, before, after: { ...before, ...after } });
      }
    }
    this.store.commit("change", changes);
  }

  removeSelected(): void {
    const all = [...this.selection.peek()];
    const judged = all.filter((id) => this.store.annotations.peek().get(id)?.verdict);
    const rest = all.filter((id) => !judged.includes(id));
    if (rest.length > 0) this.remove(rest);
    this.work.peek()?.reject(...judged);
  }

  /** Select the mask after the selected one, or before it, in the order of the list. */
  stepMask(by: 1 | -1): boolean {
    const all = this.listed();
    if (all.length === 0) return false;
    const [chosen] = this.selection.peek();
    const place = all.findIndex(({ id }) => id === chosen);
    const next = place < 0 ? (by > 0 ? 0 : -1) : (place + by) % all.length;
    this.select(all.at(next)!.id);
    this.tool.value = "select";
    return true;
  }

  /** Masks in the order of the list: the latest first, or those first that are to be judged first. */
  listed(): Annotation[] {
    const work = this.work.value;
    return work?.judges.value ? work.inOrder() : [...this.store.annotations.value.values()].reverse();
  }

  remove(ids: readonly string[]): void {
    const image = this.openImage;
    if (image === null) return;
    const changes = ids.flatMap((id): AnnotationChange[] => {
      const before = this.store.annotations.peek().get(id);
      return before ? [{ on: "annotation", image, id, before, after: null }] : [];
    });
    this.store.commit("remove", changes);
    this.selection.value = new Set();
  }

  /** Give the selected masks a class, and new ones too from now on. */
  setClass(id: number | null): void {
    if (this.selection.peek().size > 0) this.changeAll(this.selection.peek(), { class_id: id });
    this.stickyClass.value = id;
  }

  toggleVisible(ids: Iterable<string>): void {
    const all = [...ids];
    const visible = all.some((id) => this.store.annotations.peek().get(id)?.visible);
    this.changeAll(all, { visible: !visible });
  }

  select(id: string | null, adds = false): void {
    if (id === null) this.selection.value = adds ? this.selection.peek() : new Set();
    else if (!adds) this.selection.value = new Set([id]);
    else {
      const next = new Set(this.selection.peek());
      if (!next.delete(id)) next.add(id);
      this.selection.value = next;
    }
  }

  /** The smallest visible mask under a point. */
  maskAt(point: { x: number; y: number }): string | null {
    let [best, least] = [null as string | null, Number.POSITIVE_INFINITY];
    for (const { id, rle, visible, verdict } of this.store.annotations.peek().values()) {
      const { mask } = shapeOf(rle);
      const extent = mask.width * mask.height;
      if (visible && verdict?.is !== "reject" && extent < least && covers(mask, point)) [best, least] = [id, extent];
    }
    return best;
  }

  undo = (): void => this.walked(this.store.undo());
  redo = (): void => this.walked(this.store.redo());
  private walked(changeset: Changeset | null): void {
    if (!changeset) return;
    const here = this.store.annotations.peek();
    const words = changeset.changes.flatMap((change) =>
      change.on === "annotation" && change.after?.verdict ? change.id : [],
    );
    const chosen = words.length > 0 ? words : [...this.selection.peek()];
    this.selection.value = new Set(chosen.filter((id) => here.has(id)));
  }

  // Classes

  async addClass(name?: string): Promise<void> {
    try {
      const id = await this.backend.classId();
      const before = this.store.document.peek().classes;
      const item = { id, name: name ?? this.t("newClass", { number: id }), color: classColor(id), key: null };
      this.store.commit("changeClass", [{ on: "classes", before, after: [...before, item] }]);
      this.stickyClass.value = id;
    } catch (error) {
      this.fail(messageOf(error), () => void this.addClass(name));
    }
  }

  editClass(id: number, change: Partial<ClassInfo>): void {
    const before = this.store.document.peek().classes;
    const after = before.map((item) => (item.id === id ? { ...item, ...change } : item));
    this.store.commit("changeClass", [{ on: "classes", before, after }]);
  }

  /** Delete a class; masks of the open picture that have it lose it. */
  removeClass(id: number): void {
    const before = this.store.document.peek().classes;
    const image = this.openImage;
    const changes: Change[] = [{ on: "classes", before, after: before.filter((item) => item.id !== id) }];
    for (const annotation of this.store.annotations.peek().values()) {
      if (annotation.class_id !== id || image === null) continue;
      const after = { ...annotation, class_id: null };
      changes.push({ on: "annotation", image, id: annotation.id, before: annotation, after });
    }
    this.store.commit("changeClass", changes);
  }

  /** Nobody can see what new masks would get of a class that is not in the list. */
  private dropGoneClass(): void {
    const { classes } = this.store.document.value;
    if (!classes.some(({ id }) => id === this.stickyClass.value)) this.stickyClass.value = null;
  }

  // Everything and words

  async findEverything(): Promise<void> {
    const [id, original] = [this.openImage, this.size.peek()];
    if (id === null || !original || this.promptable.peek() !== id) return;
    await this.find(id, async () => {
      return (await this.backend.everything(id)) ?? (await this.session.everything(id, original, GRID));
    });
  }

  async findWords(words: string): Promise<void> {
    const phrases = words
      .split(",")
      .map((word) => word.trim())
      .filter(Boolean);
    const id = this.openImage;
    if (phrases.length > 0 && id !== null) await this.find(id, () => this.backend.text(id, phrases));
  }

  private async find(id: string, search: () => Promise<readonly FoundMask[]>): Promise<void> {
    if (this.busy.peek()) return;
    this.busy.value = "thinking";
    try {
      const found = await search();
      if (id !== this.openImage) return;
      if (found.length === 0) this.say(this.t("nothingFound"));
      this.proposals.value = found.length === 0 ? null : found.map((item) => ({ ...item, id: newId() }));
      this.tool.value = "select";
    } catch (error) {
      this.fail(messageOf(error), () => void this.find(id, search));
    } finally {
      this.busy.value = null;
    }
  }

  /** Keep some of what was found. */
  accept(chosen: readonly Proposal[]): void {
    const image = this.openImage;
    if (image === null) return;
    const changes = chosen.map(({ id, rle, score, phrase }): AnnotationChange => {
      const named = this.store.document.peek().classes.find(({ name }) => name === phrase);
      const after: Annotation = {
        id,
        rle,
        class_id: named?.id ?? this.stickyClass.peek(),
        name: phrase,
        visible: true,
        score,
        source: phrase === null ? "everything" : "text",
        prompts: null,
        parent: null,
      };
      return { on: "annotation", image, id, before: null, after };
    });
    this.store.commit("keep", changes);
    const ids = new Set(chosen.map(({ id }) => id));
    const left = (this.proposals.peek() ?? []).filter(({ id }) => !ids.has(id));
    this.proposals.value = left.length > 0 ? left : null;
  }

  // Out

  async export(format: ExportFormat, all: boolean): Promise<void> {
    try {
      const ids = all || this.openImage === null ? [] : [this.openImage];
      const { blob, name } = await this.backend.download(format, ids);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    } catch (error) {
      this.fail(messageOf(error), () => void this.export(format, all));
    }
  }

  say(text: string): void {
    this.note({ text, kind: "info", retry: null });
  }
  fail(text: string, retry: (() => void) | null = null): void {
    this.note({ text, kind: "error", retry });
  }
  private note(notice: Notice): void {
    clearTimeout(this.noticeTimer);
    this.notice.value = notice;
    if (notice.kind === "info") this.noticeTimer = setTimeout(() => (this.notice.value = null), NOTICE_MS);
  }
}

export const isMac = /Mac|iPhone|iPad/.test(navigator.userAgent);

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
