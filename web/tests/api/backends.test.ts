import "fake-indexeddb/auto";
import { afterEach, expect, test, vi } from "vitest";
import { toCoco } from "../../src/api/coco";
import { Database } from "../../src/api/database";
import { LocalBackend } from "../../src/api/local";
import { ServerBackend } from "../../src/api/server";
import type { Size } from "../../src/geometry/frames";
import { encode } from "../../src/geometry/rle";
import { newId } from "../../src/ids";
import { annotation } from "../annotation";

afterEach(() => vi.unstubAllGlobals());

test("a server is told which project and model it is asked for", async () => {
  const asked: [string, Record<string, string>][] = [];
  vi.stubGlobal("fetch", async (url: string, { headers }: { headers: Record<string, string> }) => {
    asked.push([url, headers]);
    return Response.json({ project_id: "ours", model: { hash: "abc" }, revision: 1, annotations: [], id: 3 });
  });
  const server = new ServerBackend("/", "fake", await Database.open(newId()));
  await server.info();
  await server.annotations("1");
  await server.change("1", 0, "me", [{ op: "delete", id: "a" }]);
  expect(await server.classId()).toBe(3);
  const loaded = { "X-Project": "ours", "X-Model": "abc" };
  expect(asked).toMatchObject([
    ["/api/info", {}],
    ["/api/images/1/annotations", loaded],
    ["/api/images/1/changes", { ...loaded, "Content-Type": "application/json" }],
    ["/api/classes/id", loaded],
  ]);
});

test("what is kept in this browser is its project's own", async () => {
  const database = await Database.open(newId());
  const at = async (project: string) => {
    vi.stubGlobal("fetch", async () => Response.json({ project_id: project, model: { hash: "abc" } }));
    const server = new ServerBackend("/", "fake", database);
    await server.info();
    server.keepLocally("1", { key: "second 1", revision: null });
    return server;
  };
  await (await at("ours")).change("1", 0, "me", [{ op: "delete", id: "a" }]);
  expect((await (await at("theirs")).annotations("1")).revision).toBe(0);
  expect((await (await at("ours")).annotations("1")).revision).toBe(1);
});

test("without a server, too, a class that is gone leaves its id to no other", async () => {
  vi.stubGlobal("document", { baseURI: "http://site/" });
  const local = new LocalBackend(await Database.open(newId()), { models: "models/" });
  const classes = [{ id: await local.classId(), name: "cat", color: "#000000", key: null }];
  await local.putClasses(0, "me", classes);
  await local.putClasses(1, "me", []);
  expect([classes[0]?.id, await local.classId()]).toEqual([1, 2]);
});

test("without a server masks leave as polygons of the detail of choice, those with holes as run lengths", () => {
  const size: Size = [12, 12];
  const square = (hole: boolean) => {
    const bits = Uint8Array.from({ length: 100 }, (_, at) => (hole && at === 44 ? 0 : 1));
    bits[0] = 0; // A corner that a tolerance of a pixel smooths away.
    return { ...annotation(hole ? "b" : "a"), rle: encode({ size, x: 1, y: 1, width: 10, height: 10, bits }) };
  };
  const image = {
    id: "1",
    name: "a.jpg",
    width: 12,
    height: 12,
    state: "ready",
    revision: 0,
    num_annotations: 2,
  } as const;
  const masks = new Map([["1", [square(false), square(true)]]]);
  const [plain, holed] = toCoco([image], masks, [], { tolerance: 0 }).annotations;
  expect(plain!.segmentation).toEqual([[2, 1, 11, 1, 11, 11, 1, 11, 1, 2, 2, 2]]);
  expect(holed!.segmentation).toEqual(square(true).rle);
  const [simple] = toCoco([image], masks, [], { tolerance: 1.5 }).annotations;
  expect((simple!.segmentation as number[][])[0]).toHaveLength(8);
  expect(simple!.area).toBe(99);
  expect(toCoco([image], masks, []).annotations[0]!.segmentation).toEqual(square(false).rle);
});
