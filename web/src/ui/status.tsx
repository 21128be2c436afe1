/** Status over the picture: progress, whether all is saved, notices, zoom. */

import type { AppContext } from "./commands";
import { CommandButton } from "./controls";
import { Icon } from "./icons";
import { Text } from "./text";

export function Status({ context }: { context: AppContext }) {
  return (
    <>
      <Saved context={context} />
      <Notice context={context} />
      <Zoom context={context} />
    </>
  );
}

function Saved({ context }: { context: AppContext }) {
  const { app } = context;
  if (!app.pictures.image.value) return null;
  const state = app.store.saving.value;
  const message = "message" in state ? state.message : "";
  return (
    <div class={`saved ${state.is}`} role="status" title={app.pictures.image.value.name}>
      <span class="dot" />
      <span>
        <Text>{app.t(state.is === "saved" && app.isLocal.value ? "keptHere" : state.is, { message })}</Text>
      </span>
    </div>
  );
}

/** How far the open picture is, or why it cannot be shown. */
export function Progress({ context }: { context: AppContext }) {
  const { app } = context;
  const image = app.pictures.image.value;
  const { value: problem } = app.pictures.problem;
  if (!image) return null;
  if (problem?.image === image.id) {
    return (
      <div class="progress failed" role="alert">
        <span>{app.t("failed", { message: problem.message })}</span>
        <button type="button" class="button accent" onClick={app.pictures.retry}>
          <span>{app.t("retry")}</span>
        </button>
      </div>
    );
  }
  const isSearching = app.proposals.isSearching.value;
  if (app.pictures.promptable.value === image.id && !isSearching) return null;
  const loading = app.model.state.value.is === "loading";
  if (app.model.state.value.is === "failed") return null;
  const fraction = app.pictures.progress.value.get(image.id);
  const searching = app.proposals.wanted.value ? "searchingLike" : "searching";
  const key = isSearching ? searching : loading ? "loadingModel" : image.state === "waiting" ? "waiting" : "encoding";
  return (
    <div class="progress" role="status">
      <span>{app.t(key)}</span>
      <progress value={isSearching || loading || !fraction ? undefined : fraction} max={1} />
    </div>
  );
}

function Notice({ context }: { context: AppContext }) {
  const { app } = context;
  const { value: notice } = app.notices.current;
  if (!notice) return null;
  const { retry } = notice;
  return (
    <div class={`notice ${notice.kind}`} role={notice.kind === "error" ? "alert" : "status"}>
      <span>
        <Text>{notice.text}</Text>
      </span>
      {retry && (
        <button
          type="button"
          class="button plain"
          onClick={() => {
            app.notices.close();
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
        onClick={() => app.notices.close()}
      >
        <Icon name="close" />
      </button>
    </div>
  );
}

function Zoom({ context }: { context: AppContext }) {
  const { app, viewport } = context;
  if (!app.pictures.image.value || !viewport) return null;
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
