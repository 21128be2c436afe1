/** Whether all is saved, and how long to wait after a failed attempt. */

import { ApiError } from "../api/backend";

export type SaveState =
  | { readonly is: "saved" }
  | { readonly is: "saving" }
  | { readonly is: "offline"; readonly message: string }
  | { readonly is: "refused"; readonly message: string };

const FIRST_WAIT = 1;
const LONGEST_WAIT = 30;
const BY_WEIGHT = ["saved", "saving", "offline", "refused"] as const;

/** Return the worse of two states. */
export function worse(a: SaveState, b: SaveState): SaveState {
  return BY_WEIGHT.indexOf(a.is) >= BY_WEIGHT.indexOf(b.is) ? a : b;
}

/** Return the state after a failure and the seconds to wait, given the number of failures before it. */
export function failureOf(error: unknown, failures: number): { state: SaveState; wait: number } {
  const message = error instanceof Error ? error.message : String(error);
  const passes = error instanceof ApiError && (error.isOffline || error.status === 429 || error.status >= 500);
  const asked = error instanceof ApiError ? error.retryAfter : null;
  const wait = asked ?? Math.min(FIRST_WAIT * 2 ** failures, LONGEST_WAIT);
  return { state: { is: passes ? "offline" : "refused", message }, wait };
}
