/** The page's side of the worker. */

import type { Fit, Size } from "../geometry/frames";
import type { Logits } from "../geometry/resize";
import { type Prompt, toModelPrompt } from "./prompt";
import type { CallName, Calls, LoadedModel, Response } from "./protocol";
import { Schedule } from "./schedule";

/** One candidate: logits and the IoU that the model predicts for it. */
export interface Candidate {
  readonly logits: Logits;
  readonly score: number;
}
/** The answer to a prompt: candidates from the largest (whole) to the smallest (subpart), and the surest of them. */
export interface Candidates {
  readonly ranked: readonly Candidate[];
  readonly best: number;
  readonly milliseconds: number;
}

interface Question {
  readonly id: string;
  readonly original: Size;
  readonly prompt: Prompt;
}
interface Asked extends Question {
  /** Whether to refine the answer, as the package does for clicks and boxes; a hover gets the decoder's first answer. */
  readonly refines: boolean;
}

export class ModelSession {
  private readonly worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "model" });
  private readonly waiting = new Map<number, { resolve: (reply: never) => void; reject: (error: Error) => void }>();
  private tickets = 0;
  private model: LoadedModel | null = null;
  private readonly schedule = new Schedule<Asked, Candidates>((question) => this.decode(question));

  constructor() {
    this.worker.onmessage = ({ data }: MessageEvent<Response>) => {
      const caller = this.waiting.get(data.ticket);
      this.waiting.delete(data.ticket);
      if ("error" in data) caller?.reject(new Error(data.error));
      else caller?.resolve(data.reply as never);
    };
    this.worker.onerror = (event) => {
      for (const { reject } of this.waiting.values()) reject(new Error(event.message || "The model's worker failed."));
      this.waiting.clear();
    };
  }

  get imageSize(): number {
    return this.model?.imageSize ?? 0;
  }

  get fit(): Fit {
    return this.model?.fit ?? "pad";
  }

  async load(ask: Calls["load"]["ask"]): Promise<LoadedModel> {
    this.model = await this.call("load", ask);
    return this.model;
  }

  /** Answer a click or a box; all are answered, in turn. */
  ask = (question: Question): Promise<Candidates> => this.schedule.ask({ ...question, refines: true });
  /** Answer a hover, or null if a later question overtook it. */
  hover = (question: Question): Promise<Candidates | null> => this.schedule.askLatest({ ...question, refines: false });
  dropHover = (): void => this.schedule.dropHover();

  setImage = (ask: Calls["image"]["ask"]) =>
    this.call("image", ask, [
      ...(ask.picture ? [ask.picture] : []),
      ...(ask.embedding ? [ask.embedding.data.buffer] : []),
    ]);
  hasImage = (id: string) => this.call("has", { id });
  finish = (logits: Logits, original: Size) =>
    this.call("finish", { logits, original, imageSize: this.imageSize, fit: this.fit });
  everything = (id: string, original: Size, grid: number) =>
    this.call("everything", { id, original, imageSize: this.imageSize, fit: this.fit, grid });

  private async decode({ id, original, prompt, refines }: Asked): Promise<Candidates> {
    const { imageSize, fit } = this;
    const asked = toModelPrompt(prompt, original, imageSize, fit, this.model?.padsBoxes ?? false);
    const answer = await this.call("decode", { id, prompt: asked, original, imageSize, fit, refines });
    return rank(answer.logits, answer.scores, answer.side, answer.milliseconds);
  }

  private call<Name extends CallName>(
    name: Name,
    ask: Calls[Name]["ask"],
    transfer: Transferable[] = [],
  ): Promise<Calls[Name]["reply"]> {
    const ticket = ++this.tickets;
    return new Promise((resolve, reject) => {
      this.waiting.set(ticket, { resolve, reject });
      this.worker.postMessage({ ticket, name, ask }, transfer);
    });
  }
}

/** Order candidates by size, the largest first, and find the surest. */
export function rank(logits: Float32Array, scores: Float32Array, side: number, milliseconds: number): Candidates {
  const all = Array.from(scores, (score, index) => {
    const values = logits.subarray(index * side * side, (index + 1) * side * side);
    let cells = 0;
    for (const value of values) if (value > 0) cells += 1;
    return { candidate: { logits: { side, values }, score }, cells };
  });
  all.sort((a, b) => b.cells - a.cells);
  const ranked = all.map(({ candidate }) => candidate);
  const best = ranked.reduce((top, { score }, index) => (score > ranked[top]!.score ? index : top), 0);
  return { ranked, best, milliseconds };
}
