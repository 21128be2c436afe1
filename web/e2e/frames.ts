/**
 * Frames a second while the view pans and zooms: `tsx e2e/frames.ts`, on the mock server.
 *
 * Prints a JSON line: milliseconds from frame to frame in each motion, of 300 masks and of a picture of 50 megapixels.
 */

import type { Page } from "playwright-core";
import { encode } from "../src/geometry/rle";
import { Browser, promptable, Site } from "./browser";

const MASKS = 300;
const SECONDS = 4;

const site = await Site.start();
const browser = await Browser.start();
const page = await browser.open(site.url);
await page.locator(".sample").first().waitFor();
// tsx wraps named functions in a call of its own, which the page does not know.
await page.evaluate("globalThis.__name = (named) => named");

await page.evaluate(() => globalThis.anymask.app.pictures.addSample("coffee"));
await promptable(page);
await addMasks(page);
const masks = await move(page);
const size = await addLarge(page);
const plain = await move(page);
await addMasks(page);
const both = await move(page);
await browser.stop();
await site.stop();
const motions = { "0.24 MP with masks": masks, "50 MP": plain, "50 MP with masks": both };
console.log(JSON.stringify({ masks: MASKS, size, motions }));

/** Make a photograph of 50 megapixels out of the sample, and open it. */
async function addLarge(page: Page): Promise<readonly number[]> {
  await page.evaluate(async () => {
    const sample = await createImageBitmap(await (await fetch("samples/coffee.jpg")).blob());
    const canvas = new OffscreenCanvas(8688, 5792);
    canvas.getContext("2d")!.drawImage(sample, 0, 0, canvas.width, canvas.height);
    const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.85 });
    await globalThis.anymask.app.addFiles([new File([blob], "large.jpg", { type: "image/jpeg" })]);
  });
  await promptable(page);
  return page.evaluate(() => globalThis.anymask.app.pictures.size.value!);
}

/** Lay ellipses over the whole picture, each an eighth of its width. */
async function addMasks(page: Page): Promise<void> {
  const [height, width] = await page.evaluate(() => globalThis.anymask.app.pictures.size.value!);
  const [rx, ry] = [Math.round(width / 16), Math.round(height / 16)];
  const box = { width: 2 * rx, height: 2 * ry };
  const bits = Uint8Array.from({ length: box.width * box.height }, (_, at) =>
    Math.hypot(((at % box.width) - rx) / rx, (Math.floor(at / box.width) - ry) / ry) < 1 ? 1 : 0,
  );
  const rles = Array.from({ length: MASKS }, (_, index) => {
    const x = Math.floor(((index * 0.6180339887) % 1) * (width - box.width));
    const y = Math.floor(((index * 0.7548776662) % 1) * (height - box.height));
    return encode({ size: [height, width], x, y, ...box, bits });
  });
  await page.evaluate((found) => {
    const { app } = globalThis.anymask;
    app.proposals.accept(found.map((rle) => ({ id: crypto.randomUUID(), rle, score: 0.9, phrase: null })));
  }, rles);
  await page.waitForTimeout(1500);
}

/** Pan at 100 %, then zoom from the whole picture to 200 % and back; return the times between frames. */
async function move(page: Page): Promise<{ pan: number[]; zoom: number[] }> {
  await page.mouse.move(5, 5);
  return page.evaluate(async (seconds) => {
    const viewport = globalThis.anymask.viewport!;
    const { width, height } = viewport.extent.value;
    const [rows, columns] = globalThis.anymask.app.pictures.size.value!;
    const [cx, cy] = [columns / 2, rows / 2];
    const look = (scale: number, x: number, y: number) =>
      (viewport.view.value = { scale, x: width / 2 - x * scale, y: height / 2 - y * scale });
    const run = (at: (share: number) => void) =>
      new Promise<number[]>((resolve) => {
        const start = performance.now();
        const times: number[] = [];
        let last = 0;
        const frame = (now: number) => {
          if (last) times.push(now - last);
          last = now;
          const share = (performance.now() - start) / 1000 / seconds;
          if (share >= 1) return resolve(times);
          at(share);
          requestAnimationFrame(frame);
        };
        requestAnimationFrame(frame);
      });
    const turn = 2 * Math.PI;
    const pan = await run((t) => look(1, cx * (1 + 0.5 * Math.sin(turn * t)), cy * (1 + 0.5 * Math.cos(turn * t))));
    viewport.fit();
    const whole = viewport.view.value.scale;
    const deep = Math.log(2 / whole);
    const zoom = await run((t) => look(whole * Math.exp(deep * Math.sin((turn * t) / 2)), cx, cy));
    return { pan, zoom };
  }, SECONDS);
}
