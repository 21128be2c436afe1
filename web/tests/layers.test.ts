import { ESLint } from "eslint";
import { expect, test } from "vitest";

const eslint = new ESLint();

/** The rules that a file of some text in src would break. */
async function broken(path: string, text: string): Promise<(string | null)[]> {
  const [result] = await eslint.lintText(text, { filePath: `src/${path}` });
  return result!.messages.map(({ ruleId }) => ruleId);
}

test.each([
  ["state/x.ts", 'import { Viewport } from "../canvas/viewport";\nexport { Viewport };\n', "no-restricted-imports"],
  [
    "state/x.ts",
    'import type { AppContext } from "../ui/commands";\nexport type { AppContext };\n',
    "no-restricted-imports",
  ],
  ["geometry/x.ts", 'export { App } from "../state/app";\n', "no-restricted-imports"],
  ["canvas/x.ts", 'export { Page } from "../ui/page";\n', "no-restricted-imports"],
  ["state/x.ts", 'export { render } from "preact";\n', "no-restricted-imports"],
  ["state/x.ts", "export const reload = () => location.reload();\n", "no-restricted-globals"],
])(
  "no lower part knows a higher one: %s, %s",
  async (path, text, rule) => {
    expect(await broken(path, text)).toEqual([rule]);
  },
  60_000,
);

test("a higher part knows lower ones, and state may name a document of its own", async () => {
  expect(await broken("ui/x.tsx", 'export { App } from "../state/app";\n')).toEqual([]);
  expect(await broken("state/x.ts", "export const read = (document: object) => document;\n")).toEqual([]);
}, 60_000);
