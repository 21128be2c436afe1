import "fake-indexeddb/auto";
import { afterEach, expect, test, vi } from "vitest";
import { Database } from "../../src/api/database";
import { LocalBackend } from "../../src/api/local";
import { ServerBackend } from "../../src/api/server";
import { newId } from "../../src/ids";

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
