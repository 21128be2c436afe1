/** Numbers as people read them; an unknown one is a dash. */

export const decimal = (value: number | null, digits = 1): string => (value === null ? "–" : value.toFixed(digits));
export const seconds = (value: number | null): string =>
  value === null ? "–" : `${value.toFixed(value < 10 ? 1 : 0)} s`;
export const percent = (value: number | null): string => (value === null ? "–" : `${Math.round(100 * value)} %`);
export const count = (value: number): string => value.toLocaleString("en").replaceAll(",", "\u202f");
