/** How good the masks are: reviews and checks that one can begin, agreement between people, honeypots. */

import type { ComponentChildren } from "preact";
import type { Stage, Status } from "../api/types";
import type { Work } from "../state/work";
import type { AppContext } from "./commands";
import { count, percent } from "./figures";
import { reasonName } from "./judgement";
import { Number_, QueueBar } from "./queue";

interface Told {
  readonly context: AppContext;
  readonly work: Work;
  readonly status: Status;
}
const MOST_REASONS = 4;

export function Quality(told: Told) {
  const { app } = told.context;
  const { agreement, honeypots } = told.status.quality;
  const scores = Object.values(honeypots);
  const mean = scores.length > 0 ? scores.reduce((sum, score) => sum + score, 0) / scores.length : null;
  return (
    <section class="quality" aria-label={app.t("quality")}>
      <Card {...told} stage="review">
        <Reviewed {...told} />
      </Card>
      <Card {...told} stage="check">
        <Checked {...told} />
      </Card>
      <article>
        <h2>{app.t("others")}</h2>
        <dl class="numbers one">
          <Number_
            name={app.t("agreement", { images: count(agreement.images) })}
            value={percent(agreement.images > 0 ? agreement.mean_iou : null)}
          />
          <Number_ name={app.t("honeypots", { people: scores.length })} value={percent(mean)} />
        </dl>
      </article>
    </section>
  );
}

/** A queue in which every mask gets a word. */
function Card({ context, work, status, stage, children }: Told & { stage: Stage; children: ComponentChildren }) {
  const { app } = context;
  const queue = status.queues[stage];
  const isMine = work.task.value?.lease.stage === stage;
  const open = queue?.open ?? 0;
  return (
    <article>
      <h2>
        {app.t(stage)}
        {(open > 0 || isMine) && (
          <button
            type="button"
            class="button accent"
            aria-label={`${app.t(stage)}: ${app.t(isMine ? "goOn" : "begin")}`}
            disabled={work.isBusy.value}
            onClick={() => {
              location.hash = "";
              void work.turnTo(stage);
            }}
          >
            <span>{app.t(isMine ? "goOn" : "begin")}</span>
          </button>
        )}
      </h2>
      <p class="hint">{app.t(`${stage}About` as "reviewAbout")}</p>
      <QueueBar context={context} queue={queue} />
      {!queue && <p class="hint">{app.t(stage === "review" ? "noReview" : "noCheck")}</p>}
      {children}
    </article>
  );
}

function Reviewed({ context, status }: Told) {
  const { app } = context;
  const { accepted, fixed, rejected, reasons } = status.quality.review;
  const all = accepted + fixed + rejected;
  if (all === 0) return null;
  const share = (number: number) => percent(number / all);
  return (
    <>
      <dl class="numbers three">
        <Number_ name={app.t("acceptedShare")} value={share(accepted)} />
        <Number_ name={app.t("fixedShare")} value={share(fixed)} />
        <Number_ name={app.t("rejectedShare")} value={share(rejected)} />
      </dl>
      <ul class="hint">
        {Object.entries(reasons)
          .slice(0, MOST_REASONS)
          .map(([reason, number]) => (
            <li key={reason}>
              {reasonName(context, reason)} <b>{count(number)}</b>
            </li>
          ))}
      </ul>
    </>
  );
}

function Checked({ context, status }: Told) {
  const { app } = context;
  const { pairs, over_90, over_75, rejected } = status.quality.check;
  if (pairs + rejected === 0) return null;
  const shown = (share: number) => percent(pairs > 0 ? share : null);
  return (
    <dl class="numbers">
      <Number_ name={app.t("over90")} value={shown(over_90)} />
      <Number_ name={app.t("over75")} value={shown(over_75)} />
      <Number_ name={app.t("pairs")} value={count(pairs)} />
      <Number_ name={app.t("rejectedMasks")} value={count(rejected)} />
    </dl>
  );
}
