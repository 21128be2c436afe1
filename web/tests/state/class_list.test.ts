import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ApiError, Conflict } from "../../src/api/backend";
import type { Classes, ClassInfo } from "../../src/api/types";
import { type ClassEdit, ClassList } from "../../src/state/class_list";

const item = (id: number, name: string): ClassInfo => ({ id, name, color: "#000000", key: null });

function setUp(first: Classes = { revision: 1, classes: [item(1, "cat")] }) {
  let stored = first;
  let shown: readonly ClassInfo[] = [];
  const failures: Error[] = [];
  const kept: (ClassEdit | null)[] = [];
  const requests: (readonly ClassInfo[])[] = [];
  const list = new ClassList(
    {
      putClasses: async (base, _client, classes) => {
        requests.push(classes);
        const failure = failures.shift();
        if (failure) throw failure;
        if (base !== stored.revision) throw new Conflict(stored);
        stored = { revision: base + 1, classes };
        return stored.revision;
      },
    },
    { keepClasses: async (edit) => void kept.push(edit) },
    "me",
    () => shown,
    (classes) => (shown = classes),
  );
  list.load(first);
  const show = (classes: readonly ClassInfo[]) => {
    shown = classes;
    list.save();
  };
  return {
    list,
    failures,
    kept,
    requests,
    stored: () => stored.classes.map(({ name }) => name),
    store: (classes: Classes) => (stored = classes),
    edit: (...classes: ClassInfo[]) => show(classes),
    show,
  };
}
const settle = () => vi.advanceTimersByTimeAsync(0);

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

test("what is not saved is said, kept, and saved as soon as the server is back", async () => {
  const { list, failures, kept, stored, edit } = setUp();
  failures.push(...Array.from({ length: 20 }, () => new ApiError(0, "away")));
  edit(item(1, "cat"), item(2, "dog"));
  expect(list.state.value.is).toBe("saving");
  await settle();
  expect(list.state.value).toEqual({ is: "offline", message: "away" });
  expect(kept.at(-1)).toEqual({ base: [item(1, "cat")], ours: [item(1, "cat"), item(2, "dog")] });
  await vi.advanceTimersByTimeAsync(120_000);
  expect(list.state.value.is).toBe("offline");
  failures.length = 0;
  list.save();
  await settle();
  expect(stored()).toEqual(["cat", "dog"]);
  expect(list.state.value.is).toBe("saved");
  expect(kept.at(-1)).toBeNull();
});

test("what the server refuses is said, and sent again only once it is another list", async () => {
  const { list, failures, requests, stored, edit, show } = setUp();
  failures.push(new ApiError(422, "too many"));
  edit(item(1, "cat"), item(2, "dog"));
  await vi.advanceTimersByTimeAsync(120_000);
  expect(list.state.value).toEqual({ is: "refused", message: "too many" });
  list.save();
  await settle();
  expect(requests).toHaveLength(1);
  const [refused] = requests;
  edit(item(1, "tabby"));
  await settle();
  expect(stored()).toEqual(["tabby"]);
  expect(list.state.value.is).toBe("saved");
  show(refused!);
  await settle();
  expect(stored()).toEqual(["cat", "dog"]);
});

test("edits of others and what a reload left are joined, and saved", async () => {
  const { list, stored, store, edit } = setUp();
  store({ revision: 2, classes: [item(1, "cat"), item(3, "bus")] });
  edit(item(1, "tabby"));
  await settle();
  expect(stored()).toEqual(["tabby", "bus"]);
  const theirs = { revision: 9, classes: [item(1, "tabby"), item(4, "cup")] };
  store(theirs);
  list.load(theirs, [{ base: [item(1, "tabby")], ours: [item(1, "tabby"), item(5, "fork")] }]);
  await settle();
  expect(stored()).toEqual(["tabby", "cup", "fork"]);
});

test("once held, nothing is sent", async () => {
  const { list, requests, edit } = setUp();
  list.hold();
  edit(item(2, "dog"));
  await settle();
  expect(requests).toEqual([]);
});
