// Builds the library into dist, and into the folder given the page that `htr-export site` copies.
import { build } from "esbuild";
import { copyFile, mkdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";

const RUNTIME = { wasm: "ort-wasm-simd-threaded", webgpu: "ort-wasm-simd-threaded.jspi" };
const from = (...parts) => join("node_modules", ...parts);
const sizes = Object.entries(RUNTIME).map(async ([name, file]) =>
  [name, (await stat(from("onnxruntime-web", "dist", `${file}.wasm`))).size]);
const options = {
  bundle: true,
  format: "esm",
  splitting: true,
  minify: true,
  keepNames: true, // of the errors
  target: "es2022",
  // ONNX Runtime's own files stay files of their own: its threads load them again.
  conditions: ["onnxruntime-web-use-extern-wasm"],
  define: { RUNTIME_BYTES: JSON.stringify(Object.fromEntries(await Promise.all(sizes))) },
};

async function copyRuntime(folder) {
  await mkdir(join(folder, "ort"), { recursive: true });
  for (const file of Object.values(RUNTIME).flatMap((name) => [`${name}.mjs`, `${name}.wasm`]))
    await copyFile(from("onnxruntime-web", "dist", file), join(folder, "ort", file));
}

await build({ ...options, entryPoints: ["src/index.ts"], outdir: "dist", legalComments: "inline" });
await copyRuntime("dist");
const [page] = process.argv.slice(2);
if (page) {
  await rm(page, { recursive: true, force: true });
  await build({ ...options, entryPoints: ["page/page.ts"], outdir: page, legalComments: "none" });
  await build({ entryPoints: ["page/sw.ts"], outdir: page, bundle: true, minify: true });
  await copyRuntime(page);
  for (const file of ["index.html", "style.css", "icon.svg", "licences.txt"]) await copyFile(join("page", file), join(page, file));
}
