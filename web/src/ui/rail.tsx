/** The slim rail of tools at the left; along the bottom on a phone. */

import type { Tool } from "../tools/gesture";
import type { Desk } from "./commands";
import { CommandButton } from "./controls";

const TOOLS: readonly Tool[] = ["segment", "select", "brush", "eraser", "polygon", "pan"];

export function Rail({ desk }: { desk: Desk }) {
  const { app } = desk;
  const { past, future } = app.store.history.value;
  const isOpen = app.image.value !== null;
  return (
    <div class="rail" role="toolbar" aria-orientation="vertical">
      <div class="group">
        {TOOLS.map((tool) => (
          <CommandButton
            key={tool}
            desk={desk}
            command={tool}
            icon={tool}
            kind="tool"
            pressed={app.tool.value === tool}
            disabled={!isOpen}
          />
        ))}
      </div>
      <div class="group">
        <CommandButton
          desk={desk}
          command="everything"
          icon="everything"
          kind="tool"
          disabled={app.promptable.value === null || app.busy.value !== null}
        />
        {app.info.value?.text && (
          <CommandButton desk={desk} command="text" icon="text" kind="tool" pressed={app.sideOpen.value === "text"} />
        )}
      </div>
      <div class="group history">
        <CommandButton desk={desk} command="undo" icon="undo" kind="tool" disabled={past.length === 0} />
        <CommandButton desk={desk} command="redo" icon="redo" kind="tool" disabled={future.length === 0} />
      </div>
      <div class="group last">
        <CommandButton desk={desk} command="help" icon="help" kind="tool" pressed={app.sideOpen.value === "help"} />
        <CommandButton desk={desk} command="panel" icon="panel" kind="tool" pressed={app.panelOpen.value} />
      </div>
    </div>
  );
}
