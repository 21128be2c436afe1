/** How the page begins where a browser withholds something, against the mock server. */

import { afterAll, beforeAll, expect, test } from "vitest";
import { Browser, place, promptable, saved, Site } from "./browser";

let site: Site;
let browser: Browser;

beforeAll(async () => {
  site = await Site.start();
  browser = await Browser.start();
});
afterAll(async () => {
  await browser?.stop();
  await site?.stop();
});

test("over plain http from another machine, masks are made and kept", async () => {
  const page = await browser.context.newPage();
  await page.addInitScript(() => {
    const withheld: [object, string[]][] = [
      [Crypto.prototype, ["randomUUID", "subtle"]],
      [Navigator.prototype, ["locks", "clipboard", "storage", "serviceWorker", "gpu"]],
      [globalThis, ["caches"]],
    ];
    for (const [owner, names] of withheld) for (const name of names) Reflect.deleteProperty(owner, name);
  });
  await page.goto(site.url);
  await page.locator(".sample").first().click();
  await promptable(page);
  const at = await place(page, 0.5, 0.5);
  await page.mouse.click(at.x, at.y);
  await page.waitForFunction(() => globalThis.anymask.app.store.document.value.draft !== null);
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => globalThis.anymask.app.store.annotations.value.size === 1);
  await saved(page);
});

test("a page that cannot begin says why", async () => {
  const page = await browser.context.newPage();
  await page.addInitScript(() => {
    IDBFactory.prototype.open = () => {
      throw new Error("storage is forbidden here");
    };
  });
  await page.goto(site.url);
  expect(await page.getByRole("alert").innerText()).toContain("storage is forbidden here");
  await page.getByRole("button", { name: "Try again" }).waitFor();
});
