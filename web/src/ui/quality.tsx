/** How good the masks are: reviews and checks to begin, agreement between people, honeypots. */

import type { ComponentChildren } from "preact";
import type { Stage, Status } from "../api/types";
import type { Work } from "../state/work";
import type { AppContext } from "./commands";
import { count, percent } from "./format";
import { reasonName } from "./judgement";
import { Figure, QueueBar } from "./queue";
import { Text } from "./text";

interface StatusProps {
  readonly context: AppContext;
  readonly work: Work;
  readonly status: Status;
}
const MOST_REASONS = 4;

export function Quality(props: StatusProps) {
  const { app } = props.context;
  const { agreement, honeypots } = props.status.quality;
  const scores = Object.values(honeypots);
  const mean = scores.length > 0 ? scores.reduce((sum, score) => sum + score, 0) / scores.length : null;
  return (
    <section class="quality" aria-label={app.t("quality")}>
      <Card {...props} stage="review">
        <Reviewed {...props} />
      </Card>
      <Card {...props} stage="check">
        <Checked {...props} />
      </Card>
      <article>
        <h2>{app.t("others")}</h2>
        <dl class="numbers one">
          <Figure
            name={app.t("agreement", { images: count(agreement.images) })}
            value={percent(agreement.images > 0 ? agreement.mean_iou : null)}
          />
          <Figure name={app.t("honeypots", { people: scores.length })} value={percent(mean)} />
        </dl>
      </article>
    </section>
  );
}

/** A queue in which every mask gets a verdict. */
function Card({ context, work, status, stage, children }: StatusProps & { stage: Stage; children: ComponentChildren }) {
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
              app.settings.showView("pictures");
              void work.switchStage(stage);
            }}
          >
            <span>{app.t(isMine ? "goOn" : "begin")}</span>
          </button>
        )}
      </h2>
      <p class="hint">{app.t(`${stage}About` as "reviewAbout")}</p>
      <QueueBar context={context} queue={queue} />
      {!queue && (
        <p class="hint">
          <Text>{app.t(stage === "review" ? "noReview" : "noCheck")}</Text>
        </p>
      )}
      {children}
    </article>
  );
}

function Reviewed({ context, status }: StatusProps) {
  const { app } = context;
  const { accepted, fixed, rejected, reasons } = status.quality.review;
  const all = accepted + fixed + rejected;
  if (all === 0) return null;
  const share = (number: number) => percent(number / all);
  return (
    <>
      <dl class="numbers three">
        <Figure name={app.t("acceptedShare")} value={share(accepted)} />
        <Figure name={app.t("fixedShare")} value={share(fixed)} />
        <Figure name={app.t("rejectedShare")} value={share(rejected)} />
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

function Checked({ context, status }: StatusProps) {
  const { app } = context;
  const { pairs, over_90, over_75, rejected } = status.quality.check;
  if (pairs + rejected === 0) return null;
  const shown = (share: number) => percent(pairs > 0 ? share : null);
  return (
    <dl class="numbers">
      <Figure name={app.t("over90")} value={shown(over_90)} />
      <Figure name={app.t("over75")} value={shown(over_75)} />
      <Figure name={app.t("pairs")} value={count(pairs)} />
      <Figure name={app.t("rejectedMasks")} value={count(rejected)} />
    </dl>
  );
}
