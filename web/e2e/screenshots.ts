/** Screenshots to look at, into e2e/out: `npm run screenshots`, or of one width as in `npm run screenshots -- 390`. */

import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { Page } from "playwright-core";
import { Browser, BUILT, buildPage, place, promptable, Site } from "./browser";
import { PlayedEngine } from "./engine";

type Shoot = (what: string) => Promise<unknown>;

const OUT = fileURLToPath(new URL("./out/", import.meta.url));
const SIZES = [
  [1440, 900],
  [1024, 768],
  [390, 844],
] as const;
const wanted = process.argv.slice(2).map(Number);

mkdirSync(OUT, { recursive: true });
process.env[BUILT] ??= await buildPage();
for (const [width, height] of SIZES) {
  if (wanted.length > 0 && !wanted.includes(width)) continue;
  for (const dark of [false, true]) {
    const language = dark ? "zh-CN" : "en-US";
    const name = `${width}x${height}-${dark ? "dark" : "light"}`;
    for (const look of [lookAtPictures, lookAtEngine]) {
      const site = await Site.start();
      const browser = await Browser.start({ width, height, dark, touch: width < 500, language });
      const page = await browser.context.newPage();
      await look(page, site.url, async (what) => {
        await page.waitForTimeout(300);
        await page.screenshot({ path: `${OUT}${name}-${what}.png` });
      });
      await browser.stop();
      await site.stop();
    }
  }
}

async function clickAt(page: Page, x: number, y: number): Promise<void> {
  const at = await place(page, x, y);
  await page.mouse.click(at.x, at.y);
  await page.waitForFunction(() => globalThis.anymask.app.store.document.value.draft !== null);
}

async function keepAt(page: Page, x: number, y: number): Promise<void> {
  await clickAt(page, x, y);
  await page.locator(".over").focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => globalThis.anymask.app.store.document.value.draft === null);
}

async function lookAtPictures(page: Page, url: string, shoot: Shoot): Promise<void> {
  await page.goto(url);
  await page.locator(".sample img").last().waitFor();
  await shoot("1-start");
  for (const sample of ["rocket", "cat", "coffee"])
    await page.evaluate((name) => globalThis.anymask.app.pictures.addSample(name), sample);
  await promptable(page);
  await keepAt(page, 0.3, 0.3);
  await keepAt(page, 0.55, 0.5);
  await keepAt(page, 0.8, 0.75);
  await page.evaluate(async () => {
    const { app } = globalThis.anymask;
    for (const item of ["Cup", "Spoon", "Saucer of porcelain"]) await app.classes.add(item);
    const [first] = app.store.annotations.value.keys();
    app.masks.select(first!);
    app.masks.setClass(app.store.document.value.classes[0]!.id);
  });
  await shoot("2-masks");
  await page.evaluate(() => globalThis.anymask.app.masks.select(null));
  await clickAt(page, 0.5, 0.25);
  await page.evaluate(() => (globalThis.anymask.app.settings.panelOpen.value = true));
  await shoot("3-draft");
  await page.evaluate(() => globalThis.anymask.editor.drop());
  await page.keyboard.press("g");
  await page.waitForFunction(() => globalThis.anymask.app.proposals.shown.value !== null);
  await shoot("4-everything");
  await page.keyboard.press("Escape");
  await page.evaluate(() => (globalThis.anymask.app.settings.sideOpen.value = "help"));
  await shoot("5-help");
  await page.evaluate(() => {
    const { app } = globalThis.anymask;
    app.settings.sideOpen.value = null;
    app.settings.tool.value = "polygon";
    app.settings.tolerance.value = 3;
    app.masks.select([...app.store.annotations.value.keys()][1]!);
  });
  await shoot("6-polygon");
}

async function lookAtEngine(page: Page, url: string, shoot: Shoot): Promise<void> {
  const engine = new PlayedEngine();
  await engine.install(page, url, ["coffee", "cat", "rocket"]);
  await page.goto(url);
  await page.locator(".welcome input").fill("Ann");
  await shoot("7-welcome");
  await page.locator(".welcome .accent").click();
  await promptable(page);
  await keepAt(page, 0.4, 0.4);
  await page.locator(".task .acts .plain[aria-expanded]").click();
  await shoot("8-task");
  await page.keyboard.press("Escape");
  await page.locator(".task [data-command=dashboard]").click();
  await page.locator(".dashboard .chart svg").nth(2).waitFor();
  await shoot("9-dashboard");
}
