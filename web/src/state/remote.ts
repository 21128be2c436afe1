/** What others do to the project meanwhile, as the server's events tell it. */

import { type ReadonlySignal, signal } from "@preact/signals";
import type { Backend } from "../api/backend";
import type { Info, ServerEvent } from "../api/types";
import type { Notices } from "./notices";
import type { Pictures } from "./pictures";
import type { Platform } from "./platform";
import type { Settings } from "./settings";
import type { Store } from "./store";

export class Remote {
  /** Increases whenever somebody took, finished or skipped a picture of a queue. */
  readonly workTick = signal(0);

  constructor(
    private readonly backend: Backend,
    private readonly store: Store,
    private readonly pictures: Pictures,
    private readonly platform: Platform,
    private readonly settings: Settings,
    private readonly notices: Notices,
    /** What the page was loaded from. */
    private readonly info: ReadonlySignal<Info | null>,
  ) {}

  listen(): void {
    this.backend.listen((event) => this.receive(event));
  }

  /** Pictures come from a data engine's queues, one at a time. */
  private get isAtWork(): boolean {
    return !!this.info.peek()?.engine;
  }

  private receive(event: ServerEvent): void {
    const { pictures, store } = this;
    if (event.type === "hello") this.reconnected(event.project_id, event.model_hash);
    if (event.type === "work") this.workTick.value += 1;
    if (event.type === "image" && (!this.isAtWork || event.image.id === pictures.openId)) pictures.learn(event.image);
    if (event.type === "progress")
      pictures.progress.value = new Map([...pictures.progress.peek(), [event.id, event.fraction]]);
    if (event.type === "classes" && event.client !== store.client) {
      void this.backend
        .classes()
        .then((classes) => store.classes.load(classes))
        .catch(() => undefined);
    }
    if (event.type === "annotations" && event.client !== store.client) void this.reload(event.id, event.revision);
  }

  /** Go on with the server where it has the same project and model as before; else begin anew. */
  private reconnected(project: string, model: string): void {
    const info = this.info.peek()!;
    if (project === info.project_id && model === info.model.hash) {
      this.store.retry();
      void this.refresh();
      return;
    }
    this.store.hold();
    this.platform.reload();
  }

  /** Ask again for what may have changed while no events came. */
  private async refresh(): Promise<void> {
    const { pictures, store } = this;
    try {
      if (this.isAtWork) {
        if (pictures.openId !== null) await this.reload(pictures.openId, Number.MAX_SAFE_INTEGER);
      } else pictures.list.value = await this.backend.images();
      store.classes.load(await this.backend.classes());
      for (const { id, revision } of this.isAtWork ? [] : pictures.list.peek()) await this.reload(id, revision);
    } catch {
      // The next hello asks again.
    }
  }

  private async reload(id: string, revision: number): Promise<void> {
    if ((await this.pictures.refresh(id, revision)) && id === this.pictures.openId)
      this.notices.info(this.settings.t("changedElsewhere"));
  }
}
