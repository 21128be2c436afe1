import "fake-indexeddb/auto";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Database } from "../../src/api/database";
import { newId } from "../../src/ids";
import type { Draft } from "../../src/state/document";
import { TabJournal } from "../../src/state/journal";

const change = (id: string) => ({ id, before: null, after: null });
const draft = { points: [], box: null, answer: { ranked: [], best: 0, milliseconds: 0 }, chosen: 0 } as Draft;
let database: Database;

/** A browser that was given the page over plain http: no UUIDs, no locks. */
beforeEach(async () => {
  const kept = new Map<string, string>();
  vi.stubGlobal("sessionStorage", {
    getItem: (key: string) => kept.get(key) ?? null,
    setItem: (key: string, value: string) => void kept.set(key, value),
  });
  vi.stubGlobal("navigator", {});
  vi.stubGlobal("crypto", { getRandomValues: crypto.getRandomValues.bind(crypto) });
  database = await Database.open(newId());
});
afterEach(() => vi.unstubAllGlobals());

test("a name is made without a secure context, and is no other's", async () => {
  const names = Array.from({ length: 100 }, newId);
  expect(new Set(names).size).toBe(100);
  expect(names.every((name) => /^[0-9a-f]{32}$/.test(name))).toBe(true);
  const { client } = await TabJournal.open(database, "p", "m");
  expect((await TabJournal.open(database, "p", "m")).client).toBe(client);
});

test("what a project did not get saved is no other project's", async () => {
  const ours = await TabJournal.open(database, "ours", "m");
  await ours.put("1", [change("a")]);
  await ours.keepClasses({ base: [], ours: [] });
  const theirs = await TabJournal.open(database, "theirs", "m");
  expect(await theirs.recover()).toEqual({ changes: new Map(), classes: [] });
  const again = await TabJournal.open(database, "ours", "m");
  expect(await again.recover()).toEqual({
    changes: new Map([["1", [change("a")]]]),
    classes: [{ base: [], ours: [] }],
  });
  await again.keepClasses(null);
  await again.clear("1");
  expect(await again.recover()).toEqual({ changes: new Map(), classes: [] });
});

test("a draft goes on with the model that answered it, in its own project", async () => {
  await (await TabJournal.open(database, "p", "m")).keepDraft({ image: "1", draft });
  expect(await (await TabJournal.open(database, "p", "m")).draft()).toMatchObject({ image: "1", draft });
  expect(await (await TabJournal.open(database, "p", "newer")).draft()).toBeUndefined();
  expect(await (await TabJournal.open(database, "q", "m")).draft()).toBeUndefined();
});

test("a draft goes only after the mask that was made of it is written", async () => {
  const journal = await TabJournal.open(database, "p", "m");
  await journal.keepDraft({ image: "1", draft });
  const order: string[] = [];
  const note = <T>(what: string, done: Promise<T>) => done.then(() => void order.push(what));
  const [put, remove] = [database.put.bind(database), database.delete.bind(database)];
  let write: () => void = () => undefined;
  const slow = new Promise<void>((resolve) => (write = resolve));
  database.put = (...what) =>
    note(
      "mask",
      slow.then(() => put(...what)),
    );
  database.delete = (...what) => note("no draft", remove(...what));
  const both = [journal.put("1", [change("a")]), journal.keepDraft(null)];
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(order).toEqual([]);
  expect(await journal.draft()).toMatchObject({ image: "1", draft });
  write();
  await Promise.all(both);
  expect(order).toEqual(["mask", "no draft"]);
});

test("a draft goes where the browser takes no mask", async () => {
  const journal = await TabJournal.open(database, "p", "m");
  await journal.keepDraft({ image: "1", draft });
  const put = database.put.bind(database);
  database.put = () => Promise.reject(new Error("the disk is full"));
  await expect(journal.put("1", [change("a")])).rejects.toThrow("full");
  database.put = put;
  await journal.keepDraft(null);
  expect(await journal.draft()).toBeUndefined();
});
