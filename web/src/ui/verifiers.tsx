/** What verifiers decide without a person, what audits say of it, and whether it was stopped. */

import type { Status } from "../api/types";
import type { AppContext } from "./commands";
import { count, percent } from "./format";
import { Text } from "./text";

type StatusProps = { readonly context: AppContext; readonly status: Status };
type Verdicts = Status["verifiers"][number]["verdicts"][number];

const NAMES = { accept: "machineAccept", reject: "machineReject", complete: "machineComplete" } as const;

export function Verifiers({ context, status }: StatusProps) {
  const { app } = context;
  if (status.verifiers.length === 0) return null;
  const rows = status.verifiers.flatMap((verifier) => verifier.verdicts.map((verdicts) => ({ verifier, verdicts })));
  return (
    <section aria-label={app.t("verifiers")}>
      <h2>{app.t("verifiers")}</h2>
      <p class="hint">{app.t("verifiersAbout")}</p>
      <Stopped context={context} rows={rows.map(({ verdicts }) => verdicts)} />
      <div class="scrolls">
        <table>
          <thead>
            <tr>
              <th>{app.t("verdict")}</th>
              <th>{app.t("model")}</th>
              <th class="number">{app.t("withoutPerson")}</th>
              <th class="number">{app.t("audited")}</th>
              <th class="number">{app.t("auditAgreed")}</th>
              <th class="number">{app.t("auditInterval")}</th>
            </tr>
          </thead>
          <tbody>
            {rows.map(({ verifier, verdicts }) => (
              <tr key={`${verifier.id} ${verdicts.verdict}`}>
                <td>
                  {app.t(NAMES[verdicts.verdict])}
                  {!verdicts.is_on && <span class="badge">{app.t("stopped")}</span>}
                </td>
                <td>
                  <b>{verifier.id}</b> <code>{verifier.hash.slice(0, 8)}</code>
                </td>
                <td class="number">{count(verdicts.applied)}</td>
                <td class="number">{count(verdicts.audited)}</td>
                <td class="number">{percent(verdicts.audited > 0 ? verdicts.agreed / verdicts.audited : null)}</td>
                <td class="number">
                  {verdicts.audited > 0 ? `${percent(verdicts.low)} – ${percent(verdicts.high)}` : "–"}
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Stopped({ context, rows }: { context: AppContext; rows: readonly Verdicts[] }) {
  const { app } = context;
  return (
    <>
      {rows
        .filter(({ is_on }) => !is_on)
        .map(({ verdict, agreed, audited }) => (
          <p key={verdict} class="alert">
            <Text>
              {app.t("acceptanceStopped", {
                verdict: app.t(NAMES[verdict]),
                agreed: count(agreed),
                audited: count(audited),
              })}
            </Text>
          </p>
        ))}
    </>
  );
}
