/** The first screen: what this is, in one sentence, and how to begin. */

import type { AppContext } from "./commands";
import { CommandButton } from "./controls";

export function Start({ context }: { context: AppContext }) {
  const { app } = context;
  const info = app.info.value;
  if (!info || info.engine || app.pictures.list.value.length > 0) return null;
  return (
    <main class="start">
      <h1>{app.t("tagline")}</h1>
      <p>{app.t("startHint")}</p>
      {info.samples.length > 0 && (
        <div class="samples" role="group" aria-label={app.t("samples")}>
          {info.samples.map((name) => (
            <Sample key={name} context={context} name={name} />
          ))}
        </div>
      )}
      <CommandButton context={context} command="open" kind="accent">
        {app.t("openPicture")}
      </CommandButton>
    </main>
  );
}

function Sample({ context, name }: { context: AppContext; name: string }) {
  const label = name.replace(/\.\w+$/, "");
  return (
    <button type="button" class="sample" onClick={() => void context.app.pictures.addSample(name)}>
      <img src={`samples/${label}.jpg`} alt="" onError={(event) => event.currentTarget.remove()} />
      <span>{label}</span>
    </button>
  );
}
