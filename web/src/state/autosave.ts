/**
 * Every change is kept twice: in this browser at once, on the server as soon as it answers.
 *
 * One image's changes are sent in order, one request at a time; what gathers meanwhile goes together. A change leaves
 * the journal only when the server has acknowledged it, so that neither a reload nor a crash of either side loses it.
 */

import { signal } from "@preact/signals";
import { ApiError, type Backend, Conflict } from "../api/backend";
import type { Annotations } from "../api/types";
import { operation } from "./document";
import { joined, type Pending, type Rebased, rebase } from "./rebase";
import { failureOf, type SaveState } from "./save_state";

/** Where changes are kept until they are safe. */
export interface Journal {
  put(image: string, pending: readonly Pending[]): Promise<void>;
  clear(image: string): Promise<void>;
}

interface Queue {
  revision: number;
  pending: Pending[];
  sending: boolean;
  failures: number;
  timer: ReturnType<typeof setTimeout> | null;
  /** Settled once the journal holds what is pending. */
  kept: Promise<void>;
}

/** Changes per request; the server takes 5000. */
const MOST_CHANGES = 4000;

export class Autosave {
  readonly state = signal<SaveState>({ is: "saved" });
  private readonly queues = new Map<string, Queue>();
  private held = false;

  constructor(
    private readonly backend: Pick<Backend, "change">,
    private readonly journal: Journal,
    private readonly client: string,
    /** Called when what is stored differs from what the page shows. */
    private readonly rebased: (image: string, result: Rebased) => void,
    private readonly newId: () => string,
  ) {}

  /** Take in what the server has; changes that still wait are brought onto it. */
  load(image: string, stored: Annotations, recovered: readonly Pending[] = []): Rebased {
    const queue = this.queue(image);
    const result = rebase(stored.annotations, [...recovered, ...queue.pending], this.newId);
    queue.revision = stored.revision;
    queue.pending = [...result.pending];
    if (queue.pending.length > 0) this.keep(image, queue);
    else void this.journal.clear(image);
    this.send(image);
    return result;
  }

  add(image: string, changes: readonly Pending[]): void {
    const queue = this.queue(image);
    queue.pending.push(...changes);
    this.state.value = { is: "saving" };
    this.keep(image, queue);
    this.send(image);
  }

  revision(image: string): number | undefined {
    return this.queues.get(image)?.revision;
  }

  /** Try again now, as when the connection is back. */
  retry(): void {
    for (const [image, queue] of this.queues) {
      if (queue.timer !== null) clearTimeout(queue.timer);
      queue.timer = null;
      this.send(image);
    }
  }

  /** Send nothing any more; what waits stays in the journal. */
  hold(): void {
    this.held = true;
  }

  get isSafe(): boolean {
    return [...this.queues.values()].every(({ pending, sending }) => pending.length === 0 && !sending);
  }

  /** Resolve once all is saved; throw ApiError where it cannot be for now. */
  settled(): Promise<void> {
    return new Promise((resolve, reject) => {
      let isOver = false;
      const stop = this.state.subscribe((state) => {
        if (isOver || (state.is === "saving" && !this.isSafe)) return;
        isOver = true;
        queueMicrotask(() => stop());
        if (this.isSafe) resolve();
        else reject(new ApiError(0, "message" in state ? state.message : ""));
      });
    });
  }

  private queue(image: string): Queue {
    let queue = this.queues.get(image);
    if (!queue) {
      queue = { revision: -1, pending: [], sending: false, failures: 0, timer: null, kept: Promise.resolve() };
      this.queues.set(image, queue);
    }
    return queue;
  }

  private keep(image: string, queue: Queue): void {
    // A browser without storage still saves on the server.
    queue.kept = this.journal.put(image, queue.pending).catch(() => undefined);
  }

  private send(image: string): void {
    const queue = this.queue(image);
    if (this.held || queue.sending || queue.timer !== null || queue.revision < 0) return;
    const taken = queue.pending.slice(0, MOST_CHANGES);
    const batch = joined(taken);
    if (batch.length === 0) {
      queue.pending = queue.pending.slice(taken.length);
      if (queue.pending.length > 0) this.send(image);
      else void this.journal.clear(image);
      this.settle();
      return;
    }
    queue.sending = true;
    this.state.value = { is: "saving" };
    this.backend.change(image, queue.revision, this.client, batch.map(operation)).then(
      (revision) => this.acknowledged(image, queue, taken, revision),
      (error: unknown) => this.failed(image, queue, error),
    );
  }

  private acknowledged(image: string, queue: Queue, taken: readonly Pending[], revision: number): void {
    // A load may have overtaken this answer: then other changes wait, and the revision is newer.
    const safe = new Set(taken);
    queue.pending = queue.pending.filter((change) => !safe.has(change));
    queue.revision = Math.max(queue.revision, revision);
    queue.failures = 0;
    queue.sending = false;
    if (queue.pending.length === 0) void this.journal.clear(image);
    else this.keep(image, queue);
    this.send(image);
    this.settle();
  }

  private failed(image: string, queue: Queue, error: unknown): void {
    queue.sending = false;
    if (error instanceof Conflict) {
      this.rebased(image, this.load(image, error.present as Annotations));
      return;
    }
    const { state, wait } = failureOf(error, queue.failures);
    queue.failures += 1;
    const failure = queue.failures;
    void queue.kept.then(() => {
      // Only once the journal holds the changes, and not after a later attempt has succeeded.
      if (queue.failures === failure) this.state.value = state;
    });
    queue.timer = setTimeout(() => {
      queue.timer = null;
      this.send(image);
    }, wait * 1000);
  }

  private settle(): void {
    if (this.isSafe) this.state.value = { is: "saved" };
  }
}
