/** All keys, in a sheet at the side; each can be changed. */

import { useSignal, useSignalEffect } from "@preact/signals";
import { type Command, chordOf, commandNames } from "../tools/keys";
import type { AppContext } from "./commands";
import { Icon } from "./icons";

/** Commands of a data engine's project alone. */
const AT_WORK = new Set<Command>(["confirm", "reject", "dashboard"]);

export function Help({ context }: { context: AppContext }) {
  const { app } = context;
  const waiting = useSignal<Command | null>(null);
  useSignalEffect(() => {
    const command = waiting.value;
    if (!command) return;
    const take = (event: KeyboardEvent) => {
      const chord = chordOf(event);
      event.preventDefault();
      event.stopImmediatePropagation();
      if (!chord) return;
      waiting.value = null;
      if (chord !== "Escape" || command === "cancel")
        app.settings.bindings.value = app.settings.keymap.peek().bound(command, chord).changed;
    };
    window.addEventListener("keydown", take, { capture: true });
    return () => window.removeEventListener("keydown", take, { capture: true });
  });
  if (app.settings.sideOpen.value !== "help") return null;
  const { keymap } = app.settings;
  const isThere = (command: Command) =>
    command === "text" ? app.info.value?.text : app.work.value !== null || !AT_WORK.has(command);
  return (
    <aside class="help" aria-label={app.t("keysTitle")}>
      <header>
        <h2>{app.t("keysTitle")}</h2>
        <button
          type="button"
          class="button plain"
          onClick={() => (app.settings.language.value = app.settings.language.value === "en" ? "zh" : "en")}
        >
          <span>{app.t("language")}</span>
        </button>
        <button
          type="button"
          class="button plain"
          title={`${app.t("close")} (Esc)`}
          aria-label={app.t("close")}
          onClick={() => (app.settings.sideOpen.value = null)}
        >
          <Icon name="close" />
          <kbd>Esc</kbd>
        </button>
      </header>
      <p class="hint">{app.t("keysHint")}</p>
      <ul>
        {commandNames.filter(isThere).map((command) => (
          <li key={command}>
            <button
              type="button"
              class="key"
              aria-pressed={waiting.value === command}
              onClick={() => (waiting.value = command)}
            >
              <span>{app.t(command)}</span>
              {waiting.value === command ? (
                <em>{app.t("pressKey")}</em>
              ) : (
                <span class="chords">
                  {keymap.value.chords(command).map((chord) => (
                    <kbd key={chord}>{app.settings.written(chord)}</kbd>
                  ))}
                </span>
              )}
            </button>
          </li>
        ))}
      </ul>
      <button
        type="button"
        class="button plain"
        disabled={Object.keys(app.settings.bindings.value).length === 0}
        onClick={() => (app.settings.bindings.value = {})}
      >
        <span>{app.t("resetKeys")}</span>
      </button>
      {app.work.value && <p>{app.t("reasonKeys")}</p>}
      <section class="gestures">
        <h2>{app.t("mouseTitle")}</h2>
        <p>{app.t("mouseClick")}</p>
        <p>{app.t("mouseDrag")}</p>
        <p>{app.t("mouseBrush")}</p>
        <p>{app.t("touchTap")}</p>
      </section>
      {app.model.state.value.is === "ready" && (
        <p class="hint">{app.t("device", { device: app.model.state.value.device })}</p>
      )}
    </aside>
  );
}
