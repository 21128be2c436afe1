import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { ApiError, Conflict } from "../../src/api/backend";
import type { Annotation, Annotations, Operation } from "../../src/api/types";
import { Autosave, type Journal } from "../../src/state/autosave";
import { mergeClasses, type Pending, type Rebased, rebase } from "../../src/state/rebase";
import { annotation } from "../annotation";

const mask = (id: string, name: string | null = null): Annotation => annotation(id, { name });
const change = (id: string, before: Annotation | null, after: Annotation | null): Pending => ({ id, before, after });

/** A server that keeps annotations by the rules of the interface, and fails when told to. */
class FakeServer {
  revision = 0;
  stored = new Map<string, Annotation>();
  failures: Error[] = [];
  losesAcknowledgement = false;
  requests = 0;
  change = async (_image: string, base: number, _client: string, changes: readonly Operation[]): Promise<number> => {
    this.requests += 1;
    const failure = this.failures.shift();
    if (failure) throw failure;
    if (base !== this.revision) throw new Conflict(this.present());
    for (const item of changes) {
      if (item.op === "put") this.stored.set(item.annotation.id, item.annotation);
      else this.stored.delete(item.id);
    }
    this.revision += 1;
    if (!this.losesAcknowledgement) return this.revision;
    this.losesAcknowledgement = false;
    throw new ApiError(0, "gone");
  };
  present = (): Annotations => ({ revision: this.revision, annotations: [...this.stored.values()] });
}

function setUp() {
  const server = new FakeServer();
  const kept = new Map<string, readonly Pending[]>();
  const journal: Journal = {
    put: async (image, pending) => void kept.set(image, structuredClone(pending)),
    clear: async (image) => void kept.delete(image),
  };
  const rebases: Rebased[] = [];
  let ids = 0;
  const save = new Autosave(
    server,
    journal,
    "me",
    (_, result) => rebases.push(result),
    () => `copy ${++ids}`,
  );
  save.load("i", server.present());
  return { server, kept, rebases, save };
}
const settle = () => vi.advanceTimersByTimeAsync(0);

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

describe("autosave", () => {
  test("sends changes in order, together where they gather", async () => {
    const { server, kept, save } = setUp();
    save.add("i", [change("a", null, mask("a"))]);
    save.add("i", [change("b", null, mask("b"))]);
    save.add("i", [change("b", mask("b"), mask("b", "cat"))]);
    expect(save.state.value.is).toBe("saving");
    await settle();
    expect([...server.stored.values()]).toEqual([mask("a"), mask("b", "cat")]);
    expect(server.requests).toBe(2);
    expect(save.state.value.is).toBe("saved");
    expect(kept.size).toBe(0);
  });

  test("keeps changes while the server is away, and backs off", async () => {
    const { server, kept, save } = setUp();
    server.failures = [new ApiError(0, "away"), new ApiError(429, "busy", 7)];
    save.add("i", [change("a", null, mask("a"))]);
    await settle();
    expect(save.state.value).toEqual({ is: "offline", message: "away" });
    expect(kept.get("i")).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1000);
    expect(server.requests).toBe(2);
    await vi.advanceTimersByTimeAsync(6000);
    expect(server.requests).toBe(2);
    await vi.advanceTimersByTimeAsync(1000);
    expect(server.stored.has("a")).toBe(true);
    expect(save.state.value.is).toBe("saved");
    expect(kept.size).toBe(0);
  });

  test("says that the server is away only when the browser holds the changes", async () => {
    let written = () => undefined as void;
    const journal: Journal = {
      put: () => new Promise((resolve) => void (written = resolve)),
      clear: async () => undefined,
    };
    const { server } = setUp();
    const save = new Autosave(
      server,
      journal,
      "me",
      () => undefined,
      () => "copy",
    );
    save.load("i", server.present());
    server.failures = [new ApiError(0, "away")];
    save.add("i", [change("a", null, mask("a"))]);
    await settle();
    expect(save.state.value.is).toBe("saving");
    written();
    await settle();
    expect(save.state.value.is).toBe("offline");
  });

  test("a lost acknowledgement neither doubles a mask nor counts as a conflict", async () => {
    const { server, rebases, save } = setUp();
    server.losesAcknowledgement = true;
    save.add("i", [change("a", null, mask("a"))]);
    await vi.advanceTimersByTimeAsync(1000);
    expect([...server.stored.keys()]).toEqual(["a"]);
    expect(rebases.map(({ conflicts }) => conflicts)).toEqual([0]);
    expect(save.state.value.is).toBe("saved");
  });

  test("changes of another tab survive, and so do ours", async () => {
    const { server, rebases, save } = setUp();
    save.add("i", [change("a", null, mask("a"))]);
    await settle();
    server.stored.set("a", mask("a", "theirs"));
    server.stored.set("b", mask("b"));
    server.revision += 1;
    save.add("i", [change("a", mask("a"), mask("a", "ours")), change("c", null, mask("c"))]);
    await settle();
    expect(rebases[0]?.conflicts).toBe(1);
    const names = [...server.stored.values()].map(({ id, name }) => [id, name]);
    expect(names).toEqual([
      ["a", "theirs"],
      ["b", null],
      ["copy 1", "ours"],
      ["c", null],
    ]);
    expect(save.state.value.is).toBe("saved");
  });

  test("a load that overtakes an acknowledgement costs no change made in between", async () => {
    const { server, kept, save } = setUp();
    let acknowledge = () => undefined as void;
    const { change: store } = server;
    server.change = async (...request) => {
      const revision = await store(...request);
      await new Promise<void>((resolve) => void (acknowledge = resolve));
      return revision;
    };
    save.add("i", [change("a", null, mask("a"))]);
    await settle();
    server.stored.set("b", mask("b"));
    server.revision += 1;
    save.load("i", server.present());
    server.change = store;
    save.add("i", [change("c", null, mask("c"))]);
    acknowledge();
    await settle();
    expect([...server.stored.keys()]).toEqual(["a", "b", "c"]);
    expect(server.requests).toBe(2);
    expect(save.state.value.is).toBe("saved");
    expect(kept.size).toBe(0);
  });

  test("once held, sends nothing, and keeps what waits", async () => {
    const { server, kept, save } = setUp();
    server.failures = [new ApiError(0, "away")];
    save.add("i", [change("a", null, mask("a"))]);
    await settle();
    save.hold();
    save.retry();
    save.add("i", [change("b", null, mask("b"))]);
    await vi.advanceTimersByTimeAsync(60_000);
    expect(server.requests).toBe(1);
    expect(kept.get("i")).toHaveLength(2);
  });

  test("what a crash left in the journal is sent after the next load", async () => {
    const { server } = setUp();
    const journal: Journal = { put: async () => undefined, clear: async () => undefined };
    const next = new Autosave(
      server,
      journal,
      "me",
      () => undefined,
      () => "copy",
    );
    const result = next.load("i", server.present(), [change("a", null, mask("a"))]);
    expect([...result.annotations.keys()]).toEqual(["a"]);
    await settle();
    expect(server.stored.has("a")).toBe(true);
  });
});

test("a deletion of what another tab changed is dropped", () => {
  const result = rebase([mask("a", "theirs")], [change("a", mask("a"), null)], () => "copy");
  expect([...result.annotations.values()]).toEqual([mask("a", "theirs")]);
  expect([result.pending, result.conflicts]).toEqual([[], 1]);
});

test("classes of two tabs are joined", () => {
  const item = (id: number, name: string) => ({ id, name, color: "#000000", key: null });
  const base = [item(1, "cat"), item(2, "dog"), item(3, "cup")];
  const ours = [item(1, "tabby"), item(2, "dog"), item(4, "car")];
  const theirs = [item(1, "cat"), item(2, "hound"), item(3, "cup"), item(5, "bus")];
  expect(mergeClasses(base, ours, theirs).map(({ name }) => name)).toEqual(["tabby", "hound", "bus", "car"]);
});
