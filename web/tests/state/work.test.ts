import { expect, test } from "vitest";
import { ApiError, type Engine } from "../../src/api/backend";
import type { Annotation, Effort, Provenance, Task, Plan } from "../../src/api/types";
import { apply, type Change, type Document, emptyDocument } from "../../src/state/document";
import { awaits, rates, stamped } from "../../src/state/provenance";
import { IDLE, Stopwatch } from "../../src/state/stopwatch";
import { imagesOf, secondsPerMask, timeline } from "../../src/state/timeline";
import { type WorkHost, Work } from "../../src/state/work";
import { ticksUpTo } from "../../src/ui/chart";
import { annotation } from "../annotation";
import { none } from "../summary";

const rle = (counts: string) => ({ size: [2, 2] as [number, number], counts });
const by = (author: string, more: Partial<Provenance> = {}): Provenance => ({
  stage: "semi-automatic",
  author,
  origin: "added",
  model: "m",
  seconds: 0,
  clicks: 0,
  strokes: 0,
  ...more,
});
const mask = (id: string, counts = "04", provenance: Provenance | null = null): Annotation =>
  annotation(id, { rle: rle(counts), provenance });
const prefilled = (id: string) => mask(id, "04", by("model", { origin: "prefilled" }));
const put = (before: Annotation | null, after: Annotation | null): Change => ({
  on: "annotation",
  image: "1",
  id: (before ?? after)!.id,
  before,
  after,
});

test("a stopwatch stands still while hidden, and once nothing is done", () => {
  let now = 100;
  const watch = new Stopwatch(() => now);
  now += 10;
  expect(watch.seconds).toBe(10);
  watch.pause();
  now += 600;
  watch.resume();
  now += 5;
  expect(watch.endLap()).toBe(15);
  now += IDLE + 300;
  watch.touch();
  now += 2;
  expect(watch.lap).toBe(IDLE - 5 + 5 - 5 + 2);
  expect(watch.seconds).toBe(15 + watch.lap);
});

test("only masks that are made or reshaped get provenance, their time shared", () => {
  const maker = { author: "Ann", stage: "assisted", model: "m" } as const;
  const renamed = { ...mask("c"), name: "cup" };
  const changes = [put(null, mask("a")), put(null, mask("b")), put(mask("c"), renamed)];
  const made = stamped("keep", changes, maker, () => 8);
  const of = (index: number) => (made[index] as { after: Annotation }).after.provenance;
  expect(of(0)).toMatchObject({ author: "Ann", stage: "assisted", origin: "added", seconds: 4, strokes: 0 });
  expect(of(1)?.seconds).toBe(4);
  expect(of(2)).toBeNull();
  const first = (made[0] as { after: Annotation }).after;
  const again = stamped("draw", [put(first, { ...first, rle: rle("13") })], maker, () => 3);
  expect((again[0] as { after: Annotation }).after.provenance).toMatchObject({ seconds: 7, strokes: 1 });
});

test("rates count the present picture in", () => {
  expect(rates(none)).toMatchObject({ masks: 0, secondsPerMask: null, masksPerImage: null });
  const done = { ...none, images: 1, added: 3, seconds_per_mask: 10, clicks_per_mask: 2, by_hand: 1 / 3 };
  const made = [mask("a", "04", by("Ann", { strokes: 1 }))];
  const now = { effort: { seconds: 6, clicks: 2, strokes: 1 }, made };
  expect(rates(done, now)).toEqual({ masks: 4, secondsPerMask: 9, clicksPerMask: 2, masksPerImage: 2, byHand: 0.5 });
});

test("stretches without work keep their place in time", () => {
  const moment = { images: 2, masks: 6, kept: 4, seconds: 20, clicks: 8 };
  const moments = [
    { ...moment, at: 600, stage: "assisted" },
    { ...moment, at: 900, stage: "automatic" },
  ];
  const line = timeline({ width: 100, moments });
  expect(line.times).toEqual([600, 700, 800, 900]);
  expect(line.of("assisted", secondsPerMask)).toEqual([5, null, null, null]);
  expect(line.of("automatic", imagesOf)).toEqual([null, null, null, 2]);
  expect(timeline({ width: 1, moments: [] }).times).toEqual([]);
});

test("ticks are round, few, and reach the top", () => {
  for (const most of [0.7, 1, 3, 41, 99, 1234]) {
    const ticks = ticksUpTo(most);
    expect(ticks.at(-1)).toBeGreaterThanOrEqual(most);
    expect(ticks.length).toBeLessThanOrEqual(6);
  }
  expect(ticksUpTo(3)).toEqual([0, 1, 2, 3]);
  expect(ticksUpTo(0)).toEqual([0, 1]);
  expect(ticksUpTo(1)).toEqual([0, 0.25, 0.5, 0.75, 1]);
  expect(ticksUpTo(1, true)).toEqual([0, 1]);
  for (const most of [1, 2, 3, 7, 41, 1234]) expect(ticksUpTo(most, true).every(Number.isInteger)).toBe(true);
});

const plan: Plan = {
  queues: { assisted: queue(0), "semi-automatic": queue(1) },
  suggested: "semi-automatic",
  mask_seconds: 30,
  image_seconds: 0,
  asks_classes: false,
  lease_seconds: 900,
};
function queue(open: number) {
  return { open, leased: 0, done: 0, skipped: 0, quarantined: 0 };
}
const task: Task = {
  lease: { job: 1, image: "1", stage: "semi-automatic", worker: "Ann", token: "0".repeat(32), is_second: false },
  image: { id: "1", name: "a.jpg", width: 2, height: 2, state: "ready", error: null, revision: 1, num_annotations: 2 },
  statistics: { mine: none, all: none },
};

/** A picture with two of the model's masks at the head of a queue of one. */
function atWork() {
  let document: Document = {
    ...emptyDocument,
    image: "1",
    annotations: new Map([["1", new Map(["a", "b"].map((id) => [id, prefilled(id)]))]]),
  };
  const log: string[] = [];
  const sent: Effort[] = [];
  let [now, isHeld, left] = [0, true, 1];
  const kept = new Map<string, string>();
  const engine: Engine = {
    work: async () => plan,
    next: async () => ({ task: left-- > 0 ? task : null, work: plan }),
    renew: async () => isHeld,
    finish: async (_, effort) => {
      if (!isHeld) throw new ApiError(409, "another's");
      sent.push(effort);
      return task.statistics;
    },
    judge: async () => task.statistics,
    skip: async (_, reason) => (log.push(`skip ${reason}`), plan),
    giveBack: async () => plan,
    status: async () => Promise.reject(new Error("not here")),
  };
  const host: WorkHost = {
    open: (image) => void log.push(`open ${image.id}`),
    close: () => void log.push("close"),
    latest: async () => task.image,
    annotations: () => document.annotations.get("1")!,
    hasDraft: () => false,
    saved: async () => undefined,
    commit: (label, changes) => void (document = apply(document, work.stamp(label, changes))),
    select: (id) => void log.push(`select ${id}`),
    say: (what) => void log.push(what),
    fail: (message) => void log.push(message),
    model: "m",
  };
  const storage = {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
    removeItem: (key: string) => void kept.delete(key),
  };
  const make = () => new Work(engine, host, () => now, storage);
  const work = make();
  return {
    work,
    make,
    log,
    sent,
    annotations: () => [...host.annotations().values()],
    pass: (seconds: number) => void (now += seconds),
    lose: () => void (isHeld = false),
  };
}

test("a picture is done once every mask of the model was judged", async () => {
  const { work, log, sent, annotations, pass } = atWork();
  await work.take();
  work.ready();
  await work.finish();
  expect(log).toEqual(["open 1", "select a", "lookFirst"]);
  pass(3);
  work.confirm("a");
  pass(2);
  work.reject("b");
  expect(annotations().map(({ id, provenance }) => [id, provenance?.author, provenance?.seconds])).toEqual([
    ["a", "Ann", 3],
  ]);
  expect(annotations().some(awaits)).toBe(false);
  await work.finish();
  expect(sent).toEqual([{ seconds: 5, clicks: 0, strokes: 0 }]);
  expect(work.task.value).toBeNull();
});

test("a mask that takes too long is said to", async () => {
  const { work, pass } = atWork();
  await work.take();
  work.ready();
  pass(20);
  work.touch();
  pass(11);
  work.tick();
  expect(work.isLate.value).toBe(true);
  work.reject("a");
  work.tick();
  expect(work.isLate.value).toBe(false);
});

test("a reload goes on with the picture and its time; one that was lost meanwhile does not", async () => {
  const { work, make, log, pass, lose } = atWork();
  await work.take();
  work.ready();
  pass(4);
  work.tick();
  const next = make();
  await next.start();
  expect(next.task.value?.lease.job).toBe(1);
  expect(next.effort.value.seconds).toBe(4);
  lose();
  await next.finish();
  next.confirm("a");
  next.confirm("b");
  await next.finish();
  expect(log).toContain("lostPicture");
  expect(next.task.value).toBeNull();
});
