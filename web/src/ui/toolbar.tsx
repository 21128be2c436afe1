/** The toolbar at the left; along the bottom on a phone. */

import type { Tool } from "../tools/gesture";
import type { AppContext } from "./commands";
import { CommandButton } from "./controls";

const TOOLS: readonly Tool[] = ["segment", "select", "brush", "eraser", "polygon", "pan"];

export function Toolbar({ context }: { context: AppContext }) {
  const { app } = context;
  const { past, future } = app.store.history.value;
  const isOpen = app.pictures.image.value !== null;
  return (
    <div class="toolbar" role="toolbar" aria-orientation="vertical">
      <div class="group">
        {TOOLS.map((tool) => (
          <CommandButton
            key={tool}
            context={context}
            command={tool}
            icon={tool}
            kind="tool"
            pressed={app.settings.tool.value === tool}
            disabled={!isOpen}
          />
        ))}
      </div>
      <div class="group">
        <CommandButton
          context={context}
          command="everything"
          icon="everything"
          kind="tool"
          disabled={app.pictures.promptable.value === null || app.proposals.isSearching.value}
        />
        {app.proposals.searches && (
          <CommandButton
            context={context}
            command="similar"
            icon="similar"
            kind="tool"
            pressed={app.proposals.wanted.value !== null}
            disabled={app.masks.selection.value.size === 0 || app.proposals.isSearching.value}
          />
        )}
        {app.info.value?.text && (
          <CommandButton
            context={context}
            command="text"
            icon="text"
            kind="tool"
            pressed={app.settings.sideOpen.value === "text"}
          />
        )}
      </div>
      <div class="group history">
        <CommandButton context={context} command="undo" icon="undo" kind="tool" disabled={past.length === 0} />
        <CommandButton context={context} command="redo" icon="redo" kind="tool" disabled={future.length === 0} />
      </div>
      <div class="group last">
        <CommandButton
          context={context}
          command="help"
          icon="help"
          kind="tool"
          pressed={app.settings.sideOpen.value === "help"}
        />
        <CommandButton
          context={context}
          command="panel"
          icon="panel"
          kind="tool"
          pressed={app.settings.panelOpen.value}
        />
      </div>
    </div>
  );
}
