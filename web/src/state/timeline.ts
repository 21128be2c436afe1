/** What was finished over time, as rows for charts: one entry per interval, also where nothing was done. */

import type { Moment, Status } from "../api/types";

export const STAGES = ["assisted", "semi-automatic", "automatic"] as const;
type AnyStage = (typeof STAGES)[number];

export interface Timeline {
  /** Start of each interval, in seconds since 1970. */
  readonly times: readonly number[];
  /** Seconds per interval. */
  readonly width: number;
  of(stage: AnyStage, what: (moment: Moment) => number | null): (number | null)[];
}

export function timeline({ width, moments }: Status["history"]): Timeline {
  const times: number[] = [];
  if (moments.length > 0) {
    const starts = moments.map(({ at }) => at);
    const [first, last] = [Math.min(...starts), Math.max(...starts)];
    for (let place = 0; place <= Math.round((last - first) / width); place++) times.push(first + place * width);
  }
  const placeOf = ({ at }: Moment) => Math.round((at - times[0]!) / width);
  return {
    times,
    width,
    of(stage, what) {
      const values: (number | null)[] = times.map(() => null);
      for (const moment of moments) if (moment.stage === stage) values[placeOf(moment)] = what(moment);
      return values;
    },
  };
}

export const imagesOf = (moment: Moment): number => moment.images;
export const masksPerImage = (moment: Moment): number | null =>
  moment.images > 0 ? moment.masks / moment.images : null;
export const secondsPerMask = (moment: Moment): number | null =>
  moment.kept > 0 ? moment.seconds / moment.kept : null;

/** Name an interval: by time of day where intervals are short, by day where they are long. */
export function nameOf(time: number, width: number, language: string): string {
  const date = new Date(time * 1000);
  if (width >= 86_400) return date.toLocaleDateString(language, { month: "short", day: "numeric" });
  const options: Intl.DateTimeFormatOptions = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  if (width < 60) options.second = "2-digit";
  if (width >= 3600) Object.assign(options, { month: "short", day: "numeric" });
  return date.toLocaleString(language, options);
}
