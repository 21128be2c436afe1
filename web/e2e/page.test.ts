/** The page in a browser, against the mock server or, with ANYMASK_URL, a real one on a fresh project. */

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Page } from "playwright-core";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { decode, encode, type RLE, runsOf } from "../src/geometry/rle";
import { Browser, place, promptable, Site, saved } from "./browser";

let site: Site;
let browser: Browser;
let page: Page;

beforeAll(async () => {
  site = await Site.start();
  browser = await Browser.start();
  page = await browser.open(site.url);
  await page.locator(".sample, .thumbnail").first().waitFor();
});
afterAll(async () => {
  await browser?.stop();
  await site?.stop();
});
beforeEach(async () => {
  // A picture of its own for each test.
  await page.evaluate(() => globalThis.anymask.app.pictures.addSample("coffee"));
  await promptable(page);
  await page.evaluate(() => {
    globalThis.anymask.app.settings.tool.value = "segment";
  });
  await page.locator(".over").focus();
});

const count = () => page.evaluate(() => globalThis.anymask.app.store.annotations.value.size);
const draft = () =>
  page.evaluate(() => {
    const found = globalThis.anymask.app.store.document.value.draft;
    return (
      found && { points: found.points.length, box: found.box, chosen: found.chosen, of: found.answer.ranked.length }
    );
  });
const rles = () =>
  page.evaluate(() => [...globalThis.anymask.app.store.annotations.value.values()].map(({ id, rle }) => ({ id, rle })));
const hasDraft = (points: number) =>
  page.waitForFunction((n) => globalThis.anymask.app.store.document.value.draft?.points.length === n, points);
const hasMasks = (n: number) =>
  page.waitForFunction((wanted) => globalThis.anymask.app.store.annotations.value.size === wanted, n);
const tool = (key: string) => page.keyboard.press(key);

async function click(x: number, y: number, button: "left" | "right" = "left"): Promise<void> {
  const at = await place(page, x, y);
  await page.mouse.click(at.x, at.y, { button });
}
async function drag(...path: [number, number][]): Promise<void> {
  for (const [index, [x, y]] of path.entries()) {
    const at = await place(page, x, y);
    await page.mouse.move(at.x, at.y, { steps: 4 });
    if (index === 0) await page.mouse.down();
  }
  await page.mouse.up();
}
async function keepOne(x = 0.5, y = 0.5): Promise<void> {
  const before = await count();
  await click(x, y);
  await hasDraft(1);
  await page.keyboard.press("Enter");
  await hasMasks(before + 1);
}
/** Whether the overlay shows something at a place. */
const isPainted = async (x: number, y: number) => {
  const at = await place(page, x, y);
  return page.evaluate(
    ([left, top]) => {
      const canvas = document.querySelector<HTMLCanvasElement>("canvas.over")!;
      const box = canvas.getBoundingClientRect();
      const ratio = canvas.width / box.width;
      const pixel = canvas.getContext("2d")!.getImageData((left! - box.left) * ratio, (top! - box.top) * ratio, 1, 1);
      return pixel.data[3]! > 0;
    },
    [at.x, at.y],
  );
};

test("a hover shows the mask before any click", async () => {
  const at = await place(page, 0.5, 0.5);
  await page.mouse.move(at.x, at.y);
  await page.waitForFunction(() => globalThis.anymask.editor.preview.value !== null);
  await page.waitForTimeout(150);
  expect(await isPainted(0.5, 0.5)).toBe(true);
  expect(await draft()).toBeNull();
  await page.mouse.move(5, 5);
  await page.waitForFunction(() => globalThis.anymask.editor.preview.value === null);
});

test("clicks add and right clicks remove; each can be undone and redone", async () => {
  await click(0.4, 0.5);
  await hasDraft(1);
  await click(0.6, 0.5);
  await hasDraft(2);
  await click(0.5, 0.7, "right");
  await hasDraft(3);
  const labels = await page.evaluate(() =>
    globalThis.anymask.app.store.document.value.draft?.points.map(({ label }) => label),
  );
  expect(labels).toEqual([1, 1, 0]);
  for (const left of [2, 1]) {
    await page.keyboard.press("Control+z");
    await hasDraft(left);
  }
  await page.keyboard.press("Control+Shift+z");
  await hasDraft(2);
  await page.keyboard.press("Enter");
  await hasMasks(1);
  await page.keyboard.press("Control+z");
  await hasMasks(0);
  await hasDraft(2);
});

test("a drag asks with a box", async () => {
  await drag([0.3, 0.2], [0.5, 0.5], [0.7, 0.8]);
  await page.waitForFunction(() => globalThis.anymask.app.store.document.value.draft !== null);
  const found = await draft();
  expect(found?.box?.every((value) => value > 0)).toBe(true);
  expect(found?.of).toBe(1);
});

test("keys walk through whole, part and subpart", async () => {
  await click(0.5, 0.5);
  await hasDraft(1);
  expect((await draft())?.of).toBe(3);
  const areas: number[] = [];
  for (let index = 0; index < 2; index++) await page.keyboard.press("ArrowUp");
  for (let index = 0; index < 3; index++) {
    areas.push(
      await page.evaluate(() => {
        const found = globalThis.anymask.app.store.document.value.draft!;
        return found.answer.ranked[found.chosen]!.logits.values.filter((value) => value > 0).length;
      }),
    );
    await page.keyboard.press("ArrowDown");
  }
  expect(areas).toEqual([...areas].sort((a, b) => b - a));
  await page.keyboard.press("Tab");
  expect((await draft())?.chosen).toBe(0);
});

test("brush and eraser change exact pixels", async () => {
  await tool("b");
  await page.evaluate(() => {
    globalThis.anymask.app.settings.brush.value = 20;
  });
  await drag([0.3, 0.3], [0.6, 0.3]);
  await hasMasks(1);
  const [drawn] = await rles();
  await tool("e");
  await drag([0.45, 0.2], [0.45, 0.4]);
  await page.waitForFunction((former) => {
    const [first] = globalThis.anymask.app.store.annotations.value.values();
    return first!.rle.counts !== former;
  }, drawn!.rle.counts);
  const pieces = await page.evaluate(() => {
    const [first] = globalThis.anymask.app.store.annotations.value.values();
    return globalThis.anymask.viewport!.polygonsOf(first!.rle).length;
  });
  expect(pieces).toBe(2);
  await page.keyboard.press("Control+z");
  expect((await rles())[0]!.rle).toEqual(drawn!.rle);
});

test("a reload loses neither masks nor the draft", async () => {
  await keepOne(0.4, 0.4);
  await saved(page);
  await click(0.7, 0.7);
  await hasDraft(1);
  const before = await rles();
  await page.waitForTimeout(200);
  await page.reload();
  await promptable(page);
  await hasDraft(1);
  expect(await rles()).toEqual(before);
});

test("a page that is reloaded as a mask is kept has the mask once, and no draft of it", async () => {
  for (const wanted of [1, 2, 3]) {
    await click(0.2 + wanted / 6, 0.4);
    await hasDraft(1);
    await page.evaluate((count) => {
      globalThis.anymask.app.store.annotations.subscribe((all) => {
        if (all.size === count) location.reload();
      });
    }, wanted);
    await Promise.all([page.waitForEvent("load"), page.keyboard.press("Enter")]);
    await promptable(page);
    await page.waitForFunction(() => globalThis.anymask.app.pictures.readable.value !== null);
    if (await draft()) {
      // The browser wrote neither of the two: nothing is lost, and nothing is there twice.
      expect(await rles()).toHaveLength(wanted - 1);
      await page.keyboard.press("Enter");
    }
    await saved(page);
    await page.waitForFunction((count) => globalThis.anymask.app.store.annotations.value.size === count, wanted);
  }
});

test("masks made while the server is away are saved once it is back", async () => {
  await page.route("**/changes", (route) => route.abort());
  await keepOne(0.3, 0.6);
  await page.waitForFunction(() => globalThis.anymask.app.store.autosave.state.value.is === "offline");
  const before = await rles();
  await page.unroute("**/changes");
  await page.reload();
  await promptable(page);
  await saved(page);
  expect(await rles()).toEqual(before);
});

test("two tabs on one picture both keep their masks", async () => {
  await keepOne(0.4, 0.4);
  await saved(page);
  const image = await page.evaluate(() => globalThis.anymask.app.store.document.value.image!);
  const other = await browser.open(site.url);
  await other.waitForFunction(() => globalThis.anymask?.app.pictures.list.value.length > 0);
  await other.evaluate((id) => globalThis.anymask.app.pictures.show(id), image);
  await promptable(other);
  const rename = (tab: Page, name: string) =>
    tab.evaluate((text) => {
      const { app } = globalThis.anymask;
      app.masks.change([...app.store.annotations.value.keys()][0]!, { name: text });
    }, name);
  await other.route("**/api/events", (route) => route.abort());
  await Promise.all([rename(page, "ours"), rename(other, "theirs")]);
  await saved(page);
  await saved(other);
  await page.waitForTimeout(500);
  await other.reload();
  await promptable(other);
  const names = await other.evaluate(() =>
    [...globalThis.anymask.app.store.annotations.value.values()].map((a) => a.name),
  );
  expect(names.sort()).toEqual(["ours", "theirs"]);
  await other.close();
  await page.bringToFront();
});

test("everything is found, picked from, and kept", async () => {
  await page.evaluate(() => (globalThis.anymask.app.notices.current.value = null));
  await page.keyboard.press("g");
  const answered = () =>
    (globalThis.anymask.app.proposals.shown.value ?? globalThis.anymask.app.notices.current.value) !== null;
  await page.waitForFunction(answered, null, { timeout: 240_000 });
  const { found, said } = await page.evaluate(() => {
    const { notices, proposals } = globalThis.anymask.app;
    return { found: proposals.shown.value?.length ?? 0, said: notices.current.value };
  });
  expect(said).toBeNull();
  expect(found).toBeGreaterThan(1);
  const spot = await page.evaluate(() => {
    const { rle } = globalThis.anymask.app.proposals.shown.value![0]!;
    return { rle, size: globalThis.anymask.app.pictures.size.value! };
  });
  const inside = insideOf(spot.rle);
  await click((inside.x + 0.5) / spot.size[1], (inside.y + 0.5) / spot.size[0]);
  await hasMasks(1);
  await page.keyboard.press("Enter");
  await hasMasks(found);
}, 300_000);

test("what is like a mask is proposed in this picture and in the next", async () => {
  await click(0.5, 0.5);
  await hasDraft(1);
  await page.keyboard.press("Enter");
  await hasMasks(1);
  await tool("v");
  await click(0.5, 0.5);
  await page.waitForFunction(() => globalThis.anymask.app.masks.selection.value.size === 1);
  await page.keyboard.press("l");
  const shown = () => page.evaluate(() => globalThis.anymask.app.proposals.shown.value?.length ?? 0);
  const isSearched = () =>
    page.waitForFunction(
      () => {
        const { isSearching, wanted } = globalThis.anymask.app.proposals;
        return wanted.value !== null && !isSearching.value;
      },
      null,
      { timeout: 240_000 },
    );
  await isSearched();
  const slider = page.getByRole("slider", { name: "Alike" });
  await slider.fill("0.2");
  const all = await shown();
  expect(all).toBeGreaterThan(0);
  await slider.fill("0.9");
  expect(await shown()).toBeLessThan(all);
  await slider.fill("0.2");
  await page.locator(".over").focus();
  await page.keyboard.press("Enter");
  await hasMasks(1 + all);
  await page.evaluate(() => globalThis.anymask.app.pictures.addSample("cat"));
  await promptable(page);
  await isSearched();
  expect(await shown()).toBeGreaterThan(0);
  await page.keyboard.press("Escape");
  expect(await page.evaluate(() => globalThis.anymask.app.proposals.wanted.value)).toBeNull();
}, 600_000);

test("masks are copied to another picture, and the strip shows the pictures of a kind", async () => {
  await click(0.5, 0.5);
  await hasDraft(1);
  await page.keyboard.press("Enter");
  await hasMasks(1);
  await tool("v");
  await click(0.5, 0.5);
  await page.keyboard.press("Control+c");
  await page.evaluate(() => globalThis.anymask.app.pictures.addSample("cat"));
  await promptable(page);
  await page.locator(".over").focus();
  await page.keyboard.press("Control+v");
  await hasMasks(1);
  await saved(page);
  const strip = page.getByRole("combobox", { name: "Which pictures are shown" });
  const names = () => page.locator(".thumbnail").evaluateAll((all) => all.map(({ ariaLabel }) => ariaLabel ?? ""));
  await strip.selectOption("empty");
  expect((await names()).filter((name) => !name.endsWith(" 0 masks"))).toHaveLength(1); // The open one.
  await strip.selectOption("done");
  expect((await names()).filter((name) => name.endsWith(" 0 masks"))).toEqual([]);
  await strip.selectOption("all");
}, 120_000);

test("classes are made, given by number, and stick", async () => {
  await page.evaluate(() => globalThis.anymask.app.classes.add("cup"));
  const id = await page.evaluate(() => globalThis.anymask.app.store.document.value.classes[0]!.id);
  await page.keyboard.press("0");
  await keepOne(0.3, 0.3);
  const classes = () =>
    page.evaluate(() => [...globalThis.anymask.app.store.annotations.value.values()].map((item) => item.class_id));
  expect(await classes()).toEqual([null]);
  await page.keyboard.press("Control+a");
  await page.keyboard.press("1");
  expect(await classes()).toEqual([id]);
  await keepOne(0.7, 0.7);
  expect(await classes()).toEqual([id, id]);
});

test("a class that has the focus is renamed by its key", async () => {
  await page.evaluate(() => globalThis.anymask.app.classes.add("cup"));
  const names = () => page.evaluate(() => globalThis.anymask.app.store.document.value.classes.map(({ name }) => name));
  const before = await names();
  await page.locator(".class .name").last().focus();
  await page.keyboard.press("F2");
  await page.locator(".class input.name:focus").waitFor();
  await page.keyboard.type("mug");
  await page.keyboard.press("Enter");
  expect(await names()).toEqual([...before.slice(0, -1), "mug"]);
});

test("what was used with the pointer leaves the keys to the picture", async () => {
  await click(0.5, 0.5);
  await hasDraft(1);
  await page.locator(".options .segmented button").nth(1).click();
  await page.keyboard.press("Enter");
  await hasMasks(1);
  await page.evaluate(() => globalThis.anymask.app.classes.add("bowl"));
  const list = page.locator(".mask select");
  await list.dispatchEvent("pointerdown");
  await list.focus();
  await list.selectOption({ label: "bowl" });
  await page.keyboard.press("b");
  const [tool, ids, last] = await page.evaluate(() => {
    const { app } = globalThis.anymask;
    const ids = [...app.store.annotations.value.values()].map(({ class_id }) => class_id);
    return [app.settings.tool.value, ids, app.store.document.value.classes.at(-1)!.id] as const;
  });
  expect(tool).toBe("brush");
  expect(ids).toEqual([last]);
});

test("an export is what the screen shows", async () => {
  await keepOne(0.4, 0.4);
  await keepOne(0.7, 0.6);
  await saved(page);
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.evaluate(() => globalThis.anymask.app.export("coco", false)),
  ]);
  const file = JSON.parse(readFileSync(await download.path(), "utf8")) as { annotations?: { segmentation: RLE }[] };
  const painted = await paintedMask();
  const shown = (await rles()).map(({ rle }) => rle);
  expect(painted).toEqual(unionOf(shown));
  if (site.isMock) return;
  const counts = (masks: readonly RLE[] = []) => masks.map((rle) => rle.counts).sort();
  expect(counts(file.annotations?.map(({ segmentation }) => segmentation))).toEqual(counts(shown));
  const out = process.env["ANYMASK_OUT"];
  if (!out) return;
  writeFileSync(join(out, "coco.json"), JSON.stringify(file));
  writeFileSync(join(out, "painted.json"), JSON.stringify(painted));
});

test("the keyboard alone makes a mask", async () => {
  for (let index = 0; index < 3; index++) await page.keyboard.press("Shift+ArrowRight");
  await page.keyboard.press("a");
  await hasDraft(1);
  await page.keyboard.press("Enter");
  await hasMasks(1);
  await page.keyboard.press("?");
  await page.locator(".help").waitFor();
  await page.keyboard.press("Escape");
  await page.locator(".help").waitFor({ state: "detached" });
});

/** The pixels of the picture that have a mask's colour on the screen, at 100 % and full opacity. */
async function paintedMask(): Promise<RLE> {
  const { size, runs } = await page.evaluate(async () => {
    const { app, viewport } = globalThis.anymask;
    const [height, width] = app.pictures.size.value!;
    const [view, opacity] = [viewport!.view.value, app.settings.opacity.value];
    app.masks.select(null);
    app.settings.opacity.value = 1;
    viewport!.view.value = { scale: 1, x: 0, y: 0 };
    await new Promise((resolve) => setTimeout(resolve, 500));
    const canvas = document.querySelector<HTMLCanvasElement>("canvas:not(.over)")!;
    const { data } = canvas.getContext("2d")!.getImageData(0, 0, width, height);
    const masks = [...app.store.annotations.value.values()];
    const colors = new Set(masks.map((mask) => app.masks.color(mask)).map(([r, g, b]) => (r << 16) | (g << 8) | b));
    // Lengths of runs by turns off and on, row by row: few numbers to hand over.
    const runs: number[] = [];
    let [start, wasOn] = [0, false];
    for (let at = 0; at < height * width; at++) {
      const isOn = colors.has((data[4 * at]! << 16) | (data[4 * at + 1]! << 8) | data[4 * at + 2]!);
      if (isOn === wasOn) continue;
      runs.push(at - start);
      [start, wasOn] = [at, isOn];
    }
    runs.push(height * width - start);
    app.settings.opacity.value = opacity;
    viewport!.view.value = view;
    return { size: [height, width] as const, runs };
  });
  const [height, width] = size;
  const bits = Uint8Array.from(runs.flatMap((run, index) => new Array<number>(run).fill(index % 2)));
  return encode({ size, x: 0, y: 0, width, height, bits });
}
function unionOf(rles: readonly RLE[]): RLE {
  const [height, width] = rles[0]!.size as [number, number];
  const bits = new Uint8Array(height * width);
  for (const rle of rles) {
    const mask = decode(rle);
    for (let at = 0; at < mask.bits.length; at++) {
      const row = mask.y + Math.floor(at / mask.width);
      if (mask.bits[at]) bits[row * width + mask.x + (at % mask.width)] = 1;
    }
  }
  return encode({ size: [height, width], x: 0, y: 0, width, height, bits });
}
/** A pixel of a mask: the middle of its longest run. */
function insideOf(rle: RLE): { x: number; y: number } {
  const [height] = rle.size as [number, number];
  const runs = decodeRuns(rle);
  const [start, length] = runs.reduce((best, run) => (run[1] > best[1] ? run : best));
  const at = start + Math.floor(length / 2);
  return { x: Math.floor(at / height), y: at % height };
}
function decodeRuns(rle: RLE): [number, number][] {
  const found: [number, number][] = [];
  let at = 0;
  runsOf(rle).forEach((run, index) => {
    if (index % 2) found.push([at, run]);
    at += run;
  });
  return found;
}
