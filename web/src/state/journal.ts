/** Unsaved changes in this browser's database, by tab; those of closed tabs are taken over. */

import type { Database } from "../api/database";
import { newId } from "../ids";
import type { Journal } from "./autosave";
import type { ClassEdit, ClassJournal } from "./class_list";
import type { Draft } from "./document";
import type { Pending } from "./rebase";

export interface KeptDraft {
  readonly image: string;
  readonly draft: Draft;
}

/** Changes that were not saved. */
export interface Recovered {
  /** Changes by image id. */
  readonly changes: Map<string, Pending[]>;
  readonly classes: readonly ClassEdit[];
}

/** Key of the class list, in place of an image's id. */
const CLASSES = "classes";
const CLIENT = "anymask-client";
const lockOf = (client: string) => `anymask-tab-${client}`;

export class TabJournal implements Journal, ClassJournal {
  /** Settled once the masks of which this page has told are written. */
  private written: Promise<unknown> = Promise.resolve();

  private constructor(
    private readonly database: Database,
    /** Its id: another project may be served at the same address, with image ids of its own. */
    readonly project: string,
    /** Hash of the model that answers prompts; a draft of another model is not continued. */
    private readonly model: string,
    /** This tab's name; it outlives a reload but not the tab. */
    readonly client: string,
  ) {}

  static async open(database: Database, project: string, model: string): Promise<TabJournal> {
    let client = sessionStorage.getItem(CLIENT) ?? newId();
    // A duplicated tab has its sibling's storage, but not its lock.
    if (!(await holdLock(lockOf(client)))) {
      client = newId();
      await holdLock(lockOf(client));
    }
    sessionStorage.setItem(CLIENT, client);
    return new TabJournal(database, project, model, client);
  }

  async put(image: string, pending: readonly Pending[]): Promise<void> {
    const writing = this.database.put("journal", this.key(image), pending);
    this.written = writing.catch(() => undefined);
    await writing;
  }

  async clear(image: string): Promise<void> {
    await this.database.delete("journal", this.key(image));
  }

  async keepClasses(edit: ClassEdit | null): Promise<void> {
    if (edit) await this.database.put("journal", this.key(CLASSES), edit);
    else await this.database.delete("journal", this.key(CLASSES));
  }

  /** Return what this tab before a reload, and closed tabs, did not save; it now belongs to this tab. */
  async recover(): Promise<Recovered> {
    const live = await liveTabs();
    const changes = new Map<string, Pending[]>();
    const classes: ClassEdit[] = [];
    for (const [key, value] of await this.database.entries("journal")) {
      const [project, client, image] = JSON.parse(key) as [string, string, string];
      if (project !== this.project || (client !== this.client && live.has(lockOf(client)))) continue;
      if (image === CLASSES) classes.push(value as ClassEdit);
      else {
        const together = [...(changes.get(image) ?? []), ...(value as Pending[])];
        changes.set(image, together);
        await this.put(image, together);
      }
      if (client !== this.client) await this.database.delete("journal", key);
    }
    return { changes, classes };
  }

  /** Keep the draft, or none any more; only after the mask that was made of it, which a reload could lose between. */
  async keepDraft(kept: KeptDraft | null): Promise<void> {
    await this.written;
    if (kept) await this.database.put("drafts", this.key(""), { ...kept, model: this.model });
    else await this.database.delete("drafts", this.key(""));
  }

  async draft(): Promise<KeptDraft | undefined> {
    const kept = await this.database.get<KeptDraft & { readonly model: string }>("drafts", this.key(""));
    return kept?.model === this.model ? kept : undefined;
  }

  private key(image: string): string {
    return JSON.stringify([this.project, this.client, image]);
  }
}

/** Hold a lock until the page goes; false if another tab has it. Without locks every tab believes itself alone. */
function holdLock(name: string): Promise<boolean> {
  if (!navigator.locks) return Promise.resolve(true);
  return new Promise((resolve) => {
    void navigator.locks.request(name, { ifAvailable: true }, (lock) => {
      resolve(lock !== null);
      return lock === null ? undefined : new Promise(() => undefined);
    });
  });
}

async function liveTabs(): Promise<Set<string>> {
  const held = navigator.locks ? (await navigator.locks.query()).held : [];
  return new Set((held ?? []).map(({ name }) => name ?? ""));
}
