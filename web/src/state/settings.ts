/** How the page looks and which tool is in hand: what the person chose, most of it remembered by the browser. */

import { computed, signal } from "@preact/signals";
import { filled, inLanguage, type StringKey } from "../i18n/language";
import type { Tool } from "../tools/gesture";
import { type Bindings, type Chord, type Command, Keymap, readable } from "../tools/keys";
import { persisted, persistedLanguage } from "./appearance";
import type { Platform } from "./platform";

export class Settings {
  readonly tool = signal<Tool>("segment");
  /** What a tap means, where there is no second button: 1 on the object, 0 off it. */
  readonly tapLabel = signal<0 | 1>(1);
  /** Diameter of the brush, image pixels. */
  readonly brush = signal(12);
  /** How far a simplified outline may lie from the mask's edge, image pixels. */
  readonly tolerance = persisted("tolerance", 1);
  /** Whether masks are exported as outlines, simpler by the tolerance, where a format has polygons. */
  readonly outlines = persisted("outlines", false);
  /** What is less like the examples than this is not proposed, 0 to 1. */
  readonly similarity = persisted("similarity", 0.4);
  /** Opacity of masks, 0 to 1. */
  readonly opacity = persisted("opacity", 0.45);
  readonly colorBy = persisted<"instance" | "class">("color-by", "instance");
  readonly showMasks = signal(true);
  readonly panelOpen;
  readonly sideOpen = signal<"help" | "text" | null>(null);
  readonly view = signal<"pictures" | "dashboard">("pictures");
  readonly language = persistedLanguage();
  /** Keys that differ from the defaults. */
  readonly bindings = persisted<Bindings>("keys", {});
  readonly keymap = computed(() => new Keymap(this.bindings.value));

  constructor(private readonly platform: Platform) {
    this.panelOpen = persisted("panel", platform.isWide);
  }

  t = (key: StringKey, blanks?: Readonly<Record<string, string | number>>): string =>
    filled(inLanguage(this.language.value)[key], blanks);

  /** Title of a control: what it does and its key. */
  titled = (command: Command): string => {
    const label = this.keyOf(command);
    return label ? `${this.t(command)} (${label})` : this.t(command);
  };

  /** Keys pressed together, as people write them. */
  written = (chord: Chord): string => readable(chord, this.platform.isMac);

  /** The key of a command, as people write it. */
  keyOf = (command: Command): string => this.keymap.value.label(command, this.platform.isMac);

  /** The dashboard has an address of its own. */
  watchAddress(): void {
    const read = () => (this.view.value = this.platform.fragment() === "dashboard" ? "dashboard" : "pictures");
    this.platform.onFragment(read);
    read();
  }

  showView(view: "pictures" | "dashboard"): void {
    this.platform.setFragment(view === "dashboard" ? "dashboard" : "");
  }
}
