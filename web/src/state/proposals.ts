/** Masks that everything-mode, words or examples found, to be picked from. */

import { computed, effect, signal, untracked } from "@preact/signals";
import type { Backend } from "../api/backend";
import type { Annotation, Example, FoundMask, Source } from "../api/types";
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

/** What is looked for: masks that were selected, and the class that what is like them gets. */
export interface Wanted {
  readonly examples: readonly Example[];
  readonly class_id: number | null;
}

/** Points per side of the grid, where the page itself looks for everything. */
const GRID = 16;
/** What is less like the examples is not even fetched. */
export const LEAST_SIMILAR = 0.2;
/** The server takes as many examples. */
const MOST_EXAMPLES = 16;

export class Proposals {
  readonly isSearching = signal(false);
  /** What is looked for in every picture that is opened, until it is dropped. */
  readonly wanted = signal<Wanted | null>(null);
  private readonly found = signal<readonly Proposal[] | null>(null);
  /** What was found, as like the examples as is asked for. */
  readonly shown = computed(() => {
    const least = this.settings.similarity.value;
    return this.found.value?.filter(({ similarity }) => similarity === undefined || similarity >= least) ?? null;
  });

  constructor(
    private readonly backend: Pick<Backend, "everything" | "text" | "similar">,
    private readonly store: Store,
    private readonly pictures: Pictures,
    private readonly classes: ClassEditor,
    private readonly model: ModelLoader,
    private readonly settings: Settings,
    private readonly notices: Notices,
  ) {
    effect(() => {
      void pictures.opened.value;
      this.found.value = null;
    });
    effect(() => {
      const id = pictures.promptable.value;
      if (id !== null && untracked(() => this.wanted.value)) untracked(() => void this.findWanted(id));
    });
  }

  /** Whether examples can be looked for at all. */
  get searches(): boolean {
    return this.backend.similar !== null;
  }

  /** Let go of what was found, and of what was looked for. */
  drop(): void {
    this.found.value = null;
    this.wanted.value = null;
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

  /** Find what is like some masks of the open picture, here and in pictures that are opened later. */
  async findLike(masks: readonly Annotation[]): Promise<void> {
    const image = this.pictures.openId;
    const [first] = masks;
    if (image === null || !first || !this.searches) return;
    const examples = masks.slice(-MOST_EXAMPLES).map(({ rle }) => ({ image, rle }));
    this.wanted.value = { examples, class_id: first.class_id };
    await this.findWanted(image);
  }

  private async findWanted(id: string): Promise<void> {
    const { similar } = this.backend;
    const wanted = this.wanted.peek();
    if (!similar || !wanted) return;
    await this.find(id, async () => {
      // The server leaves out what it knows to be annotated.
      await this.store.autosave.settled();
      const found = await similar(id, wanted.examples, LEAST_SIMILAR);
      return this.wanted.peek() === wanted ? found : null;
    });
  }

  /** Show what a search finds; null is a search that nobody waits for any more. */
  private async find(id: string, search: () => Promise<readonly FoundMask[] | null>): Promise<void> {
    if (this.isSearching.peek()) return;
    this.isSearching.value = true;
    try {
      const found = await search();
      if (id !== this.pictures.openId || !found) return;
      if (found.length === 0 && !this.wanted.peek()) this.notices.info(this.settings.t("nothingFound"));
      this.found.value = found.length === 0 ? null : found.map((item) => ({ ...item, id: newId() }));
      this.settings.tool.value = "select";
    } catch (error) {
      this.notices.error(messageOf(error), () => void this.find(id, search));
    } finally {
      this.isSearching.value = false;
      // A picture that was opened meanwhile waits for its turn.
      const next = this.pictures.promptable.peek();
      if (next !== null && next !== id) void this.findWanted(next);
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
    const changes = chosen.map(({ id, rle, score, phrase, similarity }): AnnotationChange => {
      const named = classes.find(({ name }) => name === phrase);
      const isLike = similarity !== undefined;
      const source: Source = isLike ? "similar" : phrase === null ? "everything" : "text";
      const after: Annotation = {
        id,
        rle,
        class_id: isLike ? (this.wanted.peek()?.class_id ?? null) : (named?.id ?? this.classes.chosen.peek()),
        name: phrase,
        visible: true,
        score,
        source,
        prompts: null,
        parent: null,
      };
      return { on: "annotation", image, id, before: null, after };
    });
    this.store.commit("keep", changes);
    const ids = new Set(chosen.map(({ id }) => id));
    const left = (this.shown.peek() ?? []).filter(({ id }) => !ids.has(id));
    // What is not shown goes with the last of what is.
    this.found.value = left.length > 0 ? (this.found.peek() ?? []).filter(({ id }) => !ids.has(id)) : null;
  }
}
