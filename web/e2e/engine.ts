/** A data engine played in the browser: the mock server's pictures, and queues that are answered here. */

import type { Page, Route } from "playwright-core";
import type { ImageInfo, Plan, Status } from "../src/api/types";
import { none } from "../tests/summary";

const statistics = { mine: none, all: none };

/** One queue of the samples, for one page. */
export class PlayedEngine {
  /** What the page asked for, in order. */
  readonly calls: { path: string; body: Record<string, unknown> }[] = [];
  readonly images: ImageInfo[] = [];

  /** Put samples on the mock server at `url`, and answer the page's questions about the project from here. */
  async install(page: Page, url: string, samples: readonly string[]): Promise<void> {
    for (const sample of samples) {
      const response = await fetch(new URL("api/images", url), {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ sample }),
      });
      this.images.push((await response.json()) as ImageInfo);
    }
    const info = (await (await fetch(new URL("api/info", url))).json()) as object;
    await page.route("**/api/info", (route) =>
      route.fulfill({ json: { ...info, project: "herbarium", engine: true } }),
    );
    await page.route("**/api/engine/**", (route) => this.answer(route));
  }

  /** What the page said when it asked for something first. */
  body(path: string): Record<string, unknown> {
    return this.calls.find((call) => call.path === path)!.body;
  }

  private async answer(route: Route): Promise<void> {
    const path = new URL(route.request().url()).pathname.split("/").at(-1)!;
    const body = (route.request().postDataJSON() ?? {}) as Record<string, unknown>;
    if (path !== "work" && path !== "status") this.calls.push({ path, body });
    const answers: Record<string, () => unknown> = {
      status: () => this.status(),
      next: () => this.next(body["worker"]),
      renew: () => ({ held: true }),
      finish: () => ({ counted: true, statistics }),
    };
    await route.fulfill({ json: (answers[path] ?? (() => this.plan()))() });
  }

  private count(path: string): number {
    return this.calls.filter((call) => call.path === path).length;
  }

  private queue() {
    const taken = this.count("next");
    const [done, skipped] = [this.count("finish"), this.count("skip")];
    return { open: this.images.length - taken, leased: Math.min(taken, 1), done, skipped, quarantined: 0 };
  }

  private plan(): Plan {
    return {
      queues: {
        assisted: this.queue(),
        "semi-automatic": { open: 0, leased: 0, done: 0, skipped: 0, quarantined: 0 },
      },
      suggested: "assisted",
      mask_seconds: 30,
      image_seconds: 0,
      asks_classes: false,
      lease_seconds: 900,
    };
  }

  private next(worker: unknown) {
    const image = this.images[this.count("next") - 1];
    const lease = { job: 1, image: image?.id, stage: "assisted", worker, token: "0".repeat(32), is_second: false };
    return { task: image ? { lease, image, statistics } : null, work: this.plan() };
  }

  private status(): Status {
    return {
      project: "herbarium",
      at: 1000,
      images: this.images.length,
      masks: 1,
      queues: { assisted: this.queue() },
      stages: { assisted: { ...none, images: 1, added: 1 }, "semi-automatic": none, automatic: none, prefill: none },
      people: { assisted: { Ann: { ...none, images: 1, added: 1 } }, "semi-automatic": {} },
      working: [],
      models: [
        {
          id: 1,
          at: 0,
          hash: "fake",
          trigger: "the first",
          masks: 0,
          verdict: "promoted",
          scores: {},
          is_current: true,
        },
      ],
      verifiers: [],
      history: {
        width: 60,
        moments: [{ at: 900, stage: "assisted", images: 1, masks: 1, kept: 1, seconds: 5, clicks: 1 }],
      },
      last_hour: { assisted: none, "semi-automatic": none, automatic: none, prefill: none },
      quarantined: [],
      quality: {
        check: { pairs: 0, over_90: 0, over_75: 0, rejected: 0 },
        review: { accepted: 0, fixed: 0, rejected: 0, reasons: {} },
        agreement: { images: 0, matched: 0, mean_iou: 0 },
        honeypots: {},
      },
      due: null,
      serving: "fake",
    };
  }
}
