/** The bar over the picture: the options of the present tool. */

import type { AppContext } from "./commands";
import { CommandButton, Slider, ToleranceSlider } from "./controls";
import { LEAST_SIMILAR } from "../state/proposals";
import { awaits } from "../state/provenance";
import { Icon } from "./icons";
import { Judgement, Prefilled } from "./judgement";

export function Options({ context }: { context: AppContext }) {
  const { app } = context;
  if (!app.pictures.image.value) return null;
  const tool = app.settings.tool.value;
  let content = null;
  const work = app.work.value;
  const selected = app.masks.selected.value;
  if (work && tool === "select" && selected?.verdict)
    content = <Judgement context={context} work={work} mask={selected} />;
  else if (work && tool === "select" && selected && awaits(selected))
    content = <Prefilled context={context} work={work} />;
  else if (app.settings.sideOpen.value === "text") content = <Words context={context} />;
  else if (
    app.proposals.shown.value ||
    (app.proposals.wanted.value && tool === "select" && !app.proposals.isSearching.value)
  )
    content = <Proposals context={context} />;
  else if (tool === "segment") content = <Candidates context={context} />;
  else if (tool === "brush" || tool === "eraser") content = <Brush context={context} />;
  else if (tool === "polygon") content = <Tolerance context={context} />;
  return content && <div class="options">{content}</div>;
}

const IS_TOUCH = matchMedia("(pointer: coarse)").matches;
const RANKS = ["whole", "part", "subpart"] as const;

function Candidates({ context }: { context: AppContext }) {
  const { app, editor } = context;
  const { draft } = app.store.document.value;
  const shown = editor.shown.value;
  const several = shown !== null && shown.answer.ranked.length > 1;
  return (
    <>
      {several ? (
        <div class="segmented" role="radiogroup">
          {shown.answer.ranked.map(({ score }, index) => (
            <button
              type="button"
              key={RANKS[index]}
              class="button plain"
              role="radio"
              aria-checked={index === shown.chosen}
              title={app.t("candidate", { name: app.t(RANKS[index] ?? "part"), score: score.toFixed(2) })}
              onClick={() => editor.choose(index)}
            >
              <span>{app.t(RANKS[index] ?? "part")}</span>
            </button>
          ))}
        </div>
      ) : (
        <span class="hint">
          {app.t(IS_TOUCH ? (draft ? "hintTapDraft" : "hintTap") : draft ? "hintDraft" : "hintHover")}
        </span>
      )}
      {several && (
        <kbd class="hint keys">
          {app.settings.keyOf("larger")} {app.settings.keyOf("smaller")}
        </kbd>
      )}
      <div class="segmented touch-only" role="radiogroup">
        {([1, 0] as const).map((label) => (
          <button
            type="button"
            key={label}
            class="button plain"
            role="radio"
            aria-checked={app.settings.tapLabel.value === label}
            aria-label={app.t(label ? "touchAdd" : "touchRemove")}
            onClick={() => (app.settings.tapLabel.value = label)}
          >
            <Icon name={label ? "plus" : "minus"} />
          </button>
        ))}
      </div>
      {draft && (
        <div class="decision">
          <CommandButton context={context} command="cancel">
            {app.t("dropShort")}
          </CommandButton>
          <CommandButton context={context} command="keep" kind="accent">
            {app.t(draft.replaces ? "replaceShort" : "keepShort")}
          </CommandButton>
        </div>
      )}
    </>
  );
}

function Brush({ context }: { context: AppContext }) {
  const { app } = context;
  const size = app.settings.brush.value;
  return (
    <>
      <kbd class="hint keys">{app.settings.keyOf("brushSmaller")}</kbd>
      <Slider
        label={app.t("size")}
        min={0}
        max={100}
        step={1}
        value={Math.round((100 * Math.log(size)) / Math.log(1000))}
        text={`${size} px`}
        onInput={(value) => (app.settings.brush.value = Math.round(1000 ** (value / 100)))}
      />
      <kbd class="hint keys">{app.settings.keyOf("brushLarger")}</kbd>
      {!app.masks.selected.value && <span class="hint">{app.t("brushHint")}</span>}
    </>
  );
}

function Tolerance({ context }: { context: AppContext }) {
  const { app, editor, viewport } = context;
  const selected = app.masks.selected.value;
  if (!selected) return <span class="hint">{app.t("polygonHint")}</span>;
  const polygons = viewport?.polygonsOf(selected.rle) ?? [];
  const count = polygons.reduce(
    (sum, { exterior, holes }) => sum + exterior.length + holes.reduce((inner, hole) => inner + hole.length, 0),
    0,
  );
  return (
    <>
      <ToleranceSlider app={app} />
      <span class="hint">{app.t("corners", { count })}</span>
      <span class="hint wide">{app.t("maskStays")}</span>
      <button type="button" class="button accent" onClick={() => editor.applyPolygon()}>
        <span>{app.t("applyPolygon")}</span>
      </button>
    </>
  );
}

function Proposals({ context }: { context: AppContext }) {
  const { app } = context;
  const { shown, wanted } = app.proposals;
  const count = shown.value?.length ?? 0;
  const similarity = app.settings.similarity.value;
  return (
    <>
      <span class="hint" role="status">
        {app.t(count > 0 ? "found" : "noneAlike", { count })}
      </span>
      {wanted.value && shown.value && (
        <Slider
          label={app.t("similarity")}
          min={LEAST_SIMILAR}
          max={1}
          step={0.05}
          value={similarity}
          text={`${Math.round(similarity * 100)} %`}
          onInput={(value) => (app.settings.similarity.value = value)}
        />
      )}
      <div class="decision">
        <CommandButton context={context} command="cancel">
          {app.t(wanted.value ? "stopShort" : "dropShort")}
        </CommandButton>
        {count > 0 && (
          <CommandButton context={context} command="keep" kind="accent">
            {app.t("keepAll", { count })}
          </CommandButton>
        )}
      </div>
    </>
  );
}

function Words({ context }: { context: AppContext }) {
  const { app } = context;
  return (
    <form
      class="words"
      onSubmit={(event) => {
        event.preventDefault();
        void app.proposals.findWords(String(new FormData(event.currentTarget).get("words")));
        app.settings.sideOpen.value = null;
      }}
    >
      <input
        name="words"
        ref={(field) => field?.focus()}
        placeholder={app.t("words")}
        aria-label={app.t("words")}
        autocomplete="off"
      />
      <button type="submit" class="button accent">
        <span>{app.t("find")}</span>
        <kbd>Enter</kbd>
      </button>
    </form>
  );
}
