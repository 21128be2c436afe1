import { expect, test } from "vitest";
import { masksToJudge } from "../../src/api/local_annotations";
import { ApiError, type Engine } from "../../src/api/backend";
import type { Annotation, Judged, Task, Verdict, Plan } from "../../src/api/types";
import { apply, type Change, type Document, emptyDocument, inverted } from "../../src/state/document";
import { awaits } from "../../src/state/provenance";
import { sameAnnotation } from "../../src/state/rebase";
import { localDraftOf, asVerdicts, byConfidence, counted, judgements, ruled } from "../../src/state/verdicts";
import { type WorkHost, Work } from "../../src/state/work";
import { annotation } from "../annotation";
import { none } from "../summary";

const mask = (id: string, score: number | null = null, counts = "04"): Annotation =>
  annotation(id, { rle: { size: [2, 2], counts }, score, source: "everything", provenance: null });
const open = (id: string, score: number | null = null): Annotation => masksToJudge([mask(id, score)], [])[0]!;
const change = (before: Annotation | null, after: Annotation | null): Change => ({
  on: "annotation",
  image: "1",
  id: (before ?? after)!.id,
  before,
  after,
});
const reshaped = (before: Annotation, counts = "13"): Annotation => ({ ...before, rle: { size: [2, 2], counts } });
const afterOf = (changes: readonly Change[]) => changes.map((each) => (each as { after: Annotation }).after.verdict);

test("masks are judged by rising confidence, those of nobody's score last, and not those that one adds", () => {
  const all = [mask("mine"), open("b", 0.9), open("c"), open("a", 0.2)];
  expect(byConfidence(all).map(({ id }) => id)).toEqual(["a", "b", "c", "mine"]);
  expect(all.map(awaits)).toEqual([false, true, true, true]);
});

test("a word is said, changed and taken back", () => {
  const before = open("a", 0.5);
  const rejected = ruled(before, "Shows no object");
  expect(rejected.verdict).toMatchObject({ is: "reject", reason: "Shows no object", score: 0.5 });
  expect(awaits(rejected)).toBe(false);
  expect(sameAnnotation(before, rejected)).toBe(false);
  expect(sameAnnotation(rejected, ruled(before, "Another"))).toBe(false);
  expect(ruled(rejected, null).verdict).toEqual({ is: "accept", seen: "04", score: 0.5 });
  expect(ruled(reshaped(rejected), null).verdict?.is).toBe("fix");
  expect(ruled(mask("mine"), null).verdict).toBeUndefined();
  const [renamed] = asVerdicts([change(before, { ...before, name: "cup" })], "") as readonly { after: Annotation }[];
  expect(ruled(ruled(renamed!.after, "Shows no object"), null).verdict?.is).toBe("fix");
});

test("what is done to a mask is a word on it", () => {
  const before = open("a");
  const hidden = { ...before, visible: false };
  const renamed = { ...before, name: "cup" };
  const words = afterOf(
    asVerdicts(
      [change(before, reshaped(before)), change(before, null), change(before, hidden), change(before, renamed)],
      "Shows no object",
    ),
  );
  expect(words.map((word) => word?.is)).toEqual(["fix", "reject", "open", "fix"]);
  const added = change(null, mask("new"));
  expect(asVerdicts([added], "")).toEqual([added]);
});

test("the server is told every word once, and nothing that is this browser's", () => {
  const all = [
    ruled(open("right"), null),
    asVerdicts([change(open("loose"), reshaped(open("loose")))], "").map(
      (each) => (each as { after: Annotation }).after,
    )[0]!,
    ruled(open("none"), "Shows no object"),
    mask("new"),
  ];
  expect(counted(all)).toEqual({ open: 0, accept: 1, fix: 1, reject: 1 });
  const told = judgements(all);
  expect(told.judgements).toEqual([
    { key: "right", verdict: "accept" },
    { key: "loose", verdict: "fix", fixed: reshaped(mask("loose")) },
    { key: "none", verdict: "reject", reason: "Shows no object" },
  ]);
  expect(told.added).toEqual([mask("new")]);
});

test("words are kept for masks that are what they were", () => {
  const kept = [ruled(open("a"), null), ruled(open("b"), "Shows no object"), mask("mine")];
  const now = [mask("a"), mask("b", null, "13"), mask("c")];
  expect(masksToJudge(now, kept).map(({ id, verdict }) => [id, verdict?.is])).toEqual([
    ["a", "accept"],
    ["b", "open"],
    ["c", "open"],
    ["mine", undefined],
  ]);
  // Of another project, it seems.
  expect(masksToJudge([mask("a", null, "22")], kept).map(({ id }) => id)).toEqual(["a"]);
});

const queue = { open: 1, leased: 0, done: 0, skipped: 0, quarantined: 0 };
const plan: Plan = {
  queues: { assisted: queue, "semi-automatic": queue, review: queue, check: queue },
  suggested: null,
  mask_seconds: 5,
  image_seconds: 0,
  asks_classes: false,
  lease_seconds: 900,
};
const task: Task = {
  lease: { job: 7, image: "1", stage: "review", worker: "Eve", token: "0".repeat(32), is_second: false },
  image: { id: "1", name: "a.jpg", width: 2, height: 2, state: "ready", error: null, revision: 3, num_annotations: 2 },
  statistics: { mine: none, all: none },
};

test("work that is not for others yet is kept in this browser", () => {
  expect(localDraftOf(task)).toEqual({ key: "review 7", revision: 3 });
  expect(localDraftOf({ ...task, lease: { ...task.lease, stage: "assisted" } })).toBeNull();
  const second = { ...task.lease, stage: "assisted", is_second: true } as const;
  expect(localDraftOf({ ...task, lease: second })).toEqual({ key: "second 7", revision: null });
});

/** A picture with two masks in a review; what it is sent, and what the page does. */
function inReview() {
  let document: Document = {
    ...emptyDocument,
    image: "1",
    annotations: new Map([["1", new Map([open("sure", 0.9), open("unsure", 0.1)].map((each) => [each.id, each]))]]),
  };
  const log: string[] = [];
  const sent: Judged[] = [];
  const taken: (string | null)[] = [];
  let [last, refusals]: [readonly Change[], number] = [[], 0];
  const engine: Engine = {
    work: async () => plan,
    next: async (_, stage) => (taken.push(stage), { task: taken.length > 1 ? null : task, work: plan }),
    renew: async () => true,
    finish: async () => Promise.reject(new Error("not so")),
    judge: async (_, __, judged) => {
      if (refusals-- > 0) throw new ApiError(412, "changed");
      sent.push(judged);
      return task.statistics;
    },
    skip: async () => plan,
    giveBack: async () => (log.push("give back"), plan),
    status: async () => Promise.reject(new Error("not here")),
  };
  const host: WorkHost = {
    open: (image, local) => void log.push(`open ${image.revision} ${local?.key}`),
    close: () => void log.push("close"),
    latest: async () => ({ ...task.image, revision: 4 }),
    annotations: () => document.annotations.get("1")!,
    hasDraft: () => false,
    saved: async () => undefined,
    commit: (label, changes) => {
      if (changes.length === 0) return;
      last = work.stamp(label, changes);
      document = apply(document, last);
    },
    select: (id) => void log.push(`select ${id}`),
    say: (what) => void log.push(what),
    fail: (message) => void log.push(message),
    model: "m",
  };
  let now = 0;
  const storage = { getItem: () => null, setItem: () => undefined, removeItem: () => undefined };
  const work = new Work(engine, host, () => now, storage);
  return {
    work,
    log,
    sent,
    taken,
    host,
    word: (id: string): Verdict["is"] | undefined => host.annotations().get(id)?.verdict?.is,
    undo: () => void (document = apply(document, inverted(last))),
    refuse: () => void (refusals = 1),
    pass: (seconds: number) => void (now += seconds),
  };
}

test("a review goes mask by mask, and ends once each has a word", async () => {
  const { work, log, sent, taken, word, undo, pass } = inReview();
  await work.switchStage("review");
  expect(taken).toEqual([]);
  work.name.value = "Eve";
  await work.switchStage("review");
  work.ready();
  pass(10);
  work.tick();
  expect([work.judges.value, work.isLate.value]).toEqual([true, false]);
  await work.finish();
  expect(log).toEqual(["open 3 review 7", "select unsure", "judgeFirst"]);
  work.reject("unsure");
  expect([work.rejecting.value, word("unsure")]).toEqual([["unsure"], "open"]);
  work.rejectFor("Several objects in one");
  expect([work.rejecting.value, word("unsure"), log.at(-1)]).toEqual([null, "reject", "select sure"]);
  undo();
  expect(word("unsure")).toBe("open");
  work.confirm("unsure", "sure");
  expect(log.at(-1)).toBe("allJudged");
  await work.finish();
  const words = ["sure", "unsure"].map((key) => ({ key, verdict: "accept" }));
  expect(sent).toEqual([{ revision: 3, judgements: words, added: [] }]);
  expect(work.task.value).toBeNull();
});

test("a mask that was fixed is kept so, with what it took, and counts as done", async () => {
  const { work, sent, host, word, log, pass } = inReview();
  work.name.value = "Eve";
  await work.switchStage("review");
  work.ready();
  pass(4);
  const before = host.annotations().get("unsure")!;
  host.commit("draw", [change(before, reshaped(before))]);
  expect(word("unsure")).toBe("fix");
  work.confirm("unsure");
  expect([word("unsure"), log.at(-1)]).toEqual(["fix", "select sure"]);
  work.confirm("sure");
  expect(work.made()).toHaveLength(2);
  await work.finish();
  const fixed = sent[0]!.judgements[1]!.fixed;
  expect(fixed?.provenance).toMatchObject({ author: "Eve", stage: "review", seconds: 4, strokes: 1 });
  expect(fixed && "verdict" in fixed).toBe(false);
});

test("masks that others changed meanwhile are shown anew, and the picture is not done", async () => {
  const { work, sent, log, refuse } = inReview();
  work.name.value = "Eve";
  await work.switchStage("review");
  work.confirm("sure", "unsure");
  refuse();
  await work.finish();
  expect(log.slice(-2)).toEqual(["open 4 review 7", "judgeAgain"]);
  await work.finish();
  expect(sent.map(({ revision }) => revision)).toEqual([4]);
});

test("who turns to another stage leaves the picture to others", async () => {
  const { work, log, taken } = inReview();
  work.name.value = "Eve";
  await work.switchStage("review");
  await work.switchStage("review");
  expect(taken).toEqual(["review"]);
  await work.switchStage("check");
  expect(log).toEqual(["open 3 review 7", "give back", "close", "close"]);
  expect(taken).toEqual(["review", "check"]);
});
