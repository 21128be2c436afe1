import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ApiError, type Backend } from "../../src/api/backend";
import type { Annotation, Classes, ClassInfo, FoundMask, ImageInfo, Info, ServerEvent } from "../../src/api/types";
import type { ModelSession } from "../../src/model/session";
import { decode, encode } from "../../src/geometry/rle";
import { App } from "../../src/state/app";
import type { Draft } from "../../src/state/document";
import type { KeptDraft, TabJournal } from "../../src/state/journal";
import type { Platform } from "../../src/state/platform";
import { annotation } from "../annotation";

const info: Info = {
  version: "1",
  project: "ours",
  project_id: "ours",
  model: {
    name: "m",
    hash: "abc",
    image_size: 256,
    fit: "pad",
    pads_boxes: false,
    embedding_size: 32,
    width: 128,
    mask_size: 128,
  },
  text: false,
  limits: { bytes: 1, pixels: 1 },
  samples: [],
};
const item = (id: number, name: string): ClassInfo => ({ id, name, color: "#000000", key: null });
const mask = annotation("a");
const image = (id: string): ImageInfo => ({
  id,
  name: `${id}.jpg`,
  width: 800,
  height: 600,
  state: "ready",
  revision: 0,
  num_annotations: 0,
});

const stored = new Map<string, string>();
const reload = vi.fn();
const download = vi.fn();
const platform: Platform = {
  isMac: false,
  isWide: true,
  readPicture: async (_, size) => ({ size, levels: [], copy: async () => ({}) as ImageBitmap, close: () => undefined }),
  download,
  reload,
  fragment: () => "",
  setFragment: () => undefined,
  onFragment: () => undefined,
};
/** A model that is loaded at once and has every image. */
const session = { load: async () => ({ device: "none" }), hasImage: async () => true } as unknown as ModelSession;

beforeEach(() => {
  stored.clear();
  reload.mockClear();
  download.mockClear();
  vi.stubGlobal("navigator", { language: "en" });
  vi.stubGlobal("localStorage", {
    getItem: (key: string) => stored.get(key) ?? null,
    setItem: (key: string, value: string) => void stored.set(key, value),
  });
});
afterEach(() => vi.unstubAllGlobals());

/** The page on a server whose answers and events are played here. */
async function begin({
  project = "ours",
  classes = [] as readonly ClassInfo[],
  images = [] as readonly ImageInfo[],
  masks = [] as readonly Annotation[],
  kept = undefined as KeptDraft | undefined,
} = {}) {
  const drafts: (KeptDraft | null)[] = [];
  const sent: unknown[] = [];
  let hear: (event: ServerEvent) => void = () => undefined;
  let fails: Error | null = null;
  let last = 40;
  const send = async (what: unknown) => {
    sent.push(what);
    if (fails) throw fails;
    return sent.length;
  };
  const samples = { a: image("a"), b: image("b") };
  const found: FoundMask[] = [{ rle: mask.rle, score: 0.9, phrase: null }];
  const alike: FoundMask[] = [0.9, 0.3].map((similarity) => ({ ...found[0]!, similarity }));
  const looked: unknown[] = [];
  const backend = {
    kind: "server",
    model: { decoder: "fake", base: "", encodes: false },
    engine: null,
    images: async () => images,
    sample: async (name: "a" | "b") => samples[name],
    picture: async () => new Blob(),
    annotations: async () => ({ revision: 0, annotations: masks }),
    encode: async (id: "a" | "b") => samples[id],
    everything: async () => found,
    leastScores: async () => new Map(),
    similar: async (...what: unknown[]) => {
      looked.push(what);
      return alike;
    },
    download: async (format: string, ids: readonly string[], outlines: { tolerance: number } | null) => {
      if (fails) throw fails;
      return { blob: new Blob(), name: `${format} ${ids.join()}${outlines ? ` within ${outlines.tolerance}` : ""}` };
    },
    classes: async (): Promise<Classes> => ({ revision: 0, classes }),
    classId: async () => ++last,
    change: (...what: unknown[]) => send(what),
    putClasses: (...what: unknown[]) => send(what),
    listen: (listener: typeof hear) => {
      hear = listener;
      return () => undefined;
    },
  } as unknown as Backend;
  const journal = {
    project,
    client: "me",
    put: async () => undefined,
    clear: async () => undefined,
    keepClasses: async () => undefined,
    keepDraft: async (draft: KeptDraft | null) => void drafts.push(draft),
    recover: async () => ({ changes: new Map(), classes: [] }),
    draft: async () => kept,
  } as unknown as TabJournal;
  const app = new App(backend, journal, session, platform);
  await app.start({ ...info, project_id: project });
  return {
    app,
    sent,
    drafts,
    looked,
    hear: (event: ServerEvent) => hear(event),
    fail: (error: Error | null) => (fails = error),
  };
}
const settle = () => new Promise((resolve) => setTimeout(resolve));
const hello = (changed: object = {}): ServerEvent => ({
  type: "hello",
  project_id: "ours",
  model_hash: "abc",
  ...changed,
});

/** The page, with a mask and a class that a server which is away did not get; it answers again. */
async function interrupted() {
  const page = await begin();
  page.fail(new ApiError(0, "away"));
  page.app.store.load("1", { revision: 0, annotations: [] });
  page.app.store.commit("draw", [{ on: "annotation", image: "1", id: "a", before: null, after: mask }]);
  await page.app.classes.add("cup");
  await settle();
  expect(page.app.store.saving.value.is).toBe("offline");
  page.fail(null);
  page.sent.length = 0;
  return page;
}

test("a server that is back gets what it missed", async () => {
  const { app, sent, hear } = await interrupted();
  hear(hello());
  await settle();
  expect(sent).toHaveLength(2);
  expect(app.store.saving.value.is).toBe("saved");
  expect(reload).not.toHaveBeenCalled();
});

test.each([{ project_id: "theirs" }, { model_hash: "newer" }])(
  "a server of another project or model gets nothing: %o",
  async (changed) => {
    const { app, sent, hear } = await interrupted();
    hear(hello(changed));
    app.store.retry();
    await settle();
    expect(sent).toEqual([]);
    expect(reload).toHaveBeenCalledOnce();
  },
);

test("the class of new masks is a project's own, and of its list", async () => {
  const classes = [item(7, "cup")];
  const { app } = await begin({ classes });
  app.masks.setClass(7);
  expect((await begin({ classes })).app.classes.chosen.value).toBe(7);
  expect((await begin({ classes, project: "theirs" })).app.classes.chosen.value).toBeNull();
  expect((await begin({ classes: [item(8, "fork")] })).app.classes.chosen.value).toBeNull();
  app.classes.remove(7);
  expect(app.classes.chosen.value).toBeNull();
});

test("a new class has the id that the server gives, not that of one that is gone", async () => {
  const { app } = await begin({ classes: [item(7, "cup")] });
  app.classes.remove(7);
  await app.classes.add();
  expect(app.store.document.value.classes).toMatchObject([{ id: 41, name: "class 41" }]);
  expect(app.classes.chosen.value).toBe(41);
});

test("a picture that is opened can be asked about, and only the change to another can be undone", async () => {
  const { app } = await begin();
  const { pictures, store } = app;
  await pictures.addSample("a");
  await settle();
  expect(pictures.promptable.value).toBe("a");
  expect(pictures.size.value).toEqual([600, 800]);
  expect(app.settings.brush.value).toBe(10);
  expect(store.history.value.past).toEqual([]);
  await pictures.addSample("b");
  await settle();
  expect(pictures.promptable.value).toBe("b");
  app.undo();
  expect(pictures.openId).toBe("a");
  app.step(1);
  expect(pictures.openId).toBe("b");
  app.step(1);
  expect(pictures.openId).toBe("b");
});

test("what is found is picked, kept and undone, and goes with its picture", async () => {
  const { app } = await begin();
  const { pictures, proposals, store } = app;
  await pictures.addSample("a");
  await settle();
  await proposals.findEverything();
  const [first] = proposals.shown.value!;
  expect(proposals.at({ x: 5, y: 5 })).toBeNull();
  expect(app.settings.tool.value).toBe("select");
  proposals.accept([first!]);
  expect([...store.annotations.value.values()]).toMatchObject([{ id: first!.id, source: "everything", score: 0.9 }]);
  expect(proposals.shown.value).toBeNull();
  app.undo();
  expect(store.annotations.value.size).toBe(0);
  await proposals.findEverything();
  await pictures.addSample("b");
  expect(proposals.shown.value).toBeNull();
});

test("what is like a mask is proposed here and in the next pictures, until it is dropped", async () => {
  const { app, looked } = await begin({ classes: [item(7, "cup")] });
  const { pictures, proposals, store } = app;
  await pictures.addSample("a");
  await settle();
  const after = { ...annotation("x"), class_id: 7 };
  store.commit("draw", [{ on: "annotation", image: "a", id: "x", before: null, after }]);
  await proposals.findLike([after]);
  expect(looked).toEqual([["a", [{ image: "a", rle: after.rle }], 0.2]]);
  expect(proposals.shown.value).toMatchObject([{ similarity: 0.9 }]);
  app.settings.similarity.value = 0.2;
  expect(proposals.shown.value).toHaveLength(2);
  proposals.accept(proposals.shown.value!.slice(0, 1));
  expect([...store.annotations.value.values()].at(-1)).toMatchObject({ source: "similar", class_id: 7, score: 0.9 });
  expect(proposals.shown.value).toHaveLength(1);
  await pictures.addSample("b");
  await settle();
  expect(looked.slice(1)).toEqual([["b", [{ image: "a", rle: after.rle }], 0.2]]);
  expect(proposals.shown.value).toHaveLength(2);
  proposals.drop();
  expect(proposals.shown.value).toBeNull();
  app.step(-1);
  await settle();
  expect(looked).toHaveLength(2);
});

test("masks are copied to another picture, and beside themselves on their own", async () => {
  const { app } = await begin();
  const { masks, pictures, store } = app;
  expect(masks.paste()).toBe(false);
  await pictures.addSample("a");
  await settle();
  const rle = encode({ size: [600, 800], x: 10, y: 20, width: 2, height: 2, bits: new Uint8Array(4).fill(1) });
  const after = { ...annotation("x"), rle, class_id: 7, name: "cup", score: 0.9 };
  store.commit("draw", [{ on: "annotation", image: "a", id: "x", before: null, after }]);
  expect(masks.copy()).toBe(0);
  masks.select("x");
  expect(masks.copy()).toBe(1);
  expect(masks.paste()).toBe(true);
  const beside = [...store.annotations.value.values()].at(-1)!;
  expect(decode(beside.rle)).toMatchObject({ x: 30, y: 40, width: 2, height: 2 });
  expect([...masks.selection.value]).toEqual([beside.id]);
  await pictures.addSample("b");
  await settle();
  masks.paste();
  const [pasted] = store.annotations.value.values();
  expect(pasted).toMatchObject({ rle, class_id: 7, name: "cup", score: null });
  app.undo();
  expect(store.annotations.value.size).toBe(0);
});

test("the strip shows pictures of a kind, and keys go through those", async () => {
  const { app } = await begin();
  const { pictures, store } = app;
  for (const id of ["a", "b"]) {
    await pictures.addSample(id);
    await settle();
  }
  store.commit("draw", [{ on: "annotation", image: "b", id: "x", before: null, after: annotation("x") }]);
  const listed = () => pictures.listed.value.map(({ id }) => id);
  await pictures.choose("unsure");
  expect(listed()).toEqual(["b"]); // The open one.
  app.step(-1);
  expect(pictures.openId).toBe("b");
  await pictures.choose("empty");
  expect(listed()).toEqual(["a", "b"]);
  app.step(-1);
  await settle();
  expect(listed()).toEqual(["a"]);
});

test("masks are selected by turns, hidden, and deleted", async () => {
  const { app } = await begin();
  const { masks, pictures, store } = app;
  await pictures.addSample("a");
  await settle();
  for (const id of ["x", "y"]) {
    const after = annotation(id);
    store.commit("draw", [{ on: "annotation", image: "a", id, before: null, after }]);
  }
  expect(masks.listed().map(({ id }) => id)).toEqual(["y", "x"]);
  masks.step(1);
  masks.step(1);
  expect(masks.selected.value?.id).toBe("x");
  masks.select("y", true);
  expect(masks.selected.value).toBeNull();
  masks.toggleVisible(masks.selection.value);
  expect([...store.annotations.value.values()].map(({ visible }) => visible)).toEqual([false, false]);
  masks.removeSelected();
  expect(store.annotations.value.size).toBe(0);
  expect(masks.selection.value.size).toBe(0);
});

test("an export is downloaded; one that fails says so and can be tried again", async () => {
  const { app, fail } = await begin();
  await app.pictures.addSample("a");
  await app.export("coco", false);
  expect(download).toHaveBeenLastCalledWith(expect.any(Blob), "coco a");
  app.settings.outlines.value = true;
  app.settings.tolerance.value = 2;
  await app.export("coco", false);
  expect(download).toHaveBeenLastCalledWith(expect.any(Blob), "coco a within 2");
  await app.export("sa1b", false);
  expect(download).toHaveBeenLastCalledWith(expect.any(Blob), "sa1b a");
  app.settings.outlines.value = false;
  fail(new ApiError(0, "away"));
  await app.export("coco", true);
  expect(app.notices.current.value).toMatchObject({ text: "away", kind: "error" });
  fail(null);
  app.notices.current.value!.retry!();
  await settle();
  expect(download).toHaveBeenLastCalledWith(expect.any(Blob), "coco ");
});

test("files that are no pictures, or too large, are named", async () => {
  const { app } = await begin();
  await app.addFiles([new File(["text"], "notes.txt", { type: "text/plain" })]);
  expect(app.notices.current.value?.text).toContain("notes.txt is not a picture");
  await app.addFiles([new File(["too large"], "large.png", { type: "image/png" })]);
  expect(app.notices.current.value?.text).toContain("large.png has 0 MB");
  app.notices.close();
  expect(app.notices.current.value).toBeNull();
});

const nameless = {
  points: [{ x: 3, y: 4.5, label: 1 }],
  box: null,
  answer: { ranked: [], best: 0, milliseconds: 0 },
  chosen: 0,
  replaces: null,
} as unknown as Draft;
const draft: Draft = { ...nameless, id: "new" };
const prompts = { box: null, labels: [1], points: [[3, 4.5]] };

test.each<[string, Draft, Annotation[], boolean]>([
  ["its mask is not there", draft, [mask], true],
  ["its mask is there", draft, [mask, annotation("new")], false],
  ["the mask that it replaces is as it was", { ...draft, replaces: "a" }, [mask], true],
  ["the mask that it replaces was made of it", { ...draft, replaces: "a" }, [annotation("a", { prompts })], false],
  ["it was kept by a page that gave it no name", nameless, [mask], true],
])("a draft comes back with the page unless a mask was made of it: %s", async (_, kept, masks, comesBack) => {
  const { app, drafts } = await begin({ images: [image("a")], masks, kept: { image: "a", draft: kept } });
  await settle();
  expect(app.store.annotations.value.size).toBe(masks.length);
  expect(app.store.document.value.draft).toEqual(comesBack ? kept : null);
  expect(drafts).toEqual(comesBack ? [] : [null]);
});
