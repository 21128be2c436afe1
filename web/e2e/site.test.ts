/** The page as `anymask export web` writes it, at ANYMASK_SITE: no server but one of plain files. */

import { readFileSync } from "node:fs";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RLE } from "../src/geometry/rle";
import { Browser, place, promptable } from "./browser";

const { ANYMASK_SITE } = process.env;
let browser: Browser;
let page: Page;
const problems: string[] = [];

beforeAll(async () => {
  if (!ANYMASK_SITE) return;
  browser = await Browser.start();
  page = await browser.open(ANYMASK_SITE);
  page.on("pageerror", (error) => problems.push(error.message));
});
afterAll(() => browser?.stop());

test.skipIf(!ANYMASK_SITE)("a sample is encoded in the page, and a click on it makes a mask", async () => {
  await page.locator(".sample").first().click();
  await promptable(page);
  const at = await place(page, 0.5, 0.5);
  await page.mouse.click(at.x, at.y);
  await page.waitForFunction(() => globalThis.anymask.app.store.document.value.draft?.points.length === 1);
  const found = await page.evaluate(() => {
    const { app } = globalThis.anymask;
    const { answer } = app.store.document.value.draft!;
    const cells = answer.ranked.map(({ logits }) => logits.values.filter((value) => value > 0).length);
    return { cells, device: app.model.state.value.is === "ready" ? app.model.state.value.device : "", hosts: hosts() };
    function hosts() {
      return performance.getEntriesByType("resource").map(({ name }) => new URL(name).origin);
    }
  });
  expect(found.cells).toHaveLength(3);
  expect(found.cells[0]).toBeGreaterThan(0);
  // A plain server sends no headers that would allow threads.
  expect(found.device).toBe("WASM × 1");
  expect(new Set(found.hosts)).toEqual(new Set([new URL(page.url()).origin]));
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => globalThis.anymask.app.store.annotations.value.size === 1);
});

test.skipIf(!ANYMASK_SITE)("masks are exported, and still there after a reload", async () => {
  const shown = () =>
    page.evaluate(() => [...globalThis.anymask.app.store.annotations.value.values()].map(({ rle }) => rle.counts));
  await page.waitForFunction(() => globalThis.anymask.app.store.autosave.isSafe);
  const before = await shown();
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.evaluate(() => globalThis.anymask.app.export("coco", false)),
  ]);
  const file = JSON.parse(readFileSync(await download.path(), "utf8")) as { annotations: { segmentation: RLE }[] };
  expect(file.annotations.map(({ segmentation }) => segmentation.counts)).toEqual(before);
  await page.reload();
  await promptable(page);
  expect(await shown()).toEqual(before);
  expect(problems).toEqual([]);
});
