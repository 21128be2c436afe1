/** A data engine's project in a browser: the mock server's pictures, and its queues played here. */

import type { Page, Route } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Annotation, ImageInfo, Status } from "../src/api/types";
import { none } from "../tests/summary";
import { Browser, place, promptable, Site } from "./browser";

let site: Site;
let browser: Browser;
let page: Page;
const told: { path: string; body: Record<string, unknown> }[] = [];
const images: ImageInfo[] = [];

const statistics = { mine: none, all: none };
const count = (path: string) => told.filter((each) => each.path === path).length;
const queue = () => ({
  open: images.length - count("next"),
  leased: Math.min(count("next"), 1),
  done: count("finish"),
  skipped: count("skip"),
  quarantined: 0,
});
const work = () => ({
  queues: { assisted: queue(), "semi-automatic": { open: 0, leased: 0, done: 0, skipped: 0, quarantined: 0 } },
  suggested: "assisted",
  mask_seconds: 30,
  image_seconds: 0,
  asks_classes: false,
  lease_seconds: 900,
});
const status = (): Status => ({
  project: "herbarium",
  at: 1000,
  images: images.length,
  masks: 1,
  queues: { assisted: queue() },
  stages: { assisted: { ...none, images: 1, added: 1 }, "semi-automatic": none, automatic: none, prefill: none },
  people: { assisted: { Ann: { ...none, images: 1, added: 1 } }, "semi-automatic": {} },
  working: [],
  models: [
    { id: 1, at: 0, hash: "fake", trigger: "the first", masks: 0, verdict: "promoted", scores: {}, is_current: true },
  ],
  history: {
    width: 60,
    moments: [{ at: 900, stage: "assisted", images: 1, masks: 1, kept: 1, seconds: 5, clicks: 1 }],
  },
  last_hour: { assisted: none, "semi-automatic": none, automatic: none, prefill: none },
  quarantined: [],
  quality: {
    check: { pairs: 0, over_90: 0, over_75: 0, rejected: 0 },
    review: { accepted: 0, fixed: 0, rejected: 0, reasons: {} },
    agreement: { images: 0, matched: 0, mean_iou: 0 },
    honeypots: {},
  },
  due: null,
  serving: "fake",
});

function next(worker: unknown) {
  const image = images[count("next") - 1];
  const lease = { job: 1, image: image?.id, stage: "assisted", worker, token: "0".repeat(32), is_second: false };
  return { task: image ? { lease, image, statistics } : null, work: work() };
}

async function engine(route: Route): Promise<void> {
  const path = new URL(route.request().url()).pathname.split("/").at(-1)!;
  const body = (route.request().postDataJSON() ?? {}) as Record<string, unknown>;
  if (path !== "work" && path !== "status") told.push({ path, body });
  const answers: Record<string, () => unknown> = {
    work,
    status,
    next: () => next(body["worker"]),
    renew: () => ({ held: true }),
    finish: () => ({ counted: true, statistics }),
  };
  await route.fulfill({ json: (answers[path] ?? work)() });
}

beforeAll(async () => {
  site = await Site.start();
  if (!site.isMock) return;
  browser = await Browser.start();
  for (const sample of ["coffee", "cat"]) {
    const response = await fetch(new URL("api/images", site.url), {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ sample }),
    });
    images.push((await response.json()) as ImageInfo);
  }
  page = await browser.context.newPage();
  const info = (await (await fetch(new URL("api/info", site.url))).json()) as object;
  const own = { ...info, project: "herbarium", engine: true };
  await page.route("**/api/info", (route) => route.fulfill({ json: own }));
  await page.route("**/api/engine/**", engine);
  await page.goto(site.url);
});
afterAll(async () => {
  await browser?.stop();
  await site?.stop();
});

test("a person takes a picture, draws, finishes it, skips the next, and looks at the dashboard", async ({ skip }) => {
  if (!site.isMock) skip();
  await page.locator(".welcome input").fill("Ann");
  await page.locator(".welcome .accent").click();
  await promptable(page);
  expect(await page.locator(".thumbnails").count()).toBe(0);
  const at = await place(page, 0.5, 0.5);
  await page.mouse.click(at.x, at.y);
  await page.waitForFunction(() => globalThis.anymask.app.store.document.value.draft !== null);
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => globalThis.anymask.app.store.annotations.value.size === 1);
  await page.reload();
  await promptable(page);
  const [drawn] = await page.evaluate(() => [...globalThis.anymask.app.store.annotations.value.values()]);
  expect((drawn as Annotation).provenance).toMatchObject({
    author: "Ann",
    stage: "assisted",
    origin: "added",
    model: "fake",
    clicks: 1,
  });
  await page.locator(".task .accent").click();
  await page.waitForFunction((id) => globalThis.anymask.app.store.document.value.image === id, images[1]!.id);
  const finished = told.find(({ path }) => path === "finish")!.body;
  expect(finished).toMatchObject({ clicks: 1, strokes: 0, masks: [] });
  expect(finished["seconds"]).toBeGreaterThan(0);
  await promptable(page);
  await page.getByRole("button", { name: "Skip" }).click();
  await page.getByRole("button", { name: "Blurred or too dark" }).click();
  await page.locator(".welcome").waitFor();
  expect(told.find(({ path }) => path === "skip")!.body["reason"]).toBe("Blurred or too dark");
  await page.locator(".welcome .acts .plain").click();
  await page.locator(".dashboard .flow article").first().waitFor();
  expect(await page.locator(".dashboard").innerText()).toContain("Ann");
  await page.locator(".dashboard .chart svg").nth(2).waitFor();
  await page.keyboard.press("Escape");
  await page.locator(".dashboard").waitFor({ state: "detached" });
});
