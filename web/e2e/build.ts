/** Before all tests in the browser: build the page once, unless none of them is served from here. */

import { rmSync } from "node:fs";
import { BUILT, buildPage } from "./browser";

const SERVED_ELSEWHERE = ["ANYMASK_URL", "ANYMASK_SITE", "ANYMASK_JUDGING"];

export async function setup(): Promise<(() => void) | undefined> {
  if (SERVED_ELSEWHERE.some((name) => process.env[name])) return undefined;
  const folder = await buildPage();
  process.env[BUILT] = folder;
  return () => rmSync(folder, { recursive: true, force: true });
}
