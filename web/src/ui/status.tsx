/** What is going on: whether all is saved, how far the picture is, what went wrong and what to do. */

import type { AppContext } from "./commands";
import { CommandButton } from "./controls";
import { Icon } from "./icons";

export function Status({ context }: { context: AppContext }) {
  return (
    <>
      <Saved context={context} />
      <Progress context={context} />
      <Notice context={context} />
      <Zoom context={context} />
    </>
  );
}

function Saved({ context }: { context: AppContext }) {
  const { app } = context;
  if (!app.image.value) return null;
  const state = app.store.saving.value;
  const message = "message" in state ? state.message : "";
  return (
    <div class={`saved ${state.is}`} role="status" title={app.image.value.name}>
      <span class="dot" />
      <span>{app.t(state.is === "saved" && app.isLocal.value ? "keptHere" : state.is, { message })}</span>
    </div>
  );
}

function Progress({ context }: { context: AppContext }) {
  const { app } = context;
  const image = app.image.value;
  const { value: problem } = app.problem;
  if (!image) return null;
  if (problem?.image === image.id) {
    return (
      <div class="progress failed" role="alert">
        <span>{app.t("failed", { message: problem.message })}</span>
        <button type="button" class="button accent" onClick={app.retry}>
          <span>{app.t("retry")}</span>
        </button>
      </div>
    );
  }
  const busy = app.busy.value;
  if (app.promptable.value === image.id && !busy) return null;
  const loading = app.model.value.is === "loading";
  if (app.model.value.is === "failed") return null;
  const fraction = app.progress.value.get(image.id);
  const key = busy ?? (loading ? "loadingModel" : image.state === "waiting" ? "waiting" : "encoding");
  return (
    <div class="progress" role="status">
      <span>{app.t(key)}</span>
      <progress value={busy || loading || !fraction ? undefined : fraction} max={1} />
    </div>
  );
}

function Notice({ context }: { context: AppContext }) {
  const { app } = context;
  const { value: notice } = app.notice;
  if (!notice) return null;
  const { retry } = notice;
  return (
    <div class={`notice ${notice.kind}`} role={notice.kind === "error" ? "alert" : "status"}>
      <span>{notice.text}</span>
      {retry && (
        <button
          type="button"
          class="button plain"
          onClick={() => {
            app.notice.value = null;
            retry();
          }}
        >
          <span>{app.t("retry")}</span>
        </button>
      )}
      <button
        type="button"
        class="button plain"
        aria-label={app.t("close")}
        title={`${app.t("close")} (Esc)`}
        onClick={() => (app.notice.value = null)}
      >
        <Icon name="close" />
      </button>
    </div>
  );
}

function Zoom({ context }: { context: AppContext }) {
  const { app, viewport } = context;
  if (!app.image.value || !viewport) return null;
  const percent = Math.round(100 * viewport.view.value.scale);
  return (
    <div class="zoom" role="group" aria-label={app.t("zoom")}>
      <CommandButton context={context} command="zoomOut" icon="minus" />
      <CommandButton context={context} command="actualSize">{`${percent} %`}</CommandButton>
      <CommandButton context={context} command="zoomIn" icon="plus" />
      <CommandButton context={context} command="fit" icon="fit" />
    </div>
  );
}
