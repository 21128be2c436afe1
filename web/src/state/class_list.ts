/** The list of classes: kept in this browser as it is edited, and on the server as soon as that answers. */

import { signal } from "@preact/signals";
import { type Backend, Conflict } from "../api/backend";
import type { Classes, ClassInfo } from "../api/types";
import { mergeClasses } from "./rebase";
import { failureOf, type SaveState } from "./save_state";

/** An unsaved list: as the server had it, and as it is now. */
export interface ClassEdit {
  readonly base: readonly ClassInfo[];
  readonly ours: readonly ClassInfo[];
}

export interface ClassJournal {
  keepClasses(edit: ClassEdit | null): Promise<void>;
}

export class ClassList {
  readonly state = signal<SaveState>({ is: "saved" });
  private stored: Classes = { revision: 0, classes: [] };
  private sending = false;
  private held = false;
  private failures = 0;
  private refused: readonly ClassInfo[] | null = null;
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(
    private readonly backend: Pick<Backend, "putClasses">,
    private readonly journal: ClassJournal,
    private readonly client: string,
    private readonly shown: () => readonly ClassInfo[],
    private readonly show: (classes: readonly ClassInfo[]) => void,
  ) {}

  /** Take in what the server has; edits that still wait are brought onto it. */
  load(theirs: Classes, recovered: readonly ClassEdit[] = []): void {
    if (theirs.revision < this.stored.revision) return;
    let merged = mergeClasses(this.stored.classes, this.shown(), theirs.classes);
    for (const { base, ours } of recovered) merged = mergeClasses(base, ours, merged);
    this.stored = theirs;
    this.show(merged);
    void this.send();
  }

  /** Save the list that is shown, now. */
  save(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
    void this.send();
  }

  /** Send nothing any more. */
  hold(): void {
    this.held = true;
  }

  private async send(): Promise<void> {
    const classes = this.shown();
    // What was refused would be refused again.
    if (this.sending || this.held || this.timer !== null || classes === this.refused) return;
    this.refused = null;
    const { revision: base, classes: before } = this.stored;
    if (JSON.stringify(classes) === JSON.stringify(before)) {
      this.failures = 0;
      this.state.value = { is: "saved" };
      this.journal.keepClasses(null).catch(() => undefined);
      return;
    }
    this.sending = true;
    this.state.value = { is: "saving" };
    const kept = this.journal.keepClasses({ base: before, ours: classes }).catch(() => undefined);
    try {
      const revision = await this.backend.putClasses(base, this.client, classes);
      if (revision >= this.stored.revision) this.stored = { revision, classes };
    } catch (error) {
      await kept;
      if (error instanceof Conflict) this.load(error.present as Classes);
      else this.failed(error, classes);
    } finally {
      this.sending = false;
    }
    void this.send();
  }

  private failed(error: unknown, classes: readonly ClassInfo[]): void {
    const { state, wait } = failureOf(error, this.failures);
    this.failures += 1;
    this.state.value = state;
    if (state.is === "offline") this.timer = setTimeout(() => this.save(), wait * 1000);
    else this.refused = classes;
  }
}
