/** Commands and the keys that call them; all can be changed. */

export const COMMANDS = {
  segment: ["S"],
  select: ["V"],
  brush: ["B"],
  eraser: ["E"],
  polygon: ["P"],
  pan: ["H"],
  everything: ["G"],
  text: ["T"],
  similar: ["L"],
  keep: ["Enter"],
  cancel: ["Escape"],
  larger: ["ArrowUp"],
  smaller: ["ArrowDown"],
  walk: ["Tab"],
  undo: ["Mod+Z"],
  redo: ["Mod+Shift+Z", "Mod+Y"],
  remove: ["Delete", "Backspace"],
  selectAll: ["Mod+A"],
  copy: ["Mod+C"],
  paste: ["Mod+V"],
  hideMask: ["X"],
  rename: ["F2", "R"],
  brushSmaller: ["["],
  brushLarger: ["]"],
  zoomIn: ["+", "="],
  zoomOut: ["-"],
  fit: ["F"],
  actualSize: ["O"],
  previousImage: ["PageUp", ","],
  nextImage: ["PageDown", "."],
  confirm: ["Y"],
  reject: ["N"],
  nextMask: ["J"],
  previousMask: ["K"],
  masks: ["M"],
  colorBy: ["C"],
  panel: ["\\"],
  open: ["Mod+O"],
  download: ["Mod+S"],
  dashboard: ["D"],
  cursorLeft: ["Shift+ArrowLeft"],
  cursorRight: ["Shift+ArrowRight"],
  cursorUp: ["Shift+ArrowUp"],
  cursorDown: ["Shift+ArrowDown"],
  clickOn: ["A"],
  clickOff: ["Shift+A"],
  boxCorner: ["Shift+B"],
  noClass: ["0"],
  class1: ["1"],
  class2: ["2"],
  class3: ["3"],
  class4: ["4"],
  class5: ["5"],
  class6: ["6"],
  class7: ["7"],
  class8: ["8"],
  class9: ["9"],
  help: ["?"],
} as const satisfies Record<string, readonly string[]>;
export type Command = keyof typeof COMMANDS;
export const commandNames = Object.keys(COMMANDS) as Command[];

/** Keys pressed together, written "Mod+Shift+Z"; Mod is Ctrl, or Cmd on a Mac. */
export type Chord = string;

export interface KeyPress {
  readonly key: string;
  readonly ctrlKey: boolean;
  readonly metaKey: boolean;
  readonly altKey: boolean;
  readonly shiftKey: boolean;
}

const ALONE = new Set(["Control", "Meta", "Alt", "Shift", "Dead", "Process", "Unidentified"]);

/** Write a key press as a chord; null for a modifier alone. */
export function chordOf(press: KeyPress): Chord | null {
  if (ALONE.has(press.key)) return null;
  const isLetter = press.key.toUpperCase() !== press.key.toLowerCase() || press.key.length > 1;
  const key = press.key.length === 1 ? press.key.toUpperCase() : press.key;
  const parts = [];
  if (press.ctrlKey || press.metaKey) parts.push("Mod");
  if (press.altKey) parts.push("Alt");
  // Shift is part of a character such as "?" already.
  if (press.shiftKey && isLetter) parts.push("Shift");
  return [...parts, key === " " ? "Space" : key].join("+");
}

export type Bindings = Readonly<Partial<Record<Command, readonly Chord[]>>>;

export class Keymap {
  private readonly byChord = new Map<Chord, Command>();

  /** `changed` are the bindings that differ from the defaults. */
  constructor(readonly changed: Bindings = {}) {
    for (const command of commandNames) for (const chord of this.chords(command)) this.byChord.set(chord, command);
  }

  chords(command: Command): readonly Chord[] {
    return this.changed[command] ?? COMMANDS[command];
  }

  command(chord: Chord): Command | null {
    return this.byChord.get(chord) ?? null;
  }

  /** Bind a chord to a command alone; whichever command had it loses it. */
  bound(command: Command, chord: Chord): Keymap {
    const changed: Partial<Record<Command, readonly Chord[]>> = { ...this.changed, [command]: [chord] };
    const former = this.command(chord);
    if (former && former !== command) changed[former] = this.chords(former).filter((other) => other !== chord);
    return new Keymap(changed);
  }

  /** Write a command's first chord for people. */
  label(command: Command, isMac: boolean): string {
    const chord = this.chords(command)[0];
    return chord === undefined ? "" : readable(chord, isMac);
  }
}

const SIGNS: Readonly<Record<string, string>> = {
  ArrowUp: "↑",
  ArrowDown: "↓",
  ArrowLeft: "←",
  ArrowRight: "→",
  Escape: "Esc",
  Delete: "Del",
  PageUp: "PgUp",
  PageDown: "PgDn",
};

export function readable(chord: Chord, isMac: boolean): string {
  const parts =
    chord === "+" || chord.endsWith("++") ? [...chord.slice(0, -1).split("+").filter(Boolean), "+"] : chord.split("+");
  return parts.map((part) => (part === "Mod" ? (isMac ? "⌘" : "Ctrl") : (SIGNS[part] ?? part))).join(isMac ? "" : "+");
}
