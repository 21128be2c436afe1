/** The languages of the page, and blanks filled in. */

import { en } from "./en";
import { zh } from "./zh";

export type StringKey = keyof typeof en;
export type Strings = Readonly<Record<StringKey, string>>;

export type Language = "en" | "zh";
export const inLanguage = (language: Language): Strings => (language === "zh" ? zh : en);

/** Fill a string's blanks. */
export function filled(text: string, blanks: Readonly<Record<string, string | number>> = {}): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => String(blanks[name] ?? whole));
}
