/** Screenshots to look at: `npm run screenshots`, into e2e/out. */

import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Browser, place, promptable, Site } from "./browser";

const OUT = fileURLToPath(new URL("./out/", import.meta.url));
const SIZES = [
  [1440, 900],
  [1024, 768],
  [390, 844],
] as const;

mkdirSync(OUT, { recursive: true });
for (const [width, height] of SIZES) {
  for (const dark of [false, true]) {
    const site = await Site.start();
    const browser = await Browser.start({
      width,
      height,
      dark,
      touch: width < 500,
      language: dark ? "zh-CN" : "en-US",
    });
    const page = await browser.open(site.url);
    const name = `${width}x${height}-${dark ? "dark" : "light"}`;
    const shoot = (what: string) => page.screenshot({ path: `${OUT}${name}-${what}.png` });
    await page.locator(".sample img").last().waitFor();
    await page.waitForTimeout(300);
    await shoot("1-start");
    for (const sample of ["rocket", "cat", "coffee"])
      await page.evaluate((n) => globalThis.anymask.app.pictures.addSample(n), sample);
    await promptable(page);
    await page.waitForTimeout(300);
    const spots = [
      [0.3, 0.3],
      [0.55, 0.5],
      [0.8, 0.75],
    ] as const;
    for (const [x, y] of spots) {
      const at = await place(page, x, y);
      await page.mouse.click(at.x, at.y);
      await page.waitForFunction(() => globalThis.anymask.app.store.document.value.draft !== null);
      await page.locator(".over").focus();
      await page.keyboard.press("Enter");
      await page.waitForFunction(() => globalThis.anymask.app.store.document.value.draft === null);
    }
    await page.evaluate(async () => {
      const { app } = globalThis.anymask;
      if (app.store.document.value.classes.length === 0)
        for (const item of ["Cup", "Spoon", "Saucer of porcelain"]) await app.classes.add(item);
      const [first] = app.store.annotations.value.keys();
      app.masks.select(first!);
      app.masks.setClass(app.store.document.value.classes[0]!.id);
    });
    await page.waitForTimeout(200);
    await shoot("2-masks");
    await page.evaluate(() => globalThis.anymask.app.masks.select(null));
    const at = await place(page, 0.5, 0.25);
    await page.mouse.click(at.x, at.y);
    await page.waitForTimeout(400);
    if (width < 500) await page.evaluate(() => (globalThis.anymask.app.settings.panelOpen.value = true));
    await shoot("3-draft");
    await page.evaluate(() => globalThis.anymask.editor.drop());
    await page.keyboard.press("g");
    await page.waitForTimeout(1500);
    await shoot("4-everything");
    await page.keyboard.press("Escape");
    await page.evaluate(() => (globalThis.anymask.app.settings.sideOpen.value = "help"));
    await page.waitForTimeout(200);
    await shoot("5-help");
    await page.evaluate(() => {
      const { app } = globalThis.anymask;
      app.settings.sideOpen.value = null;
      app.settings.tool.value = "polygon";
      app.settings.tolerance.value = 3;
      app.masks.select([...app.store.annotations.value.keys()][1]!);
    });
    await page.waitForTimeout(200);
    await shoot("6-polygon");
    await browser.stop();
    await site.stop();
  }
}
