/** A queue's pictures by state, as a bar and in words; and a named number. */

import type { Queue } from "../api/types";
import type { AppContext } from "./commands";
import { count } from "./format";

export function Figure({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

const STATES = ["done", "leased", "open", "skipped", "quarantined"] as const;

export function QueueBar({ context, queue }: { context: AppContext; queue: Queue | undefined }) {
  const { app } = context;
  const parts = STATES.map((state) => [state, queue?.[state] ?? 0] as const).filter(([, number]) => number > 0);
  const total = parts.reduce((sum, [, number]) => sum + number, 0);
  if (total === 0) return <p class="queue none">{app.t("notBegun")}</p>;
  const words = parts.map(([state, number]) => `${count(number)} ${app.t(`state_${state}`)}`).join(" · ");
  return (
    <div class="queue">
      <div class="bar" role="img" aria-label={words}>
        {parts.map(([state, number]) => (
          <span key={state} class={state} style={{ flexGrow: number }} />
        ))}
      </div>
      <p>{words}</p>
    </div>
  );
}
