/** The model in the page: whether it is loaded, and what runs it. */

import { signal } from "@preact/signals";
import type { ModelFiles } from "../api/backend";
import type { ModelInfo } from "../api/types";
import type { ModelSession } from "../model/session";
import { messageOf } from "./notices";

export type ModelState =
  | { readonly is: "loading" }
  | { readonly is: "ready"; readonly device: string }
  | { readonly is: "failed"; readonly message: string };

export class ModelLoader {
  readonly state = signal<ModelState>({ is: "loading" });
  /** Resolves once the model can be asked, or cannot be loaded. */
  done: Promise<void> = Promise.resolve();

  constructor(
    readonly session: ModelSession,
    private readonly files: ModelFiles,
    private readonly failed: (message: string) => void,
  ) {}

  load(model: ModelInfo): void {
    this.done = this.run(model);
  }

  private async run(model: ModelInfo): Promise<void> {
    this.state.value = { is: "loading" };
    try {
      const sizes = { imageSize: model.image_size, maskSize: model.mask_size };
      const ask = { files: this.files, ...sizes, fit: model.fit, padsBoxes: model.pads_boxes };
      this.state.value = { is: "ready", device: (await this.session.load(ask)).device };
    } catch (error) {
      const message = messageOf(error);
      this.state.value = { is: "failed", message };
      this.failed(message);
    }
  }
}
