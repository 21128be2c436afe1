/**
 * Every change kept twice: in this browser at once, on the server as soon as it answers.
 *
 * One image's changes are sent in order, one request at a time; what gathers meanwhile goes together. A change leaves
 * the journal only when the server has acknowledged it, so that neither a reload nor a crash of either side loses it.
 */

import { signal } from "@preact/signals";
import { ApiError, type Backend, Conflict } from "../api/backend";
import type { Annotations } from "../api/types";
import { operation } from "./document";
import { joined, type Pending, type Rebased, rebase } from "./rebase";

export type SaveState =
  | { readonly is: "saved" }
  | { readonly is: "saving" }
  | { readonly is: "offline"; readonly message: string }
  | { readonly is: "refused"; readonly message: string };

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

const FIRST_WAIT = 1;
const LONGEST_WAIT = 30;
/** Of one request; the server takes 5000. */
const MOST_CHANGES = 4000;

export class Autosave {
  readonly state = signal<SaveState>({ is: "saved" });
  private readonly queues = new Map<string, Queue>();

  constructor(
    private readonly backend: Pick<Backend, "change">,
    private readonly journal: Journal,
    private readonly client: string,
    /** Told when what is stored differs from what the page shows. */
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
    if (queue.sending || queue.timer !== null || queue.revision < 0) return;
    const taken = Math.min(queue.pending.length, MOST_CHANGES);
    const batch = joined(queue.pending.slice(0, taken));
    if (batch.length === 0) {
      queue.pending = queue.pending.slice(taken);
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

  private acknowledged(image: string, queue: Queue, taken: number, revision: number): void {
    queue.pending = queue.pending.slice(taken);
    queue.revision = revision;
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
    const message = error instanceof Error ? error.message : String(error);
    const passes = error instanceof ApiError && (error.isOffline || error.status === 429 || error.status >= 500);
    const asked = error instanceof ApiError ? error.retryAfter : null;
    const wait = asked ?? Math.min(FIRST_WAIT * 2 ** queue.failures, LONGEST_WAIT);
    queue.failures += 1;
    const failure = queue.failures;
    void queue.kept.then(() => {
      // Said when the page may be closed without loss, and not after a later attempt has gone through.
      if (queue.failures === failure) this.state.value = { is: passes ? "offline" : "refused", message };
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
