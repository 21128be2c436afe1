/** What each command does, and the listener that turns key presses into commands. */

import type { Viewport } from "../canvas/viewport";
import type { App } from "../state/app";
import type { Editor } from "../state/editor";
import { awaits } from "../state/provenance";
import type { Work } from "../state/work";
import type { Tool } from "../tools/gesture";
import { type Command, chordOf } from "../tools/keys";

export interface AppContext {
  readonly app: App;
  readonly editor: Editor;
  viewport: Viewport | null;
  /** Opens the system's file dialogue. */
  pickFiles: () => void;
}

const ZOOM_STEP = 1.25;
const BRUSH_STEP = 1.15;

/** Do a command; false if there was nothing to do, so that the key keeps its usual meaning. */
export function perform(command: Command, context: AppContext): boolean {
  const { app, editor, viewport } = context;
  const action = actions[command];
  if (action) return action(context) !== false;
  const number = /^class(\d)$/.exec(command);
  if (number) {
    const chosen = app.store.document.peek().classes[Number(number[1]) - 1];
    if (!chosen) return false;
    app.masks.setClass(chosen.id);
    return true;
  }
  const cursor = CURSOR[command];
  if (!cursor) return false;
  const step = 12 / (viewport?.view.peek().scale ?? 1);
  editor.moveCursor(cursor[0] * step, cursor[1] * step);
  return true;
}

const CURSOR: Partial<Record<Command, readonly [number, number]>> = {
  cursorLeft: [-1, 0],
  cursorRight: [1, 0],
  cursorUp: [0, -1],
  cursorDown: [0, 1],
};

const actions: Partial<Record<Command, (context: AppContext) => unknown>> = {
  segment: ({ app }) => setTool(app, "segment"),
  select: ({ app }) => setTool(app, "select"),
  brush: ({ app }) => setTool(app, "brush"),
  eraser: ({ app }) => setTool(app, "eraser"),
  polygon: ({ app }) => setTool(app, "polygon"),
  pan: ({ app }) => setTool(app, "pan"),
  everything: ({ app }) => void app.proposals.findEverything(),
  similar: ({ app }) => {
    const chosen = [...app.masks.selection.peek()].flatMap((id) => app.store.annotations.peek().get(id) ?? []);
    if (chosen.length === 0 || !app.proposals.searches) return false;
    void app.proposals.findLike(chosen);
    return true;
  },
  text: ({ app }) => {
    if (!app.info.peek()?.text) return false;
    app.settings.sideOpen.value = app.settings.sideOpen.peek() === "text" ? null : "text";
    return true;
  },
  keep: ({ app, editor }) => {
    const proposals = app.proposals.shown.peek();
    if (proposals) app.proposals.accept(proposals);
    else if (app.store.document.peek().draft) editor.keep();
    else return false;
    return true;
  },
  cancel: ({ app, editor }) => {
    const work = app.work.peek();
    if (work?.rejecting.peek()) work.rejecting.value = null;
    else if (app.settings.sideOpen.peek()) app.settings.sideOpen.value = null;
    else if (editor.boxCorner.peek()) {
      editor.boxCorner.value = null;
      editor.dragged.value = null;
    } else if (app.proposals.shown.peek() || app.proposals.wanted.peek()) app.proposals.drop();
    else if (app.store.document.peek().draft) editor.drop();
    else if (app.notices.current.peek()) app.notices.close();
    else app.masks.select(null);
  },
  larger: ({ editor }) => editor.walk(-1, false),
  smaller: ({ editor }) => editor.walk(1, false),
  walk: ({ editor }) => editor.walk(1, true),
  undo: ({ app }) => app.undo(),
  redo: ({ app }) => app.redo(),
  remove: ({ app }) => {
    if (app.masks.selection.peek().size === 0) return false;
    app.masks.removeSelected();
    return true;
  },
  selectAll: ({ app }) => app.masks.selectAll(),
  copy: ({ app }) => {
    const count = app.masks.copy();
    if (count > 0) app.notices.info(app.t("copied", { count }));
    return count > 0;
  },
  paste: ({ app }) => app.masks.paste(),
  hideMask: ({ app }) => {
    if (app.masks.selection.peek().size === 0) return false;
    app.masks.toggleVisible(app.masks.selection.peek());
    return true;
  },
  rename: ({ app }) => {
    const selected = app.masks.selected.peek();
    if (!selected) return false;
    app.settings.panelOpen.value = true;
    app.masks.renaming.value = selected.id;
    return true;
  },
  brushSmaller: ({ viewport }) => viewport?.sizeBrush(1 / BRUSH_STEP),
  brushLarger: ({ viewport }) => viewport?.sizeBrush(BRUSH_STEP),
  zoomIn: ({ viewport }) => viewport?.zoom(ZOOM_STEP),
  zoomOut: ({ viewport }) => viewport?.zoom(1 / ZOOM_STEP),
  fit: ({ viewport }) => viewport?.fit(),
  actualSize: ({ viewport }) => viewport?.actualSize(),
  previousImage: ({ app }) => app.step(-1),
  nextImage: ({ app }) => app.step(1),
  confirm: ({ app }) => judged(app, (work, ids) => work.confirm(...ids)),
  reject: ({ app }) => judged(app, (work, ids) => work.reject(...ids)),
  nextMask: ({ app }) => app.masks.step(1),
  previousMask: ({ app }) => app.masks.step(-1),
  dashboard: ({ app }) => {
    if (!app.work.peek()) return false;
    app.settings.showView(app.settings.view.peek() === "dashboard" ? "pictures" : "dashboard");
    return true;
  },
  masks: ({ app }) => {
    app.settings.showMasks.value = !app.settings.showMasks.peek();
  },
  colorBy: ({ app }) => {
    app.settings.colorBy.value = app.settings.colorBy.peek() === "instance" ? "class" : "instance";
  },
  panel: ({ app }) => {
    app.settings.panelOpen.value = !app.settings.panelOpen.peek();
  },
  open: ({ pickFiles }) => pickFiles(),
  download: ({ app }) => void app.export(app.backend.formats[0]!, true),
  clickOn: ({ editor }) => editor.clickCursor(1),
  clickOff: ({ editor }) => editor.clickCursor(0),
  boxCorner: ({ editor }) => editor.cornerAtCursor(),
  noClass: ({ app }) => app.masks.setClass(null),
  help: ({ app }) => {
    app.settings.sideOpen.value = app.settings.sideOpen.peek() === "help" ? null : "help";
  },
};

/** Judge the selected masks that wait for a verdict; in a review or a check also those that have one. */
function judged(app: App, say: (work: Work, ids: readonly string[]) => void): boolean {
  const [work, chosen] = [app.work.peek(), app.masks.selection.peek()];
  if (!work) return false;
  const all = [...chosen].flatMap((id) => app.store.annotations.peek().get(id) ?? []);
  const open = all.filter((mask) => mask.verdict || (all.length === 1 && awaits(mask)));
  if (open.length === 0) return false;
  say(
    work,
    open.map(({ id }) => id),
  );
  return true;
}

function setTool(app: App, tool: Tool): void {
  app.settings.tool.value = tool;
}

/** Commands that belong to the picture: they must not take Tab, Enter and arrows from a focused control. */
const ON_PICTURE = new Set<Command>(["walk", "larger", "smaller", "keep"]);

/** Listen to the whole window; return a function that stops listening. */
export function listenToKeys(context: AppContext): () => void {
  const down = (event: KeyboardEvent) => {
    if (event.defaultPrevented || event.isComposing) return;
    context.app.work.peek()?.touch();
    const target = event.target instanceof HTMLElement ? event.target : null;
    const typing = target?.matches("input:not([type=range], [type=color]), textarea, select") ?? false;
    if (typing && event.key !== "Escape") return;
    if (event.key === " " && !target?.matches("button")) {
      if (context.viewport) context.viewport.spaceHeld.value = true;
      event.preventDefault();
      return;
    }
    const chord = chordOf(event);
    const command = chord && context.app.settings.keymap.peek().command(chord);
    if (!command) return;
    if (context.app.settings.view.peek() === "dashboard") {
      if (command === "dashboard" || command === "cancel") perform("dashboard", context);
      return;
    }
    // The browser's own event follows, which may bring pictures.
    if (command === "paste" && chord === "Mod+V") return;
    const onControl = target?.matches("button, input, summary, [role=option], a") ?? false;
    if (onControl && ON_PICTURE.has(command)) return;
    if (perform(command, context)) event.preventDefault();
  };
  const up = (event: KeyboardEvent) => {
    if (event.key === " " && context.viewport) context.viewport.spaceHeld.value = false;
  };
  window.addEventListener("keydown", down);
  window.addEventListener("keyup", up);
  return () => {
    window.removeEventListener("keydown", down);
    window.removeEventListener("keyup", up);
  };
}
