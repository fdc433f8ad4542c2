/** A bundle on a web server: the folder that `htr-export bundle` writes. Every file is hashed before it is used. */
import { type Alpha, BundleError, type Preprocessing } from "./types.js";

interface Expected {
  logits: string; // .npy, float32 [T,C]
  text: string;
}

export interface GoldenLine {
  image: string;
  tensor: string; // .npy, float32 [1,H,W]
  reference: Expected;
  models: Record<string, Expected>;
}

export interface Model {
  file: string;
  engines: string[]; // that can run it
  precision: string;
  input: { name: string; shape: (number | string)[] };
  output: { name: string };
  validation: { passed: boolean; verdict: string; engine?: string };
  validations?: Record<string, { passed: boolean; verdict: string }>;
}

interface Manifest {
  format: string;
  schema_version: number;
  files: Record<string, { sha256: string; bytes: number }>;
  charset: string;
  preprocessing: { width: number; height: number; alpha?: Alpha };
  models: Model[];
  decoding?: { method: string };
  golden: GoldenLine[];
  preprocessing_vectors?: {
    width: number;
    height: number;
    tensors: string; // .npy, uint8 [images,H,W]
    images: { file: string; alpha: Alpha; tolerance: number }[];
  };
}

/** Tells how much of a file has come; `total` is 0 where it is not known. */
export type Progress = (file: string, loaded: number, total: number) => void;

/** Download a file in pieces. */
export async function download(url: URL, name: string, total = 0, progress?: Progress): Promise<Uint8Array<ArrayBuffer>> {
  const response = await fetch(url).catch((error: unknown) => {
    throw new BundleError(`${name} cannot be downloaded (${String(error)}); check the connection`);
  });
  if (!response.ok || !response.body)
    throw new BundleError(`${name} cannot be downloaded (HTTP ${response.status}); copy the bundle again`);
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let loaded = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    loaded += value.length;
    progress?.(name, loaded, total);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

export class Bundle {
  readonly characters: string[]; // class k is characters[k - 1]
  readonly preprocessing: Preprocessing;

  private constructor(readonly url: URL, readonly manifest: Manifest) {
    this.characters = [...manifest.charset];
    const { width, height, alpha } = manifest.preprocessing;
    this.preprocessing = { width, height, alpha: alpha ?? "white" };
    if (!(width > 0 && height > 0) || !manifest.models.length || new Set(this.characters).size !== this.characters.length)
      throw new TypeError("sizes, models or characters");
  }

  /** Read the manifest of a bundle. Throws BundleError. */
  static async open(folder: string | URL): Promise<Bundle> {
    const url = new URL(String(folder).replace(/\/?$/, "/"), document.baseURI);
    const content = await download(new URL("manifest.json", url), "manifest.json");
    try {
      const manifest = JSON.parse(new TextDecoder().decode(content)) as Manifest;
      if (manifest.format !== "htr-convtext-bundle") throw new TypeError("it is not that of a bundle");
      if (![2, 3, 4].includes(manifest.schema_version))
        throw new BundleError(
          `${url} has schema version ${manifest.schema_version}, this release reads 2 to 4; install the release that wrote it`);
      return new Bundle(url, manifest);
    } catch (error) {
      if (error instanceof BundleError) throw error;
      throw new BundleError(`the manifest of ${url} is damaged (${String(error)}); bundle the model again`);
    }
  }

  /** Return the content of a file, whose SHA-256 is the manifest's. Throws BundleError. */
  async content(name: string, progress?: Progress): Promise<Uint8Array<ArrayBuffer>> {
    const facts = Object.hasOwn(this.manifest.files, name) ? this.manifest.files[name] : undefined;
    if (!facts) throw new BundleError(`${name} has no SHA-256 in the manifest; bundle the model again`);
    if (/^\/|\\|\0|:|(^|\/)\.\.(\/|$)/.test(name))
      throw new BundleError(`the manifest names ${name}, which is outside of the bundle; do not use this bundle`);
    if (!globalThis.crypto.subtle)
      throw new BundleError("this browser hashes files on https and on localhost only; open the page there");
    const content = await download(new URL(name, this.url), name, facts.bytes, progress);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", content));
    if (Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("") !== facts.sha256)
      throw new BundleError(`${name} was changed after the bundle was written; copy it again`);
    return content;
  }

  /** Return the numbers of a .npy file of float32 or uint8. Throws BundleError. */
  async numbers(name: string): Promise<Float32Array | Uint8Array> {
    const content = await this.content(name);
    const start = content[6] === 1 ? 10 : 12;
    const body = start + (content[8]! | (content[9]! << 8));
    const header = String.fromCharCode(...content.subarray(start, body));
    if (content[1] !== 0x4e || header.includes("True") || !/'(<f4|\|u1)'/.test(header))
      throw new BundleError(`${name} is not a .npy array of float32 or uint8; copy the bundle again`);
    return header.includes("<f4") ? new Float32Array(content.slice(body).buffer) : content.slice(body);
  }
}
