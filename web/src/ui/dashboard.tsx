/** The data engine at a glance: its three stages, time, people, models, and images that need attention. */

import { useSignal, useSignalEffect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Status, Summary } from "../api/types";
import { imagesOf, masksPerImage, nameOf, secondsPerMask, STAGES, timeline } from "../state/timeline";
import type { Work } from "../state/work";
import { Chart } from "./chart";
import type { AppContext } from "./commands";
import { CommandButton } from "./controls";
import { count, decimal, percent, seconds } from "./format";
import { Icon } from "./icons";
import { Quality } from "./quality";
import { Figure, QueueBar } from "./queue";
import { Text } from "./text";
import { Verifiers } from "./verifiers";
import type { StringKey } from "../i18n/language";

const EVERY_MS = 10_000;
const SOON_MS = 400;
type StatusProps = { readonly context: AppContext; readonly status: Status };

export function Dashboard({ context, work }: { context: AppContext; work: Work }) {
  const { app } = context;
  const status = useSignal<Status | null>(null);
  const problem = useSignal<string | null>(null);
  const ask = () =>
    work.engine.status().then(
      (found) => {
        status.value = found;
        problem.value = null;
      },
      (error: Error) => (problem.value = error.message),
    );
  useEffect(() => {
    void ask();
    const timer = setInterval(() => document.hidden || void ask(), EVERY_MS);
    return () => clearInterval(timer);
  }, []);
  useSignalEffect(() => {
    if (app.remote.workTick.value === 0) return;
    const timer = setTimeout(() => void ask(), SOON_MS);
    return () => clearTimeout(timer);
  });
  const found = status.value;
  return (
    <main class="dashboard" aria-label={app.t("dashboardTitle")}>
      <header>
        <div>
          <h1>{found?.project ?? app.t("dashboardTitle")}</h1>
          {found && <p>{app.t("totals", { images: count(found.images), masks: count(found.masks) })}</p>}
        </div>
        <button
          type="button"
          class="button plain"
          onClick={() => (app.settings.language.value = app.settings.language.value === "en" ? "zh" : "en")}
        >
          <span>{app.t("language")}</span>
        </button>
        <CommandButton context={context} command="dashboard" kind="accent">
          {app.t("toPictures")}
        </CommandButton>
      </header>
      {problem.value && (
        <p class="alert">
          <Text>{problem.value}</Text>
        </p>
      )}
      {found?.due && (
        <p class="alert">
          <Text>{app.t("due", { reason: found.due })}</Text>
        </p>
      )}
      {found && isOutdated(found) && (
        <p class="alert">
          <Text>{app.t("outdated")}</Text>
        </p>
      )}
      {found && (
        <>
          <Flow context={context} status={found} />
          <Quality context={context} work={work} status={found} />
          <Verifiers context={context} status={found} />
          <Charts context={context} status={found} />
          <Models context={context} status={found} />
          <People context={context} status={found} />
          <Aside context={context} status={found} />
        </>
      )}
    </main>
  );
}

const isOutdated = ({ models, serving }: Status): boolean =>
  models.some(({ is_current, hash }) => is_current && hash !== serving);
const COLORS = { assisted: "--stage-1", "semi-automatic": "--stage-2", automatic: "--stage-3" } as const;

function Flow({ context, status }: StatusProps) {
  const { app } = context;
  return (
    <section class="flow">
      {STAGES.map((stage, place) => {
        const numbers = status.stages[stage]!;
        const queue = status.queues[stage];
        const isMachine = stage === "automatic";
        const waits = stage === "semi-automatic" ? status.queues["prefill"] : undefined;
        return (
          <article key={stage} style={{ "--stage": `var(${COLORS[stage]})` }}>
            <h2>
              <i>{place + 1}</i>
              {app.t(stage)}
            </h2>
            <p class="hint">{app.t(`${stage}About`)}</p>
            <QueueBar context={context} queue={queue} />
            <dl class="numbers">
              <Figure name={app.t("masksPerImage")} value={known(numbers, decimal(numbers.masks_per_image))} />
              <Figure name={app.t("secondsPerMask")} value={known(numbers, seconds(numbers.seconds_per_mask))} />
              {!isMachine && (
                <Figure name={app.t("clicksPerMask")} value={known(numbers, decimal(numbers.clicks_per_mask))} />
              )}
              {!isMachine && <Figure name={app.t("byHand")} value={known(numbers, percent(numbers.by_hand))} />}
              {isMachine && <Figure name={app.t("masksTitle")} value={count(numbers.added)} />}
            </dl>
            {waits && waits.done !== undefined && (
              <p class="hint">{app.t("prefillQueue", { done: count(waits.done), open: count(waits.open ?? 0) })}</p>
            )}
            {stage === "semi-automatic" && numbers.prefilled > 0 && <Prefilled context={context} numbers={numbers} />}
          </article>
        );
      })}
    </section>
  );
}

const known = (numbers: Summary, text: string): string => (numbers.images > 0 ? text : "–");

function Prefilled({ context, numbers }: { context: AppContext; numbers: Summary }) {
  const { app } = context;
  const { prefilled, confirmed, fixed, rejected, added } = numbers;
  return <p class="hint">{app.t("prefilledCounts", { prefilled, confirmed, fixed, rejected, added })}</p>;
}

function Charts({ context, status }: StatusProps) {
  const { app } = context;
  const line = timeline(status.history);
  const language = app.settings.language.value === "zh" ? "zh-CN" : "en-GB";
  const labels = line.times.map((time) => nameOf(time, line.width, language));
  const series = (stages: readonly (typeof STAGES)[number][], what: Parameters<typeof line.of>[1]) =>
    stages.map((stage) => ({ name: app.t(stage), color: COLORS[stage], values: line.of(stage, what) }));
  const hour = STAGES.reduce((sum, stage) => sum + (status.last_hour[stage]?.images ?? 0), 0);
  const masks = STAGES.reduce((sum, stage) => sum + (status.last_hour[stage]?.masks ?? 0), 0);
  const common = { labels, empty: app.t("nothingYet") };
  return (
    <section class="charts">
      <Chart
        {...common}
        kind="bars"
        title={app.t("throughput", { width: app.t("stretch", stretchOf(line.width)) })}
        unit=""
        series={series(STAGES, imagesOf)}
      />
      <Chart
        {...common}
        kind="lines"
        title={app.t("secondsPerMask")}
        unit="s"
        series={series(["assisted", "semi-automatic"], secondsPerMask)}
      />
      <Chart {...common} kind="lines" title={app.t("masksPerImage")} unit="" series={series(STAGES, masksPerImage)} />
      <p class="hint">{app.t("lastHour", { images: count(hour), masks: count(masks) })}</p>
    </section>
  );
}

function stretchOf(width: number): { number: number; unit: string } {
  if (width < 60) return { number: width, unit: "s" };
  if (width < 3600) return { number: width / 60, unit: "min" };
  return width < 86_400 ? { number: width / 3600, unit: "h" } : { number: width / 86_400, unit: "d" };
}

function Models({ context, status }: StatusProps) {
  const { app } = context;
  const names = [...new Set(status.models.flatMap(({ scores }) => Object.keys(scores)))];
  const best = new Map(names.map((name) => [name, Math.max(...status.models.map(({ scores }) => scores[name] ?? 0))]));
  return (
    <section>
      <h2>{app.t("models")}</h2>
      <div class="scrolls">
        <table>
          <thead>
            <tr>
              <th>{app.t("model")}</th>
              <th>{app.t("trigger")}</th>
              <th class="number">{app.t("trainedOn")}</th>
              {names.map((name) => (
                <th key={name} class="number">
                  {scoreName(app.t, name)}
                </th>
              ))}
              <th>{app.t("verdict")}</th>
            </tr>
          </thead>
          <tbody>
            {[...status.models].reverse().map((model) => (
              <tr key={model.id} class={model.is_current ? "current" : ""}>
                <td>
                  <b>{model.id}</b> <code>{model.hash.slice(0, 8)}</code>
                  {model.is_current && <span class="badge">{app.t("inUse")}</span>}
                </td>
                <td>{model.trigger}</td>
                <td class="number">{count(model.masks)}</td>
                {names.map((name) => (
                  <td key={name} class="number">
                    <Score value={model.scores[name]} best={best.get(name) ?? 1} />
                  </td>
                ))}
                <td>{model.verdict}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

const SCORES: Readonly<Record<string, StringKey>> = {
  miou_1: "score1",
  miou_3: "score3",
  box: "scoreBox",
  everything: "everything",
};
const scoreName = (t: (key: StringKey) => string, name: string): string => (SCORES[name] ? t(SCORES[name]) : name);

function Score({ value, best }: { value: number | undefined; best: number }) {
  if (value === undefined) return <>–</>;
  return (
    <span class="score">
      <i style={{ width: `${best > 0 ? (40 * value) / best : 0}px` }} />
      {value.toFixed(3)}
    </span>
  );
}

const NAMED: ReadonlySet<string> = new Set([...STAGES, "review", "check"]);

function People({ context, status }: StatusProps) {
  const { app } = context;
  const rows = Object.entries(status.people).flatMap(([stage, people]) =>
    Object.entries(people).map(([name, numbers]) => ({ stage, name, numbers })),
  );
  const working = new Set(status.working.map(({ worker, stage }) => `${stage} ${worker}`));
  const isCompared = Object.keys(status.quality.honeypots).length > 0;
  const only = status.working.filter(({ worker, stage }) => worker && !(status.people[stage] ?? {})[worker]);
  return (
    <section>
      <h2>{app.t("people")}</h2>
      {rows.length + only.length === 0 && <p class="empty">{app.t("nobodyYet")}</p>}
      {rows.length + only.length > 0 && (
        <div class="scrolls">
          <table>
            <thead>
              <tr>
                <th>{app.t("name")}</th>
                <th>{app.t("stageOf")}</th>
                <th class="number">{app.t("pictures")}</th>
                <th class="number">{app.t("masksPerImage")}</th>
                <th class="number">{app.t("secondsPerMask")}</th>
                <th class="number">{app.t("clicksPerMask")}</th>
                <th class="number">{app.t("byHand")}</th>
                {isCompared && <th class="number">{app.t("honeypot")}</th>}
              </tr>
            </thead>
            <tbody>
              {rows.map(({ stage, name, numbers }) => (
                <tr key={`${stage} ${name}`}>
                  <td>
                    {name}
                    {working.has(`${stage} ${name}`) && <span class="badge">{app.t("atWork")}</span>}
                  </td>
                  <td>{app.t(stage as (typeof STAGES)[number])}</td>
                  <td class="number">{count(numbers.images)}</td>
                  <td class="number">{decimal(numbers.masks_per_image)}</td>
                  <td class="number">{seconds(numbers.seconds_per_mask)}</td>
                  <td class="number">{decimal(numbers.clicks_per_mask)}</td>
                  <td class="number">{percent(numbers.by_hand)}</td>
                  {isCompared && <td class="number">{percent(status.quality.honeypots[name] ?? null)}</td>}
                </tr>
              ))}
              {only.map(({ worker, stage, image_id }) => (
                <tr key={`${stage} ${image_id}`}>
                  <td>
                    {worker} <span class="badge">{app.t("atWork")}</span>
                  </td>
                  <td>{NAMED.has(stage) ? app.t(stage as "automatic") : stage}</td>
                  <td colSpan={isCompared ? 6 : 5} />
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function Aside({ context, status }: StatusProps) {
  const { app } = context;
  if (status.quarantined.length === 0) return null;
  return (
    <section>
      <h2>{app.t("setAside")}</h2>
      <ul class="aside">
        {status.quarantined.map(({ image, image_id, stage, state, reason }) => (
          <li key={`${stage} ${image_id} ${state}`}>
            <Icon name="picture" />
            <b>{image}</b>
            <span class={`badge ${state}`}>{app.t(state === "skipped" ? "state_skipped" : "state_quarantined")}</span>
            <span>{reason}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}
