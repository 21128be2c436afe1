/** A browser and a page to test in: the system's Chromium, and the mock server or the one at ANYMASK_URL. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type BrowserContext, chromium, type Page } from "playwright-core";
import { build, preview, type PreviewServer } from "vite";
import type { AppContext } from "../src/ui/commands";

declare global {
  // What main.tsx leaves for tests.
  var anymask: AppContext;
}

const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export interface Options {
  readonly width?: number;
  readonly height?: number;
  readonly dark?: boolean;
  readonly touch?: boolean;
  readonly language?: string;
}

/** The address of the server under test. */
export class Site {
  private constructor(
    readonly url: string,
    readonly isMock: boolean,
    private readonly server: PreviewServer | null,
  ) {}

  /** Serve the built page on a mock server of its own, unless ANYMASK_URL names a real one. */
  static async start(): Promise<Site> {
    const { ANYMASK_URL } = process.env;
    if (ANYMASK_URL) return new Site(ANYMASK_URL, false, null);
    const outDir = process.env[BUILT] ?? (await buildPage());
    const server = await preview({ mode: "mock", logLevel: "error", build: { outDir }, preview: LOOPBACK });
    return new Site(server.resolvedUrls!.local[0]!, true, server);
  }

  async stop(): Promise<void> {
    await this.server?.close();
  }
}

/** Names the folder of a page that was built already. */
export const BUILT = "ANYMASK_E2E_PAGE";
const LOOPBACK = { port: 0, host: "127.0.0.1" };

/** Build the page into a folder of its own, as users get it. */
export async function buildPage(): Promise<string> {
  const outDir = mkdtempSync(join(tmpdir(), "anymask-page-"));
  await build({ mode: "mock", logLevel: "warn", build: { outDir } });
  return outDir;
}

/** A browser with a profile of its own, which goes with it. */
export class Browser {
  private constructor(
    readonly context: BrowserContext,
    private readonly profile: string,
  ) {}

  static async start({ width = 1440, height = 900, dark = false, touch = false, language = "en-US" }: Options = {}) {
    const profile = mkdtempSync(join(tmpdir(), "anymask-e2e-"));
    const context = await chromium.launchPersistentContext(profile, {
      executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium",
      headless: true,
      args: FLAGS,
      viewport: { width, height },
      colorScheme: dark ? "dark" : "light",
      hasTouch: touch,
      locale: language,
      acceptDownloads: true,
    });
    return new Browser(context, profile);
  }

  async stop(): Promise<void> {
    await this.context.close();
    rmSync(this.profile, { recursive: true, force: true });
  }

  /** Open the page, and print what goes wrong in it. */
  async open(url: string): Promise<Page> {
    const page = await this.context.newPage();
    page.on("pageerror", (error) => console.log(`page: ${error.stack}`));
    page.on("console", (message) => {
      if (message.type() === "error" || message.type() === "warning") console.log(`page: ${message.text()}`);
    });
    await page.goto(url);
    return page;
  }
}

/** Wait until prompts can be asked on the open picture; throw what the page says if they never can. */
export async function promptable(page: Page): Promise<void> {
  const outcome = await page.waitForFunction(
    () => {
      const app = globalThis.anymask?.app;
      const image = app?.store.document.value.image;
      if (!app || !image) return null;
      if (app.pictures.promptable.value === image) return { message: "" };
      return app.pictures.problem.value?.image === image ? { message: app.pictures.problem.value.message } : null;
    },
    null,
    { timeout: 60_000 },
  );
  const { message } = (await outcome.jsonValue())!;
  if (message) throw new Error(`The page says of the open picture: ${message}`);
}

/** Where a place of the picture, given as shares of its sides, is on the screen. */
export function place(page: Page, x: number, y: number): Promise<{ x: number; y: number }> {
  return page.evaluate(
    ([u, v]) => {
      const { app, viewport } = globalThis.anymask;
      const { left, top } = document.querySelector("canvas.over")!.getBoundingClientRect();
      const [height, width] = app.pictures.size.value!;
      const view = viewport!.view.value;
      return { x: left + view.x + u! * width * view.scale, y: top + view.y + v! * height * view.scale };
    },
    [x, y],
  );
}

export async function saved(page: Page): Promise<void> {
  await page.waitForFunction(() => globalThis.anymask.app.store.autosave.isSafe);
}
