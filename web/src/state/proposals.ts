/** Masks that everything-mode or words found, to be picked from. */

import { effect, signal } from "@preact/signals";
import type { Backend } from "../api/backend";
import type { Annotation, FoundMask } from "../api/types";
import type { ImagePoint } from "../geometry/frames";
import { covers } from "../geometry/mask";
import { newId } from "../ids";
import { shapeOf } from "./appearance";
import type { ClassEditor } from "./class_editor";
import type { AnnotationChange } from "./document";
import type { ModelLoader } from "./model_loader";
import { messageOf, type Notices } from "./notices";
import type { Pictures } from "./pictures";
import type { Settings } from "./settings";
import type { Store } from "./store";

export interface Proposal extends FoundMask {
  readonly id: string;
}

/** Points per side of the grid, where the page itself looks for everything. */
const GRID = 16;

export class Proposals {
  readonly shown = signal<readonly Proposal[] | null>(null);
  readonly isSearching = signal(false);

  constructor(
    private readonly backend: Pick<Backend, "everything" | "text">,
    private readonly store: Store,
    private readonly pictures: Pictures,
    private readonly classes: ClassEditor,
    private readonly model: ModelLoader,
    private readonly settings: Settings,
    private readonly notices: Notices,
  ) {
    effect(() => {
      void pictures.opened.value;
      this.shown.value = null;
    });
  }

  async findEverything(): Promise<void> {
    const [id, original] = [this.pictures.openId, this.pictures.size.peek()];
    if (id === null || !original || this.pictures.promptable.peek() !== id) return;
    await this.find(id, async () => {
      return (await this.backend.everything(id)) ?? (await this.model.session.everything(id, original, GRID));
    });
  }

  /** Find what phrases name; commas separate them. */
  async findWords(words: string): Promise<void> {
    const phrases = words
      .split(",")
      .map((word) => word.trim())
      .filter(Boolean);
    const id = this.pictures.openId;
    if (phrases.length > 0 && id !== null) await this.find(id, () => this.backend.text(id, phrases));
  }

  private async find(id: string, search: () => Promise<readonly FoundMask[]>): Promise<void> {
    if (this.isSearching.peek()) return;
    this.isSearching.value = true;
    try {
      const found = await search();
      if (id !== this.pictures.openId) return;
      if (found.length === 0) this.notices.info(this.settings.t("nothingFound"));
      this.shown.value = found.length === 0 ? null : found.map((item) => ({ ...item, id: newId() }));
      this.settings.tool.value = "select";
    } catch (error) {
      this.notices.error(messageOf(error), () => void this.find(id, search));
    } finally {
      this.isSearching.value = false;
    }
  }

  /** The smallest one under a point. */
  at(point: ImagePoint): Proposal | null {
    let [best, least] = [null as Proposal | null, Number.POSITIVE_INFINITY];
    for (const proposal of this.shown.peek() ?? []) {
      const { mask } = shapeOf(proposal.rle);
      const extent = mask.width * mask.height;
      if (extent < least && covers(mask, point)) [best, least] = [proposal, extent];
    }
    return best;
  }

  /** Keep some of what was found. */
  accept(chosen: readonly Proposal[]): void {
    const { image, classes } = this.store.document.peek();
    if (image === null) return;
    const changes = chosen.map(({ id, rle, score, phrase }): AnnotationChange => {
      const named = classes.find(({ name }) => name === phrase);
      const after: Annotation = {
        id,
        rle,
        class_id: named?.id ?? this.classes.chosen.peek(),
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
    const left = (this.shown.peek() ?? []).filter(({ id }) => !ids.has(id));
    this.shown.value = left.length > 0 ? left : null;
  }
}
