/** Changes on their way, kept in this browser's database under the tab that made them, and taken over from tabs gone. */

import type { Database } from "../api/database";
import type { Journal } from "./autosave";
import type { Draft } from "./document";
import type { Pending } from "./rebase";

export interface KeptDraft {
  readonly image: string;
  readonly draft: Draft;
}

const CLIENT = "anymask-client";
const lockOf = (client: string) => `anymask-tab-${client}`;

export class TabJournal implements Journal {
  private constructor(
    private readonly database: Database,
    private readonly project: string,
    /** This tab's name; it outlives a reload but not the tab. */
    readonly client: string,
  ) {}

  static async open(database: Database, project: string): Promise<TabJournal> {
    let client = sessionStorage.getItem(CLIENT) ?? crypto.randomUUID();
    // A duplicated tab has its sibling's storage, but not its lock.
    if (!(await holdLock(lockOf(client)))) {
      client = crypto.randomUUID();
      await holdLock(lockOf(client));
    }
    sessionStorage.setItem(CLIENT, client);
    return new TabJournal(database, project, client);
  }

  async put(image: string, pending: readonly Pending[]): Promise<void> {
    await this.database.put("journal", this.key(image), pending);
  }

  async clear(image: string): Promise<void> {
    await this.database.delete("journal", this.key(image));
  }

  /** Return by image what this tab before a reload, and tabs that are gone, did not get saved; it is now this tab's. */
  async recover(): Promise<Map<string, Pending[]>> {
    const live = await liveTabs();
    const found = new Map<string, Pending[]>();
    for (const [key, pending] of await this.database.entries<Pending[]>("journal")) {
      const [project, client, image] = JSON.parse(key) as [string, string, string];
      if (project !== this.project || (client !== this.client && live.has(lockOf(client)))) continue;
      const together = [...(found.get(image) ?? []), ...pending];
      found.set(image, together);
      await this.put(image, together);
      if (client !== this.client) await this.database.delete("journal", key);
    }
    return found;
  }

  async keepDraft(kept: KeptDraft | null): Promise<void> {
    if (kept) await this.database.put("drafts", this.key(""), kept);
    else await this.database.delete("drafts", this.key(""));
  }

  draft(): Promise<KeptDraft | undefined> {
    return this.database.get<KeptDraft>("drafts", this.key(""));
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
