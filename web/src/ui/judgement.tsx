/** Verdicts on masks, one key each, and the reason of a rejection. */

import { useLayoutEffect, useRef } from "preact/hooks";
import type { Annotation } from "../api/types";
import type { Work } from "../state/work";
import { counted } from "../state/verdicts";
import type { AppContext } from "./commands";
import { CommandButton } from "./controls";
import { percent } from "./format";
import { Icon } from "./icons";
import { en } from "../i18n/en";
import type { StringKey } from "../i18n/language";

/** The choice to confirm or reject the selected mask of the model. */
export function Prefilled({ context, work }: { context: AppContext; work: Work }) {
  const { app } = context;
  return (
    <>
      <span class="hint">{app.t("fromModel", { count: work.waiting().length })}</span>
      <div class="decision">
        <CommandButton context={context} command="reject" icon="close">
          {app.t("rejectShort")}
        </CommandButton>
        <CommandButton context={context} command="confirm" kind="accent" icon="check">
          {app.t("confirmShort")}
        </CommandButton>
      </div>
    </>
  );
}

/** The verdict on the selected mask in a review or a check, or the choice of one. */
export function Judgement({ context, work, mask }: { context: AppContext; work: Work; mask: Annotation }) {
  const { app } = context;
  const all = work.inOrder().filter(({ verdict }) => verdict);
  const { is, score, reason } = mask.verdict!;
  const place = { place: all.findIndex(({ id }) => id === mask.id) + 1, count: all.length };
  return (
    <>
      <span class="hint" role="status">
        {score === null ? app.t("toJudge", place) : app.t("toJudgeSure", { ...place, score: percent(score) })}
        {is !== "open" && <b class={`verdict ${is}`}> · {app.t(`verdict_${is}`)}</b>}
        {reason && <span class="wide">: {reasonName(context, reason)}</span>}
        {is === "open" && <span class="wide"> · {app.t("hintFix")}</span>}
      </span>
      <div class="decision">
        <CommandButton context={context} command="reject" icon="close">
          {app.t("rejectShort")}
        </CommandButton>
        <CommandButton context={context} command="confirm" kind="accent" icon="check">
          {app.t(is === "fix" ? "fixedShort" : "acceptShort")}
        </CommandButton>
      </div>
    </>
  );
}

/** A mask's verdict in the list, or buttons to accept or reject it at once. */
export function VerdictTag({ context, mask: { id, verdict } }: { context: AppContext; mask: Annotation }) {
  const { app } = context;
  const work = app.work.value;
  if (!work) return <small>{app.t("awaitsVerdict")}</small>;
  if (verdict && verdict.is !== "open") {
    const name = app.t(`verdict_${verdict.is}`);
    const why = verdict.reason ? `${name}: ${reasonName(context, verdict.reason)}` : name;
    return (
      <small class={`verdict ${verdict.is}`} title={why}>
        {name}
      </small>
    );
  }
  const sure = verdict && verdict.score !== null ? app.t("sure", { score: percent(verdict.score) }) : null;
  return (
    <>
      {sure && <small title={sure}>{percent(verdict!.score)}</small>}
      <span class="verdict-buttons" title={app.t("awaitsVerdict")}>
        <button
          type="button"
          class="button plain"
          aria-label={app.settings.titled("reject")}
          onClick={() => work.reject(id)}
        >
          <Icon name="close" />
        </button>
        <button
          type="button"
          class="button plain"
          aria-label={app.settings.titled("confirm")}
          onClick={() => work.confirm(id)}
        >
          <Icon name="check" />
        </button>
      </span>
    </>
  );
}

/** How many masks of the picture are judged, and the shares of verdicts: this person's, then everybody's. */
export function Verdicts({ context, work }: { context: AppContext; work: Work }) {
  const { app } = context;
  const known = work.statistics.value;
  if (!known) return null;
  const here = counted(work.inOrder());
  const said = here.accept + here.fix + here.reject;
  const shown: [StringKey, number, "confirmed" | "fixed" | "rejected"][] = [
    ["acceptedShare", here.accept, "confirmed"],
    ["fixedShare", here.fix, "fixed"],
    ["rejectedShare", here.reject, "rejected"],
  ];
  const of = ({ confirmed, fixed, rejected }: typeof known.mine) => confirmed + fixed + rejected;
  const share = (part: number, whole: number) => percent(whole > 0 ? part / whole : null);
  return (
    <dl class="figures" title={app.t("figuresHint")}>
      <div>
        <dt>{app.t("judgedCount")}</dt>
        <dd>
          {said} <small>{app.t("ofCount", { count: said + here.open })}</small>
        </dd>
      </div>
      {shown.map(([key, number, name]) => (
        <div key={key}>
          <dt>{app.t(key)}</dt>
          <dd>
            {share(known.mine[name] + number, of(known.mine) + said)}{" "}
            <small>{app.t("ofAll", { figure: share(known.all[name], of(known.all)) })}</small>
          </dd>
        </div>
      ))}
    </dl>
  );
}

const SKIP = ["skipNothing", "skipBlurred", "skipCrowded", "skipPrivate", "skipBroken"] as const;
const REJECT = ["rejectNothing", "rejectSeveral", "rejectPart", "rejectDuplicate", "rejectRough"] as const;

/** Reasons are kept in English, so that they can be counted whoever gives them; this is one in the page's language. */
export function reasonName({ app }: AppContext, reason: string): string {
  const key = REJECT.find((name) => en[name] === reason);
  return key ? app.t(key) : reason;
}

/** Why a picture is skipped or masks are rejected: one of a few numbered reasons, or another in words. */
export function Reasons({ context, work }: { context: AppContext; work: Work }) {
  if (work.rejecting.value)
    return (
      <Choice
        context={context}
        title="rejectWhy"
        act="reject"
        reasons={REJECT}
        give={(reason) => work.rejectFor(reason)}
        close={() => (work.rejecting.value = null)}
      />
    );
  if (!work.skipping.value) return null;
  return (
    <Choice
      context={context}
      title="skipWhy"
      act="skip"
      reasons={SKIP}
      give={(reason) => void work.skip(reason)}
      close={() => (work.skipping.value = false)}
    />
  );
}

interface ChoiceProps {
  readonly context: AppContext;
  readonly title: StringKey;
  readonly act: StringKey;
  readonly reasons: readonly StringKey[];
  readonly give: (reason: string) => void;
  readonly close: () => void;
}

function Choice({ context: { app }, title, act, reasons, give, close }: ChoiceProps) {
  const form = useRef<HTMLFormElement>(null);
  // At once: the next key may be pressed before anything is drawn.
  useLayoutEffect(() => form.current?.querySelector("button")?.focus(), []);
  const keyed = (event: KeyboardEvent) => {
    const places = [...(form.current?.querySelectorAll<HTMLElement>(":scope > button, input") ?? [])];
    const here = places.findIndex((place) => place === document.activeElement);
    const number = Number(event.key);
    const typing = event.target instanceof HTMLInputElement;
    if (event.key === "Escape") close();
    else if (event.key === "ArrowDown") places[(here + 1) % places.length]?.focus();
    else if (event.key === "ArrowUp") places.at(here - 1)?.focus();
    else if (!typing && number > 0 && number <= reasons.length) give(en[reasons[number - 1]!]);
    else if (!typing && number === reasons.length + 1) places.at(-1)?.focus();
    else return;
    event.preventDefault();
  };
  return (
    <form
      ref={form}
      class="reasons"
      aria-label={app.t(title)}
      onKeyDown={keyed}
      onSubmit={(event) => {
        event.preventDefault();
        const reason = String(new FormData(event.currentTarget).get("reason")).trim();
        if (reason) give(reason);
      }}
    >
      <h2>{app.t(title)}</h2>
      {reasons.map((key, index) => (
        <button
          type="button"
          key={key}
          class="button plain"
          aria-keyshortcuts={String(index + 1)}
          onClick={() => give(en[key])}
        >
          <span>{app.t(key)}</span>
          <kbd>{index + 1}</kbd>
        </button>
      ))}
      <div class="other">
        <input name="reason" maxLength={200} placeholder={app.t("skipOther")} aria-label={app.t("skipOther")} />
        <button type="submit" class="button plain" aria-label={app.t(act)}>
          <Icon name="check" />
        </button>
        <kbd>{reasons.length + 1}</kbd>
      </div>
    </form>
  );
}
