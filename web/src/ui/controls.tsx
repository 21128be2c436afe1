/** Controls that several parts of the page use. */

import type { ComponentChildren } from "preact";
import type { App } from "../state/app";
import type { Command } from "../tools/keys";
import { type AppContext, perform } from "./commands";
import { Icon, type IconName } from "./icons";

interface CommandButtonProps {
  context: AppContext;
  command: Command;
  icon?: IconName;
  pressed?: boolean;
  disabled?: boolean;
  kind?: "tool" | "plain" | "accent";
  children?: ComponentChildren;
}

/** A button for a command: it names its key, and shows it where there is room. */
export function CommandButton({
  context,
  command,
  icon,
  pressed,
  disabled,
  kind = "plain",
  children,
}: CommandButtonProps) {
  const { app } = context;
  const key = app.settings.keyOf(command);
  return (
    <button
      type="button"
      class={`button ${kind}`}
      title={app.settings.titled(command)}
      aria-label={children ? undefined : app.t(command)}
      aria-keyshortcuts={key || undefined}
      aria-pressed={pressed}
      data-command={command}
      disabled={disabled}
      onClick={() => perform(command, context)}
    >
      {icon && <Icon name={icon} />}
      {children && <span>{children}</span>}
      {key && <kbd>{key}</kbd>}
    </button>
  );
}

interface SliderProps {
  label: string;
  value: number;
  min: number;
  max: number;
  step: number;
  text: string;
  onInput: (value: number) => void;
}

export function Slider({ label, value, min, max, step, text, onInput }: SliderProps) {
  return (
    <label class="slider">
      <span>{label}</span>
      <input
        type="range"
        min={min}
        max={max}
        step={step}
        value={value}
        aria-valuetext={text}
        onInput={(event) => onInput(event.currentTarget.valueAsNumber)}
      />
      <output>{text}</output>
    </label>
  );
}

/** How simple outlines are: what is shown of the selected mask with the polygon tool, and what is exported. */
export function ToleranceSlider({ app }: { app: App }) {
  const tolerance = app.settings.tolerance.value;
  return (
    <Slider
      label={app.t("tolerance")}
      min={0}
      max={20}
      step={0.5}
      value={tolerance}
      text={`${tolerance} px`}
      onInput={(value) => (app.settings.tolerance.value = value)}
    />
  );
}
