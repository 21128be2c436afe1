/** Where the page begins: which backend, and everything wired to it. */

import { render } from "preact";
import type { Backend } from "./api/backend";
import { Database } from "./api/database";
import { LocalBackend, type LocalConfig } from "./api/local";
import { ServerBackend } from "./api/server";
import { ModelSession } from "./model/session";
import { browserPlatform } from "./platform";
import { App } from "./state/app";
import { Editor } from "./state/editor";
import { TabJournal } from "./state/journal";
import type { AppContext } from "./ui/commands";
import { Failure } from "./ui/failure";
import { Page } from "./ui/page";
import "./ui/styles/index.css";

/** config.json beside the page: a server of ours answers it, a site has it as a file. */
type Config =
  { readonly backend: "server"; readonly decoder?: "onnx" | "fake" } | ({ readonly backend: "local" } & LocalConfig);

async function readConfig(): Promise<Config> {
  try {
    const response = await fetch(new URL("config.json", document.baseURI));
    if (response.ok) return (await response.json()) as Config;
  } catch {
    // Not there.
  }
  return { backend: "server" };
}

async function start(root: HTMLElement): Promise<void> {
  const config = await readConfig();
  const base = new URL(".", document.baseURI).href;
  const database = await Database.open("anymask");
  const backend: Backend =
    config.backend === "local"
      ? new LocalBackend(database, config)
      : new ServerBackend(base, config.decoder ?? "onnx", database);
  const info = await backend.info();
  const journal = await TabJournal.open(database, info.project_id, info.model.hash ?? "");
  const app = new App(backend, journal, new ModelSession(), browserPlatform);
  const editor = new Editor(app);
  const context: AppContext = { app, editor, viewport: null, pickFiles: () => undefined };
  // For tests and benchmarks, which look inside.
  Object.assign(globalThis, { anymask: context });
  render(<Page context={context} />, root);
  await app.start(info);
}

const root = document.getElementById("page")!;
start(root).catch((error: unknown) => {
  render(<Failure message={error instanceof Error ? error.message : String(error)} />, root);
});
