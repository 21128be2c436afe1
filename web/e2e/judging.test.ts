/**
 * A review and a check in a browser, on the server at ANYMASK_JUDGING: a project with two pictures to be reviewed, the
 * first of four masks, and one to be checked.
 */

import type { Page } from "playwright-core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Browser, place, promptable } from "./browser";

const { ANYMASK_JUDGING } = process.env;
let browser: Browser;
let page: Page;
const problems: string[] = [];

beforeAll(async () => {
  if (!ANYMASK_JUDGING) return;
  browser = await Browser.start();
  page = await browser.open(ANYMASK_JUDGING);
  page.on("pageerror", (error) => problems.push(error.message));
});
afterAll(() => browser?.stop());

/** What was said of each mask so far, in the order of the list. */
const words = () =>
  page.evaluate(() =>
    globalThis.anymask.app.masks.listed().map(({ id, verdict }) => `${id} ${verdict?.is ?? "added"}`),
  );
const selected = (id: string) =>
  page.waitForFunction((wanted) => globalThis.anymask.app.masks.selected.value?.id === wanted, id);
const dashboard = () => page.locator(".dashboard .quality").innerText();

test.skipIf(!ANYMASK_JUDGING)("a review goes mask by mask, with keys alone", async () => {
  await page.locator(".welcome input").fill("Eve");
  await page.getByRole("radio", { name: /Review/ }).focus();
  await page.keyboard.press("Enter");
  await page.locator(".welcome input").focus();
  await page.keyboard.press("Enter");
  await selected("half");
  expect(await words()).toEqual(["half open", "twice open", "wrong open", "right open"]);
  // An early end is refused, and nothing is lost by it.
  await page.keyboard.press(".");
  await page.getByText("4 masks still wait").waitFor();
  await page.keyboard.press("n");
  await page.getByRole("form", { name: "Why reject it?" }).waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("n");
  await page.keyboard.press("3");
  await selected("twice");
  await page.keyboard.press("y");
  await selected("wrong");
  await page.keyboard.press("Control+z");
  await selected("twice");
  await page.keyboard.press("n");
  await page.keyboard.press("6");
  await page.keyboard.type("Seen before");
  await page.keyboard.press("Enter");
  await selected("wrong");
  await page.evaluate(() => globalThis.anymask.app.store.autosave.settled());
  await page.reload();
  await promptable(page);
  await selected("wrong");
  expect(await words()).toEqual(["half reject", "twice reject", "wrong open", "right open"]);
  // A new mask in its place: the cursor of keys clicks on the object.
  await page.keyboard.press("s");
  await page.keyboard.press("Shift+ArrowLeft");
  await page.keyboard.press("a");
  await page.getByRole("button", { name: "Replace" }).waitFor();
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => globalThis.anymask.app.masks.selected.value?.verdict?.is === "fix");
  await page.keyboard.press("y");
  await selected("right");
  await page.keyboard.press("k");
  await selected("wrong");
  await page.keyboard.press("j");
  await selected("right");
  await page.keyboard.press("y");
  await page.getByText("Every mask is judged").waitFor();
  expect(await words()).toEqual(["half reject", "twice reject", "wrong fix", "right accept"]);
  await page.keyboard.press(".");
  await selected("only");
});

test.skipIf(!ANYMASK_JUDGING)("the dashboard tells of reviews and checks, and begins a check", async () => {
  await page.keyboard.press("d");
  await page.getByText("25 %").first().waitFor();
  expect(await dashboard()).toMatch(/A part is missing 1[\s\S]*Seen before 1/);
  await page.getByRole("button", { name: "Check: Begin" }).click();
  await page.waitForFunction(() => globalThis.anymask.app.work.value?.task.value?.lease.stage === "check");
  await promptable(page);
  await selected("only");
  // A sixth of the mask, at its right, is painted out.
  await page.keyboard.press("e");
  await page.evaluate(
    () => (globalThis.anymask.app.settings.brush.value = globalThis.anymask.app.pictures.size.value![1] / 32),
  );
  const [from, to] = [await place(page, 0.61, 0.35), await place(page, 0.61, 0.65)];
  await page.mouse.move(from.x, from.y);
  await page.mouse.down();
  await page.mouse.move(to.x, to.y, { steps: 8 });
  await page.mouse.up();
  expect(await words()).toEqual(["only fix"]);
  await page.keyboard.press(".");
  await page.locator(".welcome").waitFor();
  await page.keyboard.press("d");
  await page.locator(".dashboard .quality").waitFor();
  await page.waitForFunction(() => /Pairs\s*1/.test(document.querySelector(".quality")?.textContent ?? ""));
  expect(await dashboard()).toMatch(/Over 90 % IoU\s*0 %\s*Over 75 % IoU\s*100 %/);
  expect(problems).toEqual([]);
});
