import { createReadStream, existsSync, readdirSync } from "node:fs";
import { cp, mkdir } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vite";
import { mockServer } from "./mock/server";

const here = dirname(fileURLToPath(import.meta.url));
const page = resolve(here, "../src/anymask/server/page");
const samples = resolve(here, "../src/anymask/samples");
/** WASM SIMD with threads, and the same with WebGPU. */
const RUNTIME = ["ort-wasm-simd-threaded", "ort-wasm-simd-threaded.asyncify"].flatMap((name) => [
  `${name}.mjs`,
  `${name}.wasm`,
]);
const SAMPLES = readdirSync(samples).filter((name) => name.endsWith(".jpg"));

/** Serve ONNX Runtime's files and the samples from the page itself: nothing comes from another site. */
function ownFiles(): Plugin {
  const sources = new Map<string, string>([
    ...RUNTIME.map((name): [string, string] => [`ort/${name}`, join(here, "node_modules/onnxruntime-web/dist", name)]),
    ...SAMPLES.map((name): [string, string] => [`samples/${name}`, join(samples, name)]),
  ]);
  return {
    name: "own-files",
    configureServer(server) {
      server.middlewares.use((request, response, next) => {
        const path = sources.get((request.url ?? "").replace(/^\/|\?.*$/g, ""));
        if (!path || !existsSync(path)) return next();
        const kinds: Record<string, string> = { mjs: "text/javascript", wasm: "application/wasm", jpg: "image/jpeg" };
        response.setHeader("Content-Type", kinds[path.slice(path.lastIndexOf(".") + 1)] ?? "");
        createReadStream(path).pipe(response);
      });
    },
    async writeBundle({ dir }) {
      for (const [name, path] of sources) {
        const target = join(dir ?? page, name);
        await mkdir(dirname(target), { recursive: true });
        await cp(path, target);
      }
    },
  };
}

const ISOLATION = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

export default defineConfig(({ command, mode }) => ({
  base: "./",
  plugins: [ownFiles(), ...(command === "serve" && mode === "mock" ? [mockServer(samples)] : [])],
  // ONNX Runtime without its WASM inlined: it is served beside the page.
  resolve: { conditions: ["onnxruntime-web-use-extern-wasm", "browser", "module", "import", "default"] },
  optimizeDeps: { exclude: ["onnxruntime-web"] },
  worker: { format: "es" as const },
  build: { outDir: page, emptyOutDir: true, target: "es2022", chunkSizeWarningLimit: 1200 },
  server: {
    headers: ISOLATION,
    ...(mode === "mock" ? {} : { proxy: { "/api": "http://127.0.0.1:8000" } }),
  },
  preview: { headers: ISOLATION },
}));
