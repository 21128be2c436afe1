/** The page: viewport, toolbar, panel, thumbnails, and what lies over them. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { Viewport } from "../canvas/viewport";
import type { Work } from "../state/work";
import { type AppContext, listenToKeys } from "./commands";
import { Dashboard } from "./dashboard";
import { listenToFocus } from "./focus";
import { Help } from "./help";
import { Options } from "./options";
import { Panel } from "./panel";
import { Toolbar } from "./toolbar";
import { Start } from "./start";
import { Progress, Status } from "./status";
import { Thumbnails } from "./thumbnails";
import { TaskBar, Welcome } from "./task_bar";

export function Page({ context }: { context: AppContext }) {
  const { app } = context;
  const isMounted = useSignal(false);
  const dropping = useSignal(false);
  const files = useRef<HTMLInputElement>(null);
  context.pickFiles = () => files.current?.click();
  useEffect(() => listenToKeys(context), []);
  useEffect(() => listenToFocus(), []);
  useEffect(() => listenToDrops(context, (over) => (dropping.value = over)), []);
  useEffect(() => {
    document.documentElement.lang = app.settings.language.value === "zh" ? "zh-CN" : "en";
  }, [app.settings.language.value]);
  const work = app.work.value;
  useEffect(() => (work ? listenToActivity(work) : undefined), [work]);
  const isOpen = app.pictures.image.value !== null;
  return (
    <div class={`page ${isOpen ? "open" : "bare"}`}>
      <Toolbar context={context} />
      <div class="viewport">
        <ViewportCanvas context={context} isOpen={isOpen} ready={() => (isMounted.value = true)} />
        <div class="over-top">
          <Options context={context} />
          {isMounted.value && <Progress context={context} />}
        </div>
        {isMounted.value && <Status context={context} />}
        {work ? <Welcome context={context} work={work} /> : <Start context={context} />}
        {dropping.value && <div class="drop">{app.t("drop")}</div>}
      </div>
      <Panel context={context} />
      {work ? <TaskBar context={context} work={work} /> : <Thumbnails context={context} />}
      {work && app.settings.view.value === "dashboard" && <Dashboard context={context} work={work} />}
      <Help context={context} />
      <input
        ref={files}
        type="file"
        accept="image/*"
        multiple
        hidden
        onChange={(event) => {
          void app.addFiles([...(event.currentTarget.files ?? [])]);
          event.currentTarget.value = "";
        }}
      />
    </div>
  );
}

function ViewportCanvas({ context, isOpen, ready }: { context: AppContext; isOpen: boolean; ready: () => void }) {
  const { app } = context;
  const base = useRef<HTMLCanvasElement>(null);
  const over = useRef<HTMLCanvasElement>(null);
  useEffect(() => {
    if (!base.current || !over.current) return;
    context.viewport = new Viewport(base.current, over.current, app, context.editor);
    const stop = context.viewport.start();
    ready();
    return stop;
  }, []);
  // Keys belong to the picture as soon as there is one.
  useEffect(() => {
    if (isOpen) over.current?.focus({ preventScroll: true });
  }, [isOpen]);
  // A focus ring, only for those who come by Tab: for all others it would just frame the picture.
  const entered = useSignal(false);
  const tool = context.viewport?.spaceHeld.value ? "pan" : app.settings.tool.value;
  return (
    <>
      <canvas ref={base} aria-hidden="true" />
      <canvas
        ref={over}
        class={`over ${tool} ${entered.value ? "entered" : ""}`}
        tabIndex={isOpen ? 0 : -1}
        role="application"
        aria-label={app.t("viewport")}
        onFocus={(event) => (entered.value = event.relatedTarget !== null)}
        onBlur={() => (entered.value = false)}
      />
    </>
  );
}

/** Count time at work while there is input and the page is visible. */
function listenToActivity(work: Work): () => void {
  const touch = () => work.touch();
  const turn = () => work.hide(document.hidden);
  window.addEventListener("pointermove", touch, { passive: true });
  window.addEventListener("pointerdown", touch, { passive: true });
  document.addEventListener("visibilitychange", turn);
  return () => {
    window.removeEventListener("pointermove", touch);
    window.removeEventListener("pointerdown", touch);
    document.removeEventListener("visibilitychange", turn);
  };
}

/** Take pictures that are dropped or pasted anywhere; return a function that stops listening. */
function listenToDrops({ app }: AppContext, show: (over: boolean) => void): () => void {
  const over = (event: DragEvent) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    show(true);
  };
  const leave = (event: DragEvent) => event.relatedTarget === null && show(false);
  const drop = (event: DragEvent) => {
    event.preventDefault();
    show(false);
    void app.addFiles([...(event.dataTransfer?.files ?? [])]);
  };
  const paste = (event: ClipboardEvent) => {
    const files = [...(event.clipboardData?.files ?? [])];
    const isTyped = event.target instanceof HTMLElement && event.target.matches("input, textarea, select");
    if (files.length > 0) void app.addFiles(files);
    else if (!isTyped) app.masks.paste();
  };
  window.addEventListener("dragover", over);
  window.addEventListener("dragleave", leave);
  window.addEventListener("drop", drop);
  window.addEventListener("paste", paste);
  return () => {
    window.removeEventListener("dragover", over);
    window.removeEventListener("dragleave", leave);
    window.removeEventListener("drop", drop);
    window.removeEventListener("paste", paste);
  };
}
