/** A data engine's project in a browser: the mock server's pictures, and its queues played here. */

import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Annotation } from "../src/api/types";
import { Browser, place, promptable, Site } from "./browser";
import { PlayedEngine } from "./engine";

let site: Site;
let browser: Browser;
let page: Page;
const engine = new PlayedEngine();

beforeAll(async () => {
  site = await Site.start();
  if (!site.isMock) return;
  browser = await Browser.start();
  page = await browser.context.newPage();
  await engine.install(page, site.url, ["coffee", "cat"]);
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
  await page.waitForFunction((id) => globalThis.anymask.app.store.document.value.image === id, engine.images[1]!.id);
  const finished = engine.body("finish");
  expect(finished).toMatchObject({ clicks: 1, strokes: 0, masks: [] });
  expect(finished["seconds"]).toBeGreaterThan(0);
  await promptable(page);
  await page.getByRole("button", { name: "Skip" }).click();
  await page.getByRole("button", { name: "Blurred or too dark" }).click();
  await page.locator(".welcome").waitFor();
  expect(engine.body("skip")["reason"]).toBe("Blurred or too dark");
  await page.locator(".welcome .acts .plain").click();
  await page.locator(".dashboard .flow article").first().waitFor();
  expect(await page.locator(".dashboard").innerText()).toContain("Ann");
  await page.locator(".dashboard .chart svg").nth(2).waitFor();
  await page.keyboard.press("Escape");
  await page.locator(".dashboard").waitFor({ state: "detached" });
});
