/** Masks and classes, in a panel at the right that folds away. */

import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import type { Annotation, ClassInfo, ExportFormat } from "../api/types";
import { toHex } from "../geometry/colors";
import { hasPolygons } from "../state/app";
import { awaits } from "../state/provenance";
import { chordOf } from "../tools/keys";
import type { AppContext } from "./commands";
import { CommandButton, Slider, ToleranceSlider } from "./controls";
import { VerdictTag } from "./judgement";
import { Icon } from "./icons";

const ROW = 40;

export function Panel({ context }: { context: AppContext }) {
  const { app } = context;
  if (!app.settings.panelOpen.value || !app.pictures.image.value) return null;
  return (
    <aside class="panel" aria-label={app.t("masksTitle")}>
      {asksClasses(context) && <ClassPalette context={context} />}
      <MaskList context={context} />
      <Appearance context={context} />
      {!app.work.value && <Export context={context} />}
    </aside>
  );
}

/** A data engine asks for no classes unless its project has them. */
function asksClasses({ app }: AppContext): boolean {
  const plan = app.work.value?.plan.value;
  return !app.work.value || !!plan?.asks_classes || app.store.document.value.classes.length > 0;
}

function ClassPalette({ context }: { context: AppContext }) {
  const { app } = context;
  const { classes } = app.store.document.value;
  return (
    <section>
      <header>
        <h2>{app.t("classes")}</h2>
        <button
          type="button"
          class="button plain"
          title={app.t("addClass")}
          aria-label={app.t("addClass")}
          onClick={() => void app.classes.add()}
        >
          <Icon name="plus" />
        </button>
      </header>
      <div class="classes" role="listbox" aria-label={app.t("classes")}>
        <ClassRow context={context} item={null} place={-1} />
        {classes.map((item, place) => (
          <ClassRow key={item.id} context={context} item={item} place={place} />
        ))}
      </div>
    </section>
  );
}

function ClassRow({ context, item, place }: { context: AppContext; item: ClassInfo | null; place: number }) {
  const { app } = context;
  const editing = useSignal(false);
  const chosen = app.classes.chosen.value === (item?.id ?? null);
  const command = place < 0 ? "noClass" : place < 9 ? (`class${place + 1}` as "class1") : null;
  const name = item?.name ?? app.t("noClass");
  const renames = app.settings.keyOf("rename");
  const rename = (event: KeyboardEvent) => {
    const chord = chordOf(event);
    if (!item || !chord || app.settings.keymap.value.command(chord) !== "rename") return;
    event.preventDefault();
    editing.value = true;
  };
  return (
    <div class={`row class ${chosen ? "chosen" : ""}`}>
      {item ? (
        <input
          type="color"
          class="swatch"
          value={item.color}
          aria-label={app.t("classColor", { name })}
          onChange={(event) => app.classes.edit(item.id, { color: event.currentTarget.value })}
        />
      ) : (
        <span class="swatch none" />
      )}
      {editing.value && item ? (
        <NameField
          value={item.name}
          label={app.t("className")}
          done={(text) => {
            editing.value = false;
            if (text) app.classes.edit(item.id, { name: text });
          }}
        />
      ) : (
        <button
          type="button"
          class="name"
          role="option"
          aria-selected={chosen}
          aria-keyshortcuts={item ? renames : undefined}
          title={item ? app.t("renameClass", { key: renames }) : undefined}
          onKeyDown={rename}
          onClick={() => app.masks.setClass(item?.id ?? null)}
          onDblClick={() => (editing.value = item !== null)}
        >
          {name}
        </button>
      )}
      {item && (
        <button
          type="button"
          class="button plain quiet"
          aria-label={app.t("removeClass", { name })}
          title={app.t("removeClass", { name })}
          onClick={() => app.classes.remove(item.id)}
        >
          <Icon name="close" />
        </button>
      )}
      {command && <kbd>{app.settings.keyOf(command)}</kbd>}
    </div>
  );
}

function NameField({ value, label, done }: { value: string; label: string; done: (text: string | null) => void }) {
  const field = useRef<HTMLInputElement>(null);
  // At once: the next key may be pressed before anything is drawn.
  useLayoutEffect(() => field.current?.select(), []);
  return (
    <input
      ref={field}
      class="name"
      value={value}
      maxLength={200}
      aria-label={label}
      onKeyDown={(event) => {
        if (event.key === "Enter") event.currentTarget.blur();
        if (event.key !== "Escape") return;
        event.preventDefault();
        event.currentTarget.value = value;
        event.currentTarget.blur();
      }}
      onBlur={(event) => done(event.currentTarget.value.trim() || null)}
    />
  );
}

/** Only the rows in sight are made: there may be hundreds of masks. */
function MaskList({ context }: { context: AppContext }) {
  const { app } = context;
  const list = useRef<HTMLDivElement>(null);
  const top = useSignal(0);
  const all = app.masks.listed();
  const number = (place: number) => (app.work.value?.judges.value ? place + 1 : all.length - place);
  const first = Math.max(0, Math.floor(top.value / ROW) - 4);
  const inSight = all.slice(first, first + 40);
  const [selected] = app.masks.selection.value;
  useEffect(() => {
    const place = all.findIndex(({ id }) => id === selected);
    const box = list.current;
    if (place < 0 || !box) return;
    if (place * ROW < box.scrollTop) box.scrollTop = place * ROW;
    else if ((place + 1) * ROW > box.scrollTop + box.clientHeight) box.scrollTop = (place + 1) * ROW - box.clientHeight;
  }, [selected]);
  return (
    <section class="grows">
      <header>
        <h2>
          {app.t("masksTitle")} <small>{all.length || ""}</small>
        </h2>
        <CommandButton context={context} command="copy" icon="copy" disabled={app.masks.selection.value.size === 0} />
        <CommandButton context={context} command="paste" icon="paste" disabled={!app.masks.hasCopies.value} />
        <CommandButton
          context={context}
          command="remove"
          icon="trash"
          disabled={app.masks.selection.value.size === 0}
        />
        <CommandButton
          context={context}
          command="masks"
          icon={app.settings.showMasks.value ? "eye" : "eyeOff"}
          pressed={!app.settings.showMasks.value}
        />
      </header>
      {all.length === 0 && <p class="empty">{app.t("noMasks")}</p>}
      <div
        class="masks"
        ref={list}
        role="listbox"
        aria-multiselectable="true"
        aria-label={app.t("masksTitle")}
        onScroll={(event) => (top.value = event.currentTarget.scrollTop)}
      >
        <div style={{ height: all.length * ROW }}>
          <div style={{ transform: `translateY(${first * ROW}px)` }}>
            {inSight.map((annotation, index) => (
              <MaskRow key={annotation.id} context={context} annotation={annotation} number={number(first + index)} />
            ))}
          </div>
        </div>
      </div>
    </section>
  );
}

function MaskRow({ context, annotation, number }: { context: AppContext; annotation: Annotation; number: number }) {
  const { app } = context;
  const { id, visible } = annotation;
  const { classes } = app.store.document.value;
  const item = classes.find((other) => other.id === annotation.class_id);
  const name = annotation.name ?? app.t("maskNumber", { number });
  const isSelected = app.masks.selection.value.has(id) || app.store.document.value.draft?.replaces === id;
  return (
    <div class={`row mask ${isSelected ? "chosen" : ""} ${visible ? "" : "faint"} ${annotation.verdict?.is ?? ""}`}>
      <span class="swatch" style={{ background: toHex(app.masks.color(annotation)) }} />
      {app.masks.renaming.value === id ? (
        <NameField
          value={annotation.name ?? ""}
          label={app.t("maskName")}
          done={(text) => {
            app.masks.renaming.value = null;
            if (text !== annotation.name) app.masks.change(id, { name: text });
          }}
        />
      ) : (
        <button
          type="button"
          class="name"
          role="option"
          aria-selected={isSelected}
          onClick={(event) => app.masks.select(id, event.shiftKey || event.ctrlKey || event.metaKey)}
          onDblClick={() => (app.masks.renaming.value = id)}
        >
          {name}
        </button>
      )}
      {(annotation.verdict || awaits(annotation)) && <VerdictTag context={context} mask={annotation} />}
      {asksClasses(context) && (
        <select
          aria-label={app.t("classOf")}
          title={app.t("classOf")}
          value={annotation.class_id ?? ""}
          onChange={(event) => {
            const { value } = event.currentTarget;
            app.masks.change(id, { class_id: value === "" ? null : Number(value) });
          }}
        >
          <option value="">{item ? app.t("noClass") : "–"}</option>
          {classes.map((other) => (
            <option key={other.id} value={other.id}>
              {other.name}
            </option>
          ))}
        </select>
      )}
      <button
        type="button"
        class="button plain"
        aria-label={app.t(visible ? "hide" : "show")}
        aria-pressed={!visible}
        title={app.t(visible ? "hide" : "show")}
        onClick={() => app.masks.toggleVisible([id])}
      >
        <Icon name={visible ? "eye" : "eyeOff"} />
      </button>
    </div>
  );
}

function Appearance({ context }: { context: AppContext }) {
  const { app } = context;
  return (
    <section class="appearance">
      <Slider
        label={app.t("opacity")}
        min={0}
        max={1}
        step={0.05}
        value={app.settings.opacity.value}
        text={`${Math.round(app.settings.opacity.value * 100)} %`}
        onInput={(value) => (app.settings.opacity.value = value)}
      />
      <div class="segmented" role="radiogroup" title={app.settings.titled("colorBy")}>
        {(["instance", "class"] as const).map((by) => (
          <button
            type="button"
            key={by}
            class="button plain"
            role="radio"
            aria-checked={app.settings.colorBy.value === by}
            onClick={() => (app.settings.colorBy.value = by)}
          >
            <span>{app.t(by === "instance" ? "byInstance" : "byClass")}</span>
          </button>
        ))}
        <kbd>{app.settings.keyOf("colorBy")}</kbd>
      </div>
    </section>
  );
}

const NAMES: Readonly<Record<ExportFormat, string>> = {
  coco: "COCO",
  sa1b: "SA-1B",
  yolo: "YOLO",
  labels: "PNG labels",
  cutouts: "PNG cut-outs",
  parquet: "Parquet",
  webdataset: "WebDataset",
  labelme: "LabelMe",
};

function Export({ context }: { context: AppContext }) {
  const { app } = context;
  const format = useSignal<ExportFormat>(app.backend.formats[0]!);
  const all = useSignal(true);
  return (
    <section class="export">
      <select
        aria-label={app.t("exportTitle")}
        value={format.value}
        onChange={(event) => (format.value = event.currentTarget.value as ExportFormat)}
      >
        {app.backend.formats.map((name) => (
          <option key={name} value={name}>
            {NAMES[name]}
          </option>
        ))}
      </select>
      <select
        aria-label={app.t("pictures")}
        value={all.value ? "all" : "one"}
        onChange={(event) => (all.value = event.currentTarget.value === "all")}
      >
        <option value="all">{app.t("allPictures")}</option>
        <option value="one">{app.t("thisPicture")}</option>
      </select>
      {hasPolygons(format.value) && (
        <label class="check">
          <input
            type="checkbox"
            checked={app.settings.outlines.value}
            onChange={(event) => (app.settings.outlines.value = event.currentTarget.checked)}
          />
          <span>{app.t("asOutlines")}</span>
        </label>
      )}
      {hasPolygons(format.value) && app.settings.outlines.value && <ToleranceSlider app={app} />}
      <button
        type="button"
        class="button accent"
        title={app.settings.titled("download")}
        onClick={() => void app.export(format.value, all.value)}
      >
        <Icon name="download" />
        <span>{app.t("exportTitle")}</span>
        <kbd>{app.settings.keyOf("download")}</kbd>
      </button>
    </section>
  );
}
