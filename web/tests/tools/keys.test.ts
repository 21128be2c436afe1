import { expect, test } from "vitest";
import { COMMANDS, chordOf, commandNames, Keymap, type KeyPress, readable } from "../../src/tools/keys";
import { en } from "../../src/i18n/en";
import { zh } from "../../src/i18n/zh";

const press = (key: string, more: Partial<KeyPress> = {}): KeyPress => ({
  key,
  ctrlKey: false,
  metaKey: false,
  altKey: false,
  shiftKey: false,
  ...more,
});

test("chords are written the same on every system", () => {
  expect(chordOf(press("z", { ctrlKey: true }))).toBe("Mod+Z");
  expect(chordOf(press("Z", { metaKey: true, shiftKey: true }))).toBe("Mod+Shift+Z");
  expect(chordOf(press("?", { shiftKey: true }))).toBe("?");
  expect(chordOf(press("ArrowUp", { shiftKey: true }))).toBe("Shift+ArrowUp");
  expect(chordOf(press("Shift", { shiftKey: true }))).toBeNull();
});

test("no key calls two commands", () => {
  const chords = commandNames.flatMap((command) => [...COMMANDS[command]]);
  expect(new Set(chords).size).toBe(chords.length);
});

test("a key bound anew leaves the command that had it", () => {
  const keymap = new Keymap().bound("fit", "Z").bound("brush", "Mod+Y");
  expect(keymap.command("Z")).toBe("fit");
  expect(keymap.command("F")).toBeNull();
  expect(keymap.command("Mod+Y")).toBe("brush");
  expect(keymap.chords("redo")).toEqual(["Mod+Shift+Z"]);
  expect(new Keymap(JSON.parse(JSON.stringify(keymap.changed))).command("Z")).toBe("fit");
});

test("keys read well", () => {
  expect(readable("Mod+Shift+Z", false)).toBe("Ctrl+Shift+Z");
  expect(readable("Mod+Z", true)).toBe("⌘Z");
  expect(readable("+", false)).toBe("+");
  expect(readable("ArrowUp", false)).toBe("↑");
});

test("both languages fill in the same blanks", () => {
  const blanks = (text: string) => (text.match(/\{\w+\}/g) ?? []).sort();
  for (const key of Object.keys(en) as (keyof typeof en)[]) expect(blanks(zh[key]), key).toEqual(blanks(en[key]));
});
