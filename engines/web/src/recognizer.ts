/** Reading line images with a bundle. */
import { Bundle, type Model } from "./bundle.js";
import { decodeGreedy } from "./ctc.js";
import { type Engine, type EngineName, type EngineOptions, hasWebGpu, openEngine } from "./engine.js";
import { loadImage } from "./image.js";
import { fitLine, scaledWidth, toFloats } from "./preprocess.js";
import { type Alpha, EngineError, type GreyImage, type Preprocessing, type Reading } from "./types.js";

// By engine and precision, the lower the faster, as in section 2 of FORMAT.md.
const RANKS: Record<EngineName, Record<string, number>> = {
  wasm: { int8: 50, mixed: 51, fp32: 70, fp16: 90, bf16: 91 },
  webgpu: { fp16: 30, mixed: 31, bf16: 32, fp32: 33, int8: 34 },
};
const LARGE = 20e6; // bytes of a model; smaller ones read on the CPU sooner than a GPU's runtime is downloaded

export interface Options extends EngineOptions {
  engine?: EngineName; // by default the fastest that fits
  model?: string; // file of the bundle, by default the fastest that is proven
  alpha?: Alpha; // by default as the bundle says
}

/** What a self-test found. */
export interface Check {
  passed: boolean;
  detail: string;
}

interface Candidate {
  model: Model;
  engine: EngineName;
}

/** 0 if the model is proven with ONNX Runtime, 1 if with another engine, 2 if it is not. */
function doubt(model: Model): number {
  const passed = Object.entries(model.validations ?? {}).filter(([, one]) => one.passed).map(([engine]) => engine);
  if (model.validation.passed && model.validation.engine) passed.push(model.validation.engine);
  return passed.includes("onnxruntime") ? 0 : passed.length ? 1 : 2;
}

async function candidates(bundle: Bundle, options: Options): Promise<Candidate[]> {
  const models = bundle.manifest.models.filter(
    (model) => model.engines.includes("onnxruntime") && (!options.model || model.file === options.model));
  const large = models.some((model) => (bundle.manifest.files[model.file]?.bytes ?? 0) > LARGE);
  const gpu = !options.engine && large && (await hasWebGpu());
  const engines: EngineName[] = options.engine ? [options.engine] : gpu ? ["webgpu", "wasm"] : ["wasm"];
  const rank = ({ model, engine }: Candidate): number => RANKS[engine][model.precision] ?? 1000;
  return engines
    .flatMap((engine) => models.map((model) => ({ model, engine })))
    .sort((left, right) => doubt(left.model) - doubt(right.model) || rank(left) - rank(right));
}

function largestDifference(left: ArrayLike<number>, right: ArrayLike<number>): number {
  if (left.length !== right.length) return Infinity;
  return Array.from(left).reduce((most, value, at) => Math.max(most, Math.abs(value - right[at]!)), 0);
}

/** Reads lines with a model of a bundle. */
export class Recognizer {
  private constructor(
    readonly bundle: Bundle,
    readonly model: Model,
    readonly engineName: EngineName,
    readonly preprocessing: Preprocessing,
    private readonly engine: Engine,
  ) {}

  /** Open a bundle on a web server. Throws BundleError and EngineError. */
  static async open(url: string | URL, options: Options = {}): Promise<Recognizer> {
    const bundle = await Bundle.open(url);
    const preprocessing = { ...bundle.preprocessing, ...(options.alpha && { alpha: options.alpha }) };
    const reasons: string[] = [];
    for (const { model, engine } of await candidates(bundle, options)) {
      try {
        const content = await bundle.content(model.file, options.progress);
        const opened = await openEngine(engine, model, content, options);
        const recognizer = new Recognizer(bundle, model, engine, preprocessing, opened);
        // A driver's shaders are not ours to trust: what does not read the first golden line does not read.
        const failed = engine === "webgpu" && (await recognizer.checkGolden(0)).find((check) => !check.passed);
        if (!failed) return recognizer;
        await opened.close();
        throw new EngineError(failed.detail);
      } catch (error) {
        if (!(error instanceof EngineError)) throw error;
        reasons.push(`${engine} with ${model.file}: ${error.message}`);
      }
    }
    throw new EngineError(reasons.join("; ") || `${bundle.url} has no model for this; choose another`);
  }

  /** What reads, in a few words. */
  get selection(): string {
    const proven = ["proven with this engine", "not proven with this engine", "not proven"][doubt(this.model)]!;
    // A bundle with a language model was proven with a beam search, which this reader does not have.
    const greedy = this.bundle.manifest.decoding?.method === "ctc-beam" ? "; decodes greedily, without the language model" : "";
    return `${this.engineName} reads ${this.model.file} (${this.model.precision}; ${proven}${greedy})`;
  }

  /** Read one line: a file's content, or grey pixels. Throws ImageError. */
  async read(image: Blob | ArrayBuffer | Uint8Array | GreyImage): Promise<Reading> {
    const line = "pixels" in image ? image : await this.load(image);
    const spec = this.preprocessing;
    const logits = await this.infer(fitLine(line, spec));
    const characters = this.bundle.characters;
    const frames = logits.length / (characters.length + 1);
    const scale = (spec.width / frames) * (line.width / scaledWidth(line, spec));
    return decodeGreedy(logits, characters, scale, line.width);
  }

  /** Decode an image file into grey pixels. Throws ImageError. */
  async load(image: Blob | ArrayBuffer | Uint8Array, alpha = this.preprocessing.alpha): Promise<GreyImage> {
    return loadImage(new Uint8Array(image instanceof Blob ? await image.arrayBuffer() : image), alpha);
  }

  /** Free the engine. */
  close(): Promise<void> {
    return this.engine.close();
  }

  /** Run the bundle's preprocessing vectors and golden lines. Throws BundleError. */
  async *selfTest(): AsyncGenerator<Check> {
    yield* this.checkPreprocessing();
    for (const line of this.bundle.manifest.golden.keys()) yield* await this.checkGolden(line);
  }

  private infer(tensor: Uint8Array): Promise<Float32Array> {
    return this.engine.infer(toFloats(tensor), this.preprocessing.height, this.preprocessing.width);
  }

  private async *checkPreprocessing(): AsyncGenerator<Check> {
    const vectors = this.bundle.manifest.preprocessing_vectors;
    if (!vectors) return;
    const expected = await this.bundle.numbers(vectors.tensors);
    const { width, height } = vectors;
    let passed = 0;
    for (const [index, { file, alpha, tolerance }] of vectors.images.entries()) {
      const image = await this.load(await this.bundle.content(file), alpha);
      const tensor = fitLine(image, { width, height, alpha });
      const difference = largestDifference(tensor, expected.subarray(index * tensor.length, (index + 1) * tensor.length));
      if (difference <= tolerance) passed++;
      else yield { passed: false, detail: `${file}, alpha ${alpha}: preprocessing is off by ${difference} grey levels` };
    }
    const all = vectors.images.length;
    yield { passed: passed === all, detail: `preprocessing: ${passed} of ${all} images match` };
  }

  private async checkGolden(index: number): Promise<Check[]> {
    const line = this.bundle.manifest.golden[index];
    if (!line) return [{ passed: false, detail: "the bundle has no golden lines; bundle the model again" }];
    const { precision, file } = this.model;
    const expected = line.models[file] ?? line.reference;
    const name = line.image.split("/").at(-1)!;
    const image = await this.load(await this.bundle.content(line.image), this.bundle.preprocessing.alpha);
    const tensor = fitLine(image, this.bundle.preprocessing);
    const same = largestDifference(toFloats(tensor), await this.bundle.numbers(line.tensor)) === 0;
    const logits = await this.infer(tensor);
    const difference = largestDifference(logits, await this.bundle.numbers(expected.logits));
    const quantized = precision === "int8" || precision === "mixed";
    const tolerance = quantized ? 2 : precision === "fp32" && this.engineName === "wasm" ? 0.01 : 0.5;
    const text = decodeGreedy(logits, this.bundle.characters).text;
    const detail = `${name}: logits, max diff ${difference.toExponential(1)} (atol ${tolerance})`;
    return [
      { passed: same, detail: `${name}: preprocessing ${same ? "matches to the last bit" : "differs"}` },
      { passed: difference <= tolerance, detail },
      { passed: text === expected.text, detail: `${name}: reads '${text}'${text === expected.text ? "" : `, not '${expected.text}'`}` },
    ];
  }
}

