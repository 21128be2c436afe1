import tseslint from "typescript-eslint";

/** What each folder of src may import of the others; as the import-linter's contracts do for the package. */
const MAY_IMPORT = {
  i18n: [],
  geometry: [],
  tools: ["geometry"],
  api: ["geometry"],
  model: ["api", "geometry"],
  state: ["api", "geometry", "i18n", "model", "tools"],
  canvas: ["api", "geometry", "model", "state", "tools"],
  ui: ["api", "canvas", "geometry", "i18n", "model", "state", "tools"],
};
/** Folders that work without a screen. */
const HEADLESS = ["geometry", "i18n", "state", "tools"];

const layers = Object.entries(MAY_IMPORT).map(([folder, allowed]) => {
  const others = Object.keys(MAY_IMPORT).filter((other) => other !== folder && !allowed.includes(other));
  const message = `src/${folder} imports of src no more than ${["ids", ...allowed].join(", ")}.`;
  const patterns = [{ regex: `^\\.\\./(${["main", "platform", ...others].join("|")})(/|$)`, message }];
  if (folder !== "ui") patterns.push({ regex: "^preact(/|$)", message: "Components are in src/ui." });
  return { files: [`src/${folder}/**`], rules: { "no-restricted-imports": ["error", { patterns }] } };
});

export default tseslint.config(
  { ignores: ["node_modules", "src/api/schema.ts", "e2e/out"] },
  ...tseslint.configs.strict,
  ...tseslint.configs.stylistic,
  {
    rules: {
      // What noUncheckedIndexedAccess doubts and the loop around it knows.
      "@typescript-eslint/no-non-null-assertion": "off",
      "@typescript-eslint/no-dynamic-delete": "off",
      "@typescript-eslint/no-unused-vars": ["error", { argsIgnorePattern: "^_", varsIgnorePattern: "^_" }],
      "@typescript-eslint/no-empty-function": "off",
      "@typescript-eslint/consistent-type-definitions": "off",
      "@typescript-eslint/class-literal-property-style": "off",
      "@typescript-eslint/no-invalid-void-type": "off",
      "@typescript-eslint/consistent-type-imports": ["error", { disallowTypeAnnotations: false }],
      eqeqeq: "error",
    },
  },
  {
    files: ["src/**", "mock/**", "tests/**", "e2e/*.ts"],
    ignores: ["**/*.config.ts"],
    rules: {
      "no-restricted-syntax": ["error", { selector: "ExportDefaultDeclaration", message: "Export by name." }],
    },
  },
  {
    files: ["src/**"],
    rules: {
      "no-restricted-properties": [
        "error",
        { object: "crypto", property: "randomUUID", message: "Plain http has none: use newId." },
        { object: "crypto", property: "subtle", message: "Plain http has none." },
        { object: "navigator", property: "clipboard", message: "Plain http has none." },
        { object: "navigator", property: "storage", message: "Plain http has none." },
      ],
    },
  },
  ...layers,
  {
    files: HEADLESS.map((folder) => `src/${folder}/**`),
    rules: {
      "no-restricted-globals": [
        "error",
        ...["document", "history", "location", "window"].map((name) => ({
          name,
          message: "The core has no screen: main hands it what it needs, as a Platform.",
        })),
      ],
    },
  },
);
