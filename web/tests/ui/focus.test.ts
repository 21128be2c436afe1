import { afterEach, expect, test, vi } from "vitest";
import { listenToFocus } from "../../src/ui/focus";

afterEach(() => vi.unstubAllGlobals());

/** A control by the selectors that it answers to. */
class Control {
  readonly blur = vi.fn();
  constructor(private readonly tag: string) {}
  closest(selectors: string): this | null {
    return selectors.split(", ").includes(this.tag) ? this : null;
  }
}

function setUp() {
  const window = new EventTarget();
  const page = { activeElement: null as unknown };
  vi.stubGlobal("window", window);
  vi.stubGlobal("document", page);
  const stop = listenToFocus();
  const happens = (type: string, target: Control) => {
    const event = new Event(type);
    Object.defineProperty(event, "target", { value: target });
    window.dispatchEvent(event);
  };
  return { page, happens, stop };
}

test("what was used with the pointer lets go of the keys", () => {
  const { page, happens, stop } = setUp();
  for (const [tag, type] of [
    ["button", "click"],
    ["input[type=range]", "click"],
    ["select", "change"],
  ] as const) {
    const control = new Control(tag);
    page.activeElement = control;
    happens("pointerdown", control);
    happens(type, control);
    expect(control.blur, tag).toHaveBeenCalledOnce();
    happens("keydown", control);
    happens(type, control);
    expect(control.blur, `${tag} with keys`).toHaveBeenCalledOnce();
  }
  stop();
});

test("a list stays open, and what a click opened keeps the focus", () => {
  const { page, happens } = setUp();
  const [list, button, field] = [new Control("select"), new Control("button"), new Control("input")];
  page.activeElement = list;
  happens("pointerdown", list);
  happens("click", list);
  expect(list.blur).not.toHaveBeenCalled();
  page.activeElement = field;
  happens("pointerdown", button);
  happens("click", button);
  expect(field.blur).not.toHaveBeenCalled();
  expect(button.blur).not.toHaveBeenCalled();
});
