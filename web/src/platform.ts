/** The browser's window, as the state sees it. */

import { readPicture } from "./canvas/picture";
import type { Platform } from "./state/platform";

/** How long a download may take to begin. */
const DOWNLOAD_MS = 60_000;

export const browserPlatform: Platform = {
  isMac: /Mac|iPhone|iPad/.test(navigator.userAgent),
  isWide: innerWidth > 720,
  readPicture,
  download(blob, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), DOWNLOAD_MS);
  },
  reload: () => location.reload(),
  fragment: () => location.hash.slice(1),
  setFragment: (fragment) => (location.hash = fragment),
  onFragment: (changed) => addEventListener("hashchange", changed),
};
