/** Thumbnails of all pictures, along the bottom. */

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Backend } from "../api/backend";
import type { ImageInfo } from "../api/types";
import { FILTERS, type PictureFilter } from "../state/picture_filter";
import type { AppContext } from "./commands";
import { CommandButton } from "./controls";
import { Icon } from "./icons";

export function Thumbnails({ context }: { context: AppContext }) {
  const { app } = context;
  if (app.pictures.list.value.length === 0) return null;
  const images = app.pictures.listed.value;
  const { filter } = app.pictures;
  return (
    <footer class="thumbnails">
      <CommandButton context={context} command="open" icon="plus" kind="tool" />
      <select
        class="filter"
        aria-label={app.t("whichPictures")}
        title={app.t("whichPictures")}
        value={filter.value}
        onChange={(event) => void app.pictures.choose(event.currentTarget.value as PictureFilter)}
      >
        {FILTERS.map((name) => (
          <option key={name} value={name}>
            {app.t(`filter_${name}`)}
          </option>
        ))}
      </select>
      <div class="thumbnail-list" role="listbox" aria-label={app.t("pictures")} aria-orientation="horizontal">
        {images.map((image) => (
          <Thumbnail key={image.id} context={context} image={image} />
        ))}
        {filter.value !== "all" && images.length <= 1 && <span class="hint">{app.t("noOtherPictures")}</span>}
      </div>
    </footer>
  );
}

function Thumbnail({ context, image }: { context: AppContext; image: ImageInfo }) {
  const { app } = context;
  const button = useRef<HTMLButtonElement>(null);
  const isOpen = app.store.document.value.image === image.id;
  const known = app.store.document.value.annotations.get(image.id);
  const count = known?.size ?? image.num_annotations;
  const url = useThumbnail(app.backend, image.id, button);
  const fraction = app.pictures.progress.value.get(image.id) ?? 0;
  useEffect(() => {
    if (isOpen) button.current?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }, [isOpen]);
  const label = app.t("imageLabel", { name: image.name, count });
  return (
    <button
      ref={button}
      type="button"
      class={`thumbnail ${image.state}`}
      role="option"
      aria-selected={isOpen}
      aria-label={label}
      title={label}
      onClick={() => app.pictures.show(image.id)}
    >
      {url ? <img src={url} alt="" draggable={false} /> : <Icon name="picture" />}
      {count > 0 && <span class="count">{count}</span>}
      {image.state === "encoding" && <progress value={fraction || undefined} max={1} />}
    </button>
  );
}

const urls = new Map<string, string>();

/** Fetch a thumbnail once it is in sight. */
function useThumbnail(backend: Backend, id: string, button: { current: HTMLElement | null }): string | undefined {
  const url = useSignal(urls.get(id));
  useEffect(() => {
    if (url.value || !button.current) return;
    const observer = new IntersectionObserver(async ([entry]) => {
      if (!entry?.isIntersecting) return;
      observer.disconnect();
      const blob = await backend.thumbnail(id).catch(() => null);
      if (!blob) return;
      const made = URL.createObjectURL(blob);
      urls.set(id, made);
      url.value = made;
    });
    observer.observe(button.current);
    return () => observer.disconnect();
  }, [id]);
  return url.value;
}
