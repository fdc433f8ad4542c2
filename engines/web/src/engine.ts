/** ONNX Runtime in the browser: on the CPU (WebAssembly with SIMD and threads), or on the GPU (WebGPU). */
import type { InferenceSession } from "onnxruntime-web";
import { type Progress, download, type Model } from "./bundle.js";
import { EngineError } from "./types.js";

export type EngineName = "wasm" | "webgpu";

export interface EngineOptions {
  threads?: number; // of the CPU; by default all cores up to 8. The first engine of a page decides
  runtime?: string | URL; // folder with ONNX Runtime's files; by default `ort` beside this module
  progress?: Progress;
}

export interface Engine {
  /** Run one line, float32 [1,1,H,W]; returns its logits [T,C]. */
  infer(image: Float32Array, height: number, width: number): Promise<Float32Array>;
  close(): Promise<void>;
}

// What one module of ONNX Runtime is downloaded as, and how large that is; the build knows.
declare const RUNTIME_BYTES: Record<EngineName, number>;
const FILES: Record<EngineName, string> = { wasm: "ort-wasm-simd-threaded", webgpu: "ort-wasm-simd-threaded.jspi" };
const binaries = new Map<EngineName, Promise<Uint8Array<ArrayBuffer>>>();

/** Tell whether this browser has a GPU that ONNX Runtime can use. */
export async function hasWebGpu(): Promise<boolean> {
  if (!("gpu" in navigator) || !("Suspending" in WebAssembly)) return false;
  const gpu = navigator.gpu as { requestAdapter(): Promise<object | null> };
  return (await gpu.requestAdapter().catch(() => null)) !== null;
}

async function loadRuntime(name: EngineName, options: EngineOptions): Promise<typeof import("onnxruntime-web")> {
  const ort = (name === "wasm" ? await import("onnxruntime-web/wasm")
    : await import("onnxruntime-web/jspi")) as typeof import("onnxruntime-web");
  const folder = new URL(String(options.runtime ?? "ort").replace(/\/?$/, "/"), import.meta.url);
  const file = FILES[name];
  if (!binaries.has(name))
    binaries.set(name, download(new URL(`${file}.wasm`, folder), `${file}.wasm`, RUNTIME_BYTES[name], options.progress));
  ort.env.wasm.wasmBinary = await binaries.get(name)!;
  ort.env.wasm.wasmPaths = { mjs: new URL(`${file}.mjs`, folder) };
  // Without the headers COOP and COEP a page has no memory that threads can share.
  const cores = options.threads ?? Math.min(8, navigator.hardwareConcurrency || 1);
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? cores : 1;
  ort.env.logLevel = "error";
  return ort;
}

/** Open a model with one engine and no other. Throws EngineError. */
export async function openEngine(
  name: EngineName, model: Model, content: Uint8Array, options: EngineOptions,
): Promise<Engine> {
  let ort: typeof import("onnxruntime-web");
  let session: InferenceSession;
  try {
    if (name === "webgpu" && !(await hasWebGpu())) throw new Error("this browser has no WebGPU");
    ort = await loadRuntime(name, options);
    session = await ort.InferenceSession.create(content, { executionProviders: [name] });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new EngineError(`${model.file} cannot be opened with ${name} (${reason.split("\n")[0]}); try another browser`);
  }
  const fixed = model.input.shape[0];
  const lines = typeof fixed === "number" ? fixed : 1;
  return {
    async infer(image, height, width) {
      const batch = lines === 1 ? image : new Float32Array(lines * image.length).fill(1);
      if (lines > 1) batch.set(image);
      const feeds = { [model.input.name]: new ort.Tensor("float32", batch, [lines, 1, height, width]) };
      const { [model.output.name]: logits } = await session.run(feeds);
      const values = (await logits!.getData()) as Float32Array;
      return values.slice(0, values.length / lines);
    },
    close: () => session.release(),
  };
}
