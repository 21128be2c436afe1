/** Along the bottom of a data engine's project: the picture's stage and time, statistics, and what to do with it. */

import { useSignalEffect } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { rates } from "../state/provenance";
import type { Work } from "../state/work";
import type { AppContext } from "./commands";
import { CommandButton } from "./controls";
import { decimal, percent, seconds } from "./format";
import { Reasons, Verdicts } from "./judgement";
import type { Stage } from "../api/types";
import type { StringKey } from "../i18n/language";

export function TaskBar({ context, work }: { context: AppContext; work: Work }) {
  const { app } = context;
  const task = work.task.value;
  if (!task) return null;
  const stage = task.lease.stage;
  return (
    <footer class="task">
      <div class="what">
        <strong>
          {app.t(stage)}
          {task.lease.is_second && <small> {app.t("secondOpinion")}</small>}
        </strong>
        <small title={task.image.name}>{task.image.name}</small>
      </div>
      <Timer context={context} work={work} />
      {work.judges.value ? <Verdicts context={context} work={work} /> : <Figures context={context} work={work} />}
      <div class="acts">
        <CommandButton context={context} command="dashboard" icon="dashboard" />
        <button
          type="button"
          class="button plain"
          aria-expanded={work.skipping.value}
          disabled={work.isBusy.value}
          onClick={() => {
            work.rejecting.value = null;
            work.skipping.value = !work.skipping.value;
          }}
        >
          <span>{app.t("skip")}</span>
        </button>
        <button
          type="button"
          class="button plain"
          title={app.t(work.judges.value ? "pauseJudgedHint" : "pauseHint")}
          disabled={work.isBusy.value}
          onClick={() => void work.pause()}
        >
          <span>{app.t("pause")}</span>
        </button>
        <button
          type="button"
          class="button accent"
          title={app.settings.titled("nextImage")}
          disabled={work.isBusy.value}
          onClick={() => void work.finish()}
        >
          <span>{app.t("done")}</span>
        </button>
      </div>
      <Reasons context={context} work={work} />
    </footer>
  );
}

function Timer({ context, work }: { context: AppContext; work: Work }) {
  const { app } = context;
  const limit = work.maskLimit.value;
  const taken = work.maskSeconds.value;
  const late = work.isLate.value;
  const hint = late ? app.t("moveOn", { seconds: limit }) : work.isOverdue.value ? app.t("imageOverdue") : null;
  return (
    <div class={`timer ${late ? "late" : ""}`}>
      <span>
        {app.t("thisMask")} <b>{seconds(taken)}</b>
        <small> / {app.t("onPicture", { time: clock(work.effort.value.seconds) })}</small>
      </span>
      {limit > 0 && <progress value={Math.min(taken, limit)} max={limit} aria-hidden="true" />}
      {hint && <em role="status">{hint}</em>}
    </div>
  );
}

function Figures({ context, work }: { context: AppContext; work: Work }) {
  const { app } = context;
  const known = work.statistics.value;
  if (!known) return null;
  const mine = rates(known.mine, { effort: work.effort.value, made: work.made() });
  const all = rates(known.all);
  const shown: [StringKey, string, string][] = [
    ["secondsPerMask", seconds(mine.secondsPerMask), seconds(all.secondsPerMask)],
    ["clicksPerMask", decimal(mine.clicksPerMask), decimal(all.clicksPerMask)],
    ["masksPerImage", decimal(mine.masksPerImage), decimal(all.masksPerImage)],
    ["byHand", percent(mine.byHand), percent(all.byHand)],
  ];
  return (
    <dl class="figures" title={app.t("figuresHint")}>
      {shown.map(([key, own, others]) => (
        <div key={key}>
          <dt>{app.t(key)}</dt>
          <dd>
            {own} <small>{app.t("ofAll", { figure: others })}</small>
          </dd>
        </div>
      ))}
    </dl>
  );
}

const SUGGESTED: readonly Stage[] = ["assisted", "semi-automatic"];
const JUDGED: readonly Stage[] = ["review", "check"];

/** Before the first picture and after the last: who is there, and what there is to do. */
export function Welcome({ context, work }: { context: AppContext; work: Work }) {
  const { app } = context;
  const plan = work.plan.value;
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => field.current?.focus(), []);
  useSignalEffect(() => {
    if (app.remote.workTick.value > 0) void work.refresh();
  });
  if (work.task.value || !plan) return null;
  const chosen = work.stage.value;
  const open = (chosen ? [chosen] : SUGGESTED).reduce((sum, stage) => sum + (plan.queues[stage]?.open ?? 0), 0);
  // Reviews and checks are there for those who choose them, once somebody has opened one.
  const isThere = (stage: Stage) =>
    stage === chosen || Object.values(plan.queues[stage] ?? {}).some((number) => number);
  const stages = [...SUGGESTED, ...JUDGED.filter(isThere)];
  const person = app.info.value?.person ?? null; // known by a token: not asked for
  const name = person ?? work.name.value.trim();
  return (
    <main class="start welcome">
      <h1>{app.t(open > 0 ? "welcome" : "nothingToDo")}</h1>
      <p>{app.info.value?.project}</p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          if (person) work.name.value = person;
          if (name) void work.take();
        }}
      >
        <label>
          <span>{app.t("yourName")}</span>
          {person ? (
            <output>{person}</output>
          ) : (
            <input
              ref={field}
              required
              maxLength={60}
              autocomplete="name"
              value={work.name.value}
              onInput={(event) => (work.name.value = event.currentTarget.value)}
            />
          )}
        </label>
        <div class="choices" role="radiogroup" aria-label={app.t("stageOfChoice")}>
          {[null, ...stages].map((stage) => (
            <button
              type="button"
              key={stage ?? "any"}
              class="button plain"
              role="radio"
              aria-checked={chosen === stage}
              onClick={() => (work.stage.value = stage)}
            >
              <span>{app.t(stage ?? "anyStage")}</span>
              {stage && <small>{app.t("openCount", { count: plan.queues[stage]?.open ?? 0 })}</small>}
            </button>
          ))}
        </div>
        <div class="acts">
          <CommandButton context={context} command="dashboard" icon="dashboard">
            {app.t("dashboardTitle")}
          </CommandButton>
          <button type="submit" class="button accent" disabled={work.isBusy.value}>
            <span>{app.t("begin")}</span>
          </button>
        </div>
      </form>
    </main>
  );
}

const clock = (time: number): string => `${Math.floor(time / 60)}:${String(Math.floor(time % 60)).padStart(2, "0")}`;
