/** The state of the whole page, wired together; the user interface calls its parts and shows their signals. */

import { effect, signal, untracked } from "@preact/signals";
import type { Backend, Engine } from "../api/backend";
import type { ExportFormat, ImageInfo, Info, LocalDraft } from "../api/types";
import type { ModelSession } from "../model/session";
import { ClassEditor } from "./class_editor";
import type { Changeset } from "./document";
import type { KeptDraft, TabJournal } from "./journal";
import { Masks } from "./masks";
import { ModelLoader } from "./model_loader";
import { messageOf, Notices } from "./notices";
import { Pictures } from "./pictures";
import type { Platform } from "./platform";
import { Proposals } from "./proposals";
import { Remote } from "./remote";
import { Settings } from "./settings";
import { Store } from "./store";
import { Work, type WorkHost } from "./work";

export class App {
  readonly info = signal<Info | null>(null);
  /** Where pictures come from a data engine's queues: the person at work. */
  readonly work = signal<Work | null>(null);
  /** Whether what is done is kept in this browser until the picture is done. */
  readonly isLocal = signal(false);
  readonly notices = new Notices();
  readonly settings: Settings;
  readonly store: Store;
  readonly model: ModelLoader;
  readonly pictures: Pictures;
  readonly classes: ClassEditor;
  readonly masks: Masks;
  readonly proposals: Proposals;
  readonly remote: Remote;
  readonly t: Settings["t"];

  constructor(
    readonly backend: Backend,
    private readonly journal: TabJournal,
    session: ModelSession,
    private readonly platform: Platform,
  ) {
    const { info, notices, work } = this;
    const { project } = journal;
    const settings = (this.settings = new Settings(platform));
    this.t = settings.t;
    const store = (this.store = new Store(backend, journal, (what, blanks) => notices.info(this.t(what, blanks))));
    const model = (this.model = new ModelLoader(session, backend.model, (message) => this.modelFailed(message)));
    const pictures = new Pictures(backend, store, model, platform, settings, notices, project);
    const classes = new ClassEditor(backend, store, settings, notices, project);
    this.pictures = pictures;
    this.classes = classes;
    this.masks = new Masks(store, classes, settings, pictures.size, work);
    this.proposals = new Proposals(backend, store, pictures, classes, model, settings, notices);
    this.remote = new Remote(backend, store, pictures, platform, settings, notices, info);
  }

  async start(info: Info): Promise<void> {
    const { backend, journal, pictures, store } = this;
    this.info.value = info;
    if (info.engine) this.settings.watchAddress();
    this.model.load(info.model);
    const [images, classes, recovered, kept] = await Promise.all([
      info.engine ? [] : backend.images(),
      backend.classes(),
      journal.recover(),
      journal.draft(),
    ]);
    pictures.start(images, recovered.changes);
    store.classes.load(classes, recovered.classes);
    this.classes.watch();
    this.remote.listen();
    const count = [...recovered.changes.values()].reduce((sum, list) => sum + list.length, 0);
    if (info.engine && backend.engine) await this.startWork(backend.engine, kept);
    else {
      pictures.chooseFirst(kept);
      pictures.follow();
    }
    if (count > 0) this.notices.info(this.t("recovered", { count }));
  }

  private modelFailed(message: string): void {
    this.notices.error(this.t("noModel", { message }), () => {
      this.model.load(this.info.peek()!.model);
      this.pictures.retry();
    });
  }

  // A data engine's project

  private async startWork(engine: Engine, kept: KeptDraft | undefined): Promise<void> {
    const { pictures } = this;
    const work = new Work(engine, this.workHost(kept));
    this.work.value = work;
    this.store.stamp = work.stamp;
    pictures.follow();
    await work.start();
    work.run();
    effect(() => {
      // Masks are judged without prompts: no need to wait for those.
      const ready = work.judges.value ? pictures.readable : pictures.promptable;
      if (ready.value !== null) this.selectWaiting(work);
    });
    pictures.saveRecovered();
  }

  /** `kept` is the draft from before a reload, for the picture that is opened first. */
  private workHost(kept: KeptDraft | undefined): WorkHost {
    const { backend, masks, notices, pictures, store } = this;
    return {
      open: (image: ImageInfo, local: LocalDraft | null) => {
        backend.keepLocally(image.id, local);
        this.isLocal.value = local !== null;
        masks.select(null);
        pictures.showAlone(image, kept?.image === image.id ? kept.draft : null);
        kept = undefined;
      },
      close: () => pictures.closeAll(),
      latest: (image) => backend.encode(image, "now"),
      annotations: () => store.annotations.value,
      hasDraft: () => store.document.peek().draft !== null,
      saved: () => store.autosave.settled(),
      commit: (label, changes) => store.commit(label, changes),
      select: (id) => {
        masks.select(id);
        this.settings.tool.value = id === null ? "segment" : "select";
      },
      say: (what, blanks) => notices.info(this.t(what, blanks)),
      fail: (message, retry) => notices.error(message, retry),
      model: this.info.peek()?.model.hash ?? null,
    };
  }

  private selectWaiting(work: Work): void {
    work.ready();
    const [first] = untracked(work.waiting);
    if (!first || this.store.document.peek().draft) return;
    this.masks.select(first.id);
    this.settings.tool.value = "select";
  }

  // What concerns several parts

  async addFiles(files: Iterable<File>): Promise<void> {
    if (this.work.peek()) return; // Pictures come from the queue.
    await this.pictures.addFiles(files, this.info.peek()?.limits);
  }

  /** Go to the next picture by 1, to the one before by -1; at work, finish this one to get the next. */
  step(by: 1 | -1): void {
    const work = this.work.peek();
    if (!work) this.pictures.step(by);
    else if (by > 0) void work.finish();
  }

  undo = (): void => this.undone(this.store.undo());
  redo = (): void => this.undone(this.store.redo());
  private undone(changeset: Changeset | null): void {
    if (changeset) this.masks.selectChanged(changeset);
  }

  async export(format: ExportFormat, all: boolean): Promise<void> {
    try {
      const { openId } = this.pictures;
      const { outlines, tolerance } = this.settings;
      const { blob, name } = await this.backend.download(
        format,
        all || openId === null ? [] : [openId],
        outlines.peek() && hasPolygons(format) ? { tolerance: tolerance.peek() } : null,
      );
      this.platform.download(blob, name);
    } catch (error) {
      this.notices.error(messageOf(error), () => void this.export(format, all));
    }
  }
}

/** Whether a format can say a mask by its outline. */
export const hasPolygons = (format: ExportFormat): boolean =>
  format === "coco" || format === "labelme" || format === "yolo";
