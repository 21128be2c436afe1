/** Time at work; it stops while the page is hidden, and after a while without input. */

/** Seconds without input after which time stops counting. */
export const IDLE = 45;

export class Stopwatch {
  private counted = 0;
  private since: number;
  private touched: number;
  private lapStart = 0;
  private isPaused = false;

  /** `now` gives seconds, from any beginning. */
  constructor(
    private readonly now: () => number,
    counted = 0,
  ) {
    this.since = this.touched = now();
    this.counted = this.lapStart = counted;
  }

  /** Register input. */
  touch(): void {
    this.advance();
    this.touched = this.now();
  }

  pause(): void {
    this.advance();
    this.isPaused = true;
  }

  resume(): void {
    this.advance();
    this.isPaused = false;
    this.touched = this.now();
  }

  /** Seconds counted in all. */
  get seconds(): number {
    this.advance();
    return this.counted;
  }

  /** Seconds counted since the last lap ended. */
  get lap(): number {
    return this.seconds - this.lapStart;
  }

  /** End the lap and return its seconds. */
  endLap(): number {
    const taken = this.lap;
    this.lapStart = this.counted;
    return taken;
  }

  /** Seconds since the last input. */
  get idle(): number {
    return this.now() - this.touched;
  }

  private advance(): void {
    const now = this.now();
    const end = Math.min(now, this.touched + IDLE);
    if (!this.isPaused) this.counted += Math.max(0, end - this.since);
    this.since = now;
  }
}
