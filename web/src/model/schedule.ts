/**
 * Which question the decoder is asked next.
 *
 * One runs at a time. Clicks wait in line and all are answered; of hovers only the latest is kept, and it waits for
 * clicks. A hover that was overtaken resolves to null.
 */
export class Schedule<Question, Reply> {
  private line: Waiting<Question, Reply>[] = [];
  private hover: Waiting<Question, Reply> | null = null;
  private busy = false;

  constructor(private readonly run: (question: Question) => Promise<Reply>) {}

  /** Ask in turn; rejects if the run does. */
  ask(question: Question): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const settle = (reply: Reply | null) => (reply === null ? reject(new Error("cancelled")) : resolve(reply));
      this.line.push({ question, resolve: settle, reject });
      this.next();
    });
  }

  /** Ask unless something later is asked first. */
  askLatest(question: Question): Promise<Reply | null> {
    this.hover?.resolve(null);
    return new Promise((resolve, reject) => {
      this.hover = { question, resolve, reject };
      this.next();
    });
  }

  /** Drop the waiting hover, as when the pointer leaves. */
  dropHover(): void {
    this.hover?.resolve(null);
    this.hover = null;
  }

  private next(): void {
    if (this.busy) return;
    const item = this.line.shift() ?? this.hover;
    if (!item) return;
    if (item === this.hover) this.hover = null;
    this.busy = true;
    this.run(item.question)
      .then(item.resolve, item.reject)
      .finally(() => {
        this.busy = false;
        this.next();
      });
  }
}

interface Waiting<Question, Reply> {
  readonly question: Question;
  readonly resolve: (reply: Reply | null) => void;
  readonly reject: (error: unknown) => void;
}
