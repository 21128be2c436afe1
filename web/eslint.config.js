import tseslint from "typescript-eslint";

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
);
