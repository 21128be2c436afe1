/** A person at work in a data engine's project: the picture from the queue, its time, its verdicts, its end. */

import { computed, signal } from "@preact/signals";
import { ApiError, type Engine } from "../api/backend";
import type { Annotation, Effort, ImageInfo, Lease, LocalDraft, Plan, Stage, Statistics, Task } from "../api/types";
import { en } from "../i18n/en";
import type { StringKey } from "../i18n/language";
import type { Change } from "./document";
import { persisted } from "./appearance";
import { awaits, type Maker, provenanceOf, stamped } from "./provenance";
import { Stopwatch } from "./stopwatch";
import { asVerdicts, byConfidence, isJudged, judgements, localDraftOf, ruled } from "./verdicts";

/** What a Work needs of the page. */
export interface WorkHost {
  /** Show a picture; what is done on it goes into a `local` draft where one is given. */
  open(image: ImageInfo, local: LocalDraft | null): void;
  close(): void;
  /** Fetch a picture's present state from the server. */
  latest(image: string): Promise<ImageInfo>;
  annotations(): ReadonlyMap<string, Annotation>;
  hasDraft(): boolean;
  /** Resolves once every change is on the server's disk; rejects where the server refuses. */
  saved(): Promise<void>;
  commit(label: StringKey, changes: readonly Change[]): void;
  select(id: string | null): void;
  say(what: StringKey, blanks?: Record<string, string | number>): void;
  fail(message: string, retry: (() => void) | null): void;
  readonly model: string | null;
}

/** The task as it is kept over a reload. */
interface Kept extends Effort {
  readonly task: Task;
  readonly plan: Plan;
}
const KEPT = "anymask-task";
const TICK_MS = 1000;

export class Work {
  readonly name = persisted("worker", "");
  /** The chosen stage; null takes what the server suggests. */
  readonly stage = persisted<Stage | null>("stage", null);
  readonly plan = signal<Plan | null>(null);
  readonly task = signal<Task | null>(null);
  readonly statistics = signal<Statistics | null>(null);
  readonly isBusy = signal(false);
  /** Whether every mask of the picture gets a verdict, as in a review or a check. */
  readonly judges = computed(() => isJudged(this.task.value?.lease.stage));
  readonly skipping = signal(false);
  /** Masks that are about to be rejected, once there is a reason. */
  readonly rejecting = signal<readonly string[] | null>(null);
  /** Effort on this picture so far, updated once a second. */
  readonly effort = signal<Effort>({ seconds: 0, clicks: 0, strokes: 0 });
  readonly maskSeconds = signal(0);
  /** Seconds after which to move on to the next mask; 0 sets no limit. */
  readonly maskLimit = computed(() => (this.judges.value ? 0 : (this.plan.value?.mask_seconds ?? 0)));
  readonly isLate = computed(() => this.maskLimit.value > 0 && this.maskSeconds.value > this.maskLimit.value);
  readonly isOverdue = computed(() => {
    const limit = this.plan.value?.image_seconds ?? 0;
    return limit > 0 && this.effort.value.seconds > limit;
  });
  private watch: Stopwatch;
  private renewed = 0;
  private isReady = false;

  constructor(
    readonly engine: Engine,
    private readonly host: WorkHost,
    private readonly now: () => number = () => performance.now() / 1000,
    private readonly storage: Pick<Storage, "getItem" | "setItem" | "removeItem"> = sessionStorage,
  ) {
    this.watch = new Stopwatch(now);
  }

  /** The picture's masks in the order of work: as they were made, or the least confident first. */
  readonly inOrder = (): Annotation[] => {
    const all = this.host.annotations().values();
    return this.judges.value ? byConfidence(all) : [...all];
  };

  /** Masks that wait for a verdict. */
  readonly waiting = (): Annotation[] => this.inOrder().filter(awaits);

  /** Masks of this picture that count as this person's: made or, in a review or a check, accepted. */
  readonly made = (): Annotation[] => {
    const lease = this.task.value?.lease;
    const isMine = ({ provenance, verdict }: Annotation) =>
      verdict
        ? verdict.is === "accept" || verdict.is === "fix"
        : provenance?.author === lease?.worker && provenance?.stage === lease?.stage;
    return [...this.host.annotations().values()].filter(isMine);
  };

  /** Go on with the picture from before a reload, or ask what there is to do. */
  async start(): Promise<void> {
    const kept = this.recall();
    if (kept && (await this.engine.renew(kept.task.lease).catch(() => false))) this.begin(kept.task, kept.plan, kept);
    else {
      this.storage.removeItem(KEPT);
      await this.refresh();
    }
  }

  async refresh(): Promise<void> {
    await this.doing(async () => {
      this.plan.value = await this.engine.work();
    }, this.refresh);
  }

  take = (): Promise<void> =>
    this.doing(async () => {
      const { task, work } = await this.engine.next(this.name.peek().trim(), this.stage.peek());
      if (task) this.begin(task, work);
      else this.end(work);
    }, this.take);

  /** Finish the picture and take the next. */
  finish = (): Promise<void> =>
    this.doing(async () => {
      const { task } = this;
      const lease = task.peek()?.lease;
      if (!lease) return;
      if (this.host.hasDraft()) return this.host.say("draftFirst");
      const waiting = this.waiting();
      const judges = this.judges.peek();
      if ((judges || lease.stage === "semi-automatic") && waiting.length > 0) {
        this.host.select(waiting[0]!.id);
        return this.host.say(judges ? "judgeFirst" : "lookFirst", { count: waiting.length });
      }
      await this.host.saved();
      if (judges && !(await this.judged(task.peek()!))) return;
      const masks = lease.is_second ? [...this.host.annotations().values()].map(({ rle }) => rle) : [];
      if (!judges) await this.engine.finish(lease, this.spent(), masks);
      await this.goOn();
    }, this.finish);

  /** Send the verdicts; false if masks changed meanwhile, which are then shown anew. */
  private async judged({ lease, image }: Task): Promise<boolean> {
    const said = judgements(this.host.annotations().values());
    try {
      await this.engine.judge(lease, this.spent(), { revision: image.revision, ...said });
      return true;
    } catch (error) {
      if (!(error instanceof ApiError && error.status === 412)) throw error;
      const now = await this.host.latest(lease.image);
      this.begin({ ...this.task.peek()!, image: now }, this.plan.peek()!, this.spent());
      this.host.say("judgeAgain");
      return false;
    }
  }

  skip = (reason: string): Promise<void> =>
    this.doing(
      async () => {
        const lease = this.task.peek()?.lease;
        if (!lease) return;
        await this.host.saved();
        await this.engine.skip(lease, reason);
        await this.goOn();
      },
      () => this.skip(reason),
    );

  /** Give the picture back to the queue; its masks stay. */
  pause = (): Promise<void> =>
    this.doing(async () => {
      const lease = this.task.peek()?.lease;
      if (!lease) return;
      await this.host.saved();
      this.end(await this.engine.giveBack(lease));
    }, this.pause);

  /** Change to another stage, and give back the picture of the present one. */
  async switchStage(stage: Stage): Promise<void> {
    const now = this.task.peek()?.lease.stage;
    if (now && now !== stage) {
      if (this.host.hasDraft()) return this.host.say("draftFirst");
      await this.pause();
      if (this.task.peek()) return;
    }
    this.stage.value = stage;
    if (!this.task.peek() && this.name.peek().trim()) await this.take();
  }

  // Verdicts

  confirm(...ids: string[]): void {
    if (this.judges.peek()) return this.rule(ids, null);
    const [id] = ids;
    if (id === undefined) return;
    this.judge(id, (before, maker) => {
      const effort = { seconds: this.watch.endLap(), clicks: 0, strokes: 0 };
      return { ...before, provenance: provenanceOf(before, maker, effort) };
    });
  }

  /** Reject masks; in a review or a check, ask for the reason first. */
  reject(...ids: string[]): void {
    if (this.judges.peek()) {
      const judged = ids.filter((id) => this.host.annotations().get(id)?.verdict);
      if (judged.length > 0) this.rejecting.value = judged;
      this.skipping.value = false;
      return;
    }
    const [id] = ids;
    if (id === undefined) return;
    this.watch.endLap();
    this.judge(id, () => null);
  }

  rejectFor(reason: string): void {
    const ids = this.rejecting.peek() ?? [];
    this.rejecting.value = null;
    this.rule(ids, reason);
  }

  /** Set the verdict of masks, and select the first that has none. */
  private rule(ids: readonly string[], reason: string | null): void {
    const image = this.task.peek()?.lease.image;
    if (image === undefined) return;
    const changes = ids.flatMap((id): Change[] => {
      const before = this.host.annotations().get(id);
      const after = before && ruled(before, reason);
      const isNews = after?.verdict && (after.verdict.is !== before?.verdict?.is || reason !== null);
      return isNews ? [{ on: "annotation", image, id, before: before!, after }] : [];
    });
    this.watch.endLap();
    this.rejecting.value = null;
    this.host.commit(reason === null ? "accept" : "reject", changes);
    this.host.select(this.waiting()[0]?.id ?? null);
    if (this.waiting().length === 0) this.host.say("allJudged");
  }

  private judge(id: string, outcome: (before: Annotation, maker: Maker) => Annotation | null): void {
    const [task, before] = [this.task.peek(), this.host.annotations().get(id)];
    if (!task || !before || !awaits(before)) return;
    const after = outcome(before, this.maker(task.lease));
    const change = { on: "annotation", image: task.lease.image, id, before, after } as const;
    this.host.commit(after ? "confirm" : "reject", [change]);
    this.host.select(this.waiting()[0]?.id ?? null);
  }

  /** Count clicks and strokes, and put provenance on the masks that changes make. */
  stamp = (label: StringKey, changes: readonly Change[]): readonly Change[] => {
    const task = this.task.peek();
    if (!task) return changes;
    const { clicks, strokes } = this.effort.peek();
    this.watch.touch();
    const more = { clicks: clicks + Number(label === "segment"), strokes: strokes + Number(isStroke(label)) };
    const said = asVerdicts(changes, en.rejectNothing);
    const result = stamped(label, said, this.maker(task.lease), () => this.watch.endLap());
    this.effort.value = { seconds: this.watch.seconds, ...more };
    this.tick();
    return result;
  };

  // Time

  touch = (): void => this.watch.touch();
  hide = (isHidden: boolean): void => (isHidden ? this.watch.pause() : this.watch.resume());

  /** The picture can be worked on: its time begins now, without that of its loading. */
  ready(): void {
    if (this.isReady) return;
    this.isReady = true;
    this.watch = new Stopwatch(this.now, this.effort.peek().seconds);
  }

  /** Once a second. */
  tick = (): void => {
    const task = this.task.peek();
    if (!task || !this.isReady) return;
    this.effort.value = { ...this.effort.peek(), seconds: this.watch.seconds };
    this.maskSeconds.value = this.watch.lap;
    this.keep(task);
    const every = (this.plan.peek()?.lease_seconds ?? 900) / 3;
    if (this.now() - this.renewed < every || this.watch.idle > 3 * every) return;
    this.renewed = this.now();
    void this.engine.renew(task.lease).then(
      (held) => !held && this.task.peek() === task && this.lost(),
      () => undefined, // The server is away: the lease is good until another has it.
    );
  };

  run(): () => void {
    const timer = setInterval(this.tick, TICK_MS);
    return () => clearInterval(timer);
  }

  private begin(task: Task, plan: Plan, effort: Effort = { seconds: 0, clicks: 0, strokes: 0 }): void {
    const { seconds, clicks, strokes } = effort;
    this.plan.value = plan;
    this.statistics.value = task.statistics;
    this.task.value = task;
    this.effort.value = { seconds, clicks, strokes };
    this.maskSeconds.value = 0;
    this.skipping.value = false;
    this.rejecting.value = null;
    this.isReady = false;
    this.renewed = this.now();
    this.keep(task);
    this.host.open(task.image, localDraftOf(task));
  }

  private end(plan: Plan): void {
    this.plan.value = plan;
    this.task.value = null;
    this.skipping.value = false;
    this.rejecting.value = null;
    this.storage.removeItem(KEPT);
    this.host.close();
  }

  private lost(): void {
    this.host.say(this.judges.peek() ? "lostVerdicts" : "lostPicture");
    if (this.plan.peek()) this.end(this.plan.peek()!);
    void this.refresh();
  }

  private async goOn(): Promise<void> {
    const { task, work } = await this.engine.next(this.name.peek().trim(), this.stage.peek());
    if (task) this.begin(task, work);
    else this.end(work);
  }

  private async doing(action: () => Promise<void>, again: () => Promise<void>): Promise<void> {
    if (this.isBusy.peek()) return;
    this.isBusy.value = true;
    try {
      await action();
    } catch (error) {
      if (error instanceof ApiError && error.status === 409) this.lost();
      else this.host.fail(error instanceof Error ? error.message : String(error), () => void again());
    } finally {
      this.isBusy.value = false;
    }
  }

  private spent(): Effort {
    const { clicks, strokes } = this.effort.peek();
    return { seconds: this.isReady ? this.watch.seconds : this.effort.peek().seconds, clicks, strokes };
  }

  private maker({ worker, stage }: Lease): Maker {
    return { author: worker, stage, model: this.host.model };
  }

  private keep(task: Task): void {
    const kept: Kept = { task, plan: this.plan.peek()!, ...this.effort.peek() };
    this.storage.setItem(KEPT, JSON.stringify(kept));
  }

  private recall(): Kept | null {
    try {
      return JSON.parse(this.storage.getItem(KEPT) ?? "null") as Kept | null;
    } catch {
      return null;
    }
  }
}

const isStroke = (label: StringKey): boolean => label === "draw" || label === "erase";
