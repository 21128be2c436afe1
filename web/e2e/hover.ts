/**
 * Hover decodes, timed: `tsx e2e/hover.ts URL COUNT`, where URL is a site of `anymask export web` with `meta/` beside it.
 *
 * Prints a JSON line: milliseconds of each decode in ours and in Meta's worker, by turns; from each hover to its mask's
 * being drawn; of the drawing alone; and how often the first frame after an answer had its mask.
 */

import { Browser, promptable } from "./browser";

const [url, count] = [process.argv[2]!, Number(process.argv[3])];
const WARM_UP = 10;

const browser = await Browser.start();
const page = await browser.open(url);
await page.locator(".sample").first().click();
await promptable(page);
// Away from the picture: a hover of the pointer's own would overtake the others.
await page.mouse.move(5, 5);
await page.waitForTimeout(300);
// tsx wraps named functions in a call of its own, which the page does not know.
await page.evaluate("globalThis.__name = (named) => named");
const result = await page.evaluate(
  async ({ count, warmUp }) => {
    const { app, editor } = globalThis.anymask;
    const [height, width] = app.pictures.size.value!;
    const over = document.querySelector<HTMLCanvasElement>("canvas.over")!;

    let drawn = 0;
    let drawMs = 0;
    const { requestAnimationFrame: ask } = globalThis;
    // The page draws in animation frames: time those in which the overlay is cleared and drawn anew.
    const context = over.getContext("2d")!;
    const clearRect = context.clearRect.bind(context);
    context.clearRect = (...area) => {
      drawn += 1;
      clearRect(...area);
    };
    globalThis.requestAnimationFrame = (draw) =>
      ask((now) => {
        const [before, start] = [drawn, performance.now()];
        draw(now);
        if (drawn > before) drawMs = performance.now() - start;
      });

    const worker = new Worker(new URL("meta/worker.js", document.baseURI), { type: "module" });
    const told = <T>(ask: unknown): Promise<T> =>
      new Promise((resolve, reject) => {
        worker.onmessage = ({ data }) => (data?.error ? reject(new Error(data.error as string)) : resolve(data as T));
        worker.onerror = (event) => reject(new Error(event.message));
        worker.postMessage(ask);
      });
    await told({ load: true, threads: Math.min(navigator.hardwareConcurrency, 8) });

    /** Hover at a place, and wait for the first frame after the answer. */
    const hover = (at: { x: number; y: number }) =>
      new Promise<{ decode: number; shown: number; draw: number; inFrame: boolean }>((resolve, reject) => {
        const start = performance.now();
        setTimeout(() => reject(new Error("A hover was not answered.")), 30_000);
        const stop = editor.preview.subscribe((preview) => {
          if (preview?.at !== at) return;
          queueMicrotask(() => stop());
          const before = drawn;
          ask(() => {
            const shown = performance.now() - start;
            resolve({ decode: editor.decodeMs.value!, shown, draw: drawMs, inFrame: drawn > before });
          });
        });
        editor.hover(at);
      });

    const found = { ours: [], shown: [], draw: [], meta: [] } as Record<"ours" | "shown" | "draw" | "meta", number[]>;
    let inFrame = 0;
    for (let index = -warmUp; index < count; index++) {
      // Places all over the picture, each new.
      const at = {
        x: ((index + warmUp) * 0.6180339887 * width) % width,
        y: ((index + warmUp) * 0.7548776662 * height) % height,
      };
      const answer = await hover(at);
      const meta = await told<number>({ x: at.x, y: at.y, height, width });
      if (index < 0) continue;
      found.ours.push(answer.decode);
      found.shown.push(answer.shown);
      found.draw.push(answer.draw);
      found.meta.push(meta);
      inFrame += Number(answer.inFrame);
    }
    const device = app.model.state.value.is === "ready" ? app.model.state.value.device : "";
    return { ...found, inFrame, device };
  },
  { count, warmUp: WARM_UP },
);
await browser.stop();
console.log(JSON.stringify(result));
