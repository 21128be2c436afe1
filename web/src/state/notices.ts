/** The one message that is shown over the picture: news go by themselves, errors stay until they are closed. */

import { signal } from "@preact/signals";

export interface Notice {
  readonly text: string;
  readonly kind: "info" | "error";
  readonly retry: (() => void) | null;
}

const NOTICE_MS = 8000;

export class Notices {
  readonly current = signal<Notice | null>(null);
  private timer: ReturnType<typeof setTimeout> | undefined;

  info(text: string): void {
    this.show({ text, kind: "info", retry: null });
  }

  error(text: string, retry: (() => void) | null = null): void {
    this.show({ text, kind: "error", retry });
  }

  close(): void {
    clearTimeout(this.timer);
    this.current.value = null;
  }

  private show(notice: Notice): void {
    clearTimeout(this.timer);
    this.current.value = notice;
    if (notice.kind === "info") this.timer = setTimeout(() => this.close(), NOTICE_MS);
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
