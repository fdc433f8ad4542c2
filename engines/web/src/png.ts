/** PNG to grey. A canvas would multiply by alpha, apply profiles and drop the lower half of 16 bits. */
import { checkSize, exifOrientation, luma, xmpOrientation } from "./grey.js";
import { type GreyImage, ImageError } from "./types.js";

const damaged = (what: string): ImageError =>
  new ImageError(`the image is damaged (${what}); save it again or leave it out`);
const GREY = 0, PALETTE = 3, GREY_ALPHA = 4, RGBA = 6;
const CHANNELS: Record<number, number> = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
// Left, top, step across and down of each pass.
const ADAM7 = [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]] as const;

interface Content {
  width: number;
  height: number;
  bits: number;
  type: number; // of colour
  interlaced: boolean;
  palette: Uint8Array;
  transparency: Uint8Array | undefined; // tRNS
  orientation: number;
  compressed: Uint8Array<ArrayBuffer>[];
}

function parse(data: Uint8Array<ArrayBuffer>): Content {
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const png: Content = {
    width: 0, height: 0, bits: 0, type: 0, interlaced: false,
    palette: new Uint8Array(0), transparency: undefined, orientation: 0, compressed: [],
  };
  let [exif, xmp] = [0, 0];
  for (let at = 8; at + 8 <= data.length; ) {
    const kind = String.fromCharCode(...data.subarray(at + 4, at + 8));
    const body = data.subarray(at + 8, at + 8 + view.getUint32(at));
    at += 12 + view.getUint32(at);
    if (kind === "IHDR") {
      [png.width, png.height] = [view.getUint32(16), view.getUint32(20)];
      [png.bits, png.type, png.interlaced] = [body[8]!, body[9]!, body[12] === 1];
    } else if (kind === "PLTE") png.palette = body;
    else if (kind === "tRNS") png.transparency = body;
    else if (kind === "IDAT") png.compressed.push(body);
    else if (kind === "eXIf") exif = exifOrientation(body);
    else if (kind === "iTXt") xmp ||= xmpOrientation(new TextDecoder("latin1").decode(body));
    else if (kind === "IEND") break;
  }
  if (!CHANNELS[png.type] || ![1, 2, 4, 8, 16].includes(png.bits)) throw damaged("its header cannot be read");
  checkSize(png.width, png.height);
  return { ...png, orientation: exif || xmp };
}

async function inflate(parts: Uint8Array<ArrayBuffer>[], size: number): Promise<Uint8Array> {
  const out = new Uint8Array(size);
  let filled = 0;
  try {
    for await (const part of new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"))) {
      out.set(part.subarray(0, size - filled), filled);
      filled += part.length;
    }
  } catch {
    // Judged by what came: the pixels may be whole where only their end is damaged.
  }
  if (filled < size) throw damaged("image file is truncated");
  return out;
}

function paeth(left: number, up: number, corner: number): number {
  const a = Math.abs(up - corner), b = Math.abs(left - corner), c = Math.abs(left + up - 2 * corner);
  return a <= b && a <= c ? left : b <= c ? up : corner;
}

/** Undo the filters of `rows` rows of `stride` bytes, in place. Returns the bytes without the filters' own. */
function unfilter(data: Uint8Array, rows: number, stride: number, pixel: number): Uint8Array {
  const out = new Uint8Array(rows * stride);
  for (let row = 0; row < rows; row++) {
    const [from, to] = [row * (stride + 1) + 1, row * stride];
    const filter = data[from - 1]!;
    for (let at = 0; at < stride; at++) {
      const left = at >= pixel ? out[to + at - pixel]! : 0;
      const up = row ? out[to + at - stride]! : 0;
      const corner = row && at >= pixel ? out[to + at - stride - pixel]! : 0;
      const guess = filter === 1 ? left : filter === 2 ? up : filter === 3 ? (left + up) >> 1
        : filter === 4 ? paeth(left, up, corner) : 0;
      out[to + at] = data[from + at]! + guess;
    }
    if (filter > 4) throw damaged("a filter that PNG does not have");
  }
  return out;
}

/** Return the samples [H,W,channels], of 16 bits as they are. */
async function samplesOf(png: Content): Promise<Uint16Array> {
  const channels = CHANNELS[png.type]!;
  const size = png.bits * channels;
  const passes = (png.interlaced ? ADAM7 : [[0, 0, 1, 1] as const]).map(([left, top, across, down]) => {
    const [columns, rows] = [Math.ceil((png.width - left) / across), Math.ceil((png.height - top) / down)];
    return { left, top, across, down, columns, rows: columns > 0 ? rows : 0, stride: Math.ceil((columns * size) / 8) };
  }).filter((pass) => pass.rows > 0);
  const total = passes.reduce((sum, pass) => sum + pass.rows * (pass.stride + 1), 0);
  const data = await inflate(png.compressed, total);
  const samples = new Uint16Array(png.width * png.height * channels);
  let from = 0;
  for (const { left, top, across, down, columns, rows, stride } of passes) {
    const bytes = unfilter(data.subarray(from), rows, stride, Math.max(1, size >> 3));
    from += rows * (stride + 1);
    for (let row = 0; row < rows; row++)
      for (let index = 0; index < columns * channels; index++) {
        const bit = index * png.bits;
        const byte = row * stride + (bit >> 3);
        const value = png.bits === 16 ? (bytes[byte]! << 8) | bytes[byte + 1]!
          : (bytes[byte]! >> (8 - png.bits - (bit & 7))) & ((1 << png.bits) - 1);
        const [column, channel] = [Math.floor(index / channels), index % channels];
        samples[((top + row * down) * png.width + left + column * across) * channels + channel] = value;
      }
  }
  return samples;
}

/** A channel laid over white. */
function over(value: number, alpha: number): number {
  if (alpha === 0) return 255;
  const sum = value * alpha * 128 + 255 * (255 - alpha) * 128 + 16384;
  return (((sum >> 8) + sum) >> 8) >> 7;
}

/** Round to whole numbers, halves to even. */
function rint(value: number): number {
  const down = Math.floor(value);
  return value - down === 0.5 ? down + (down & 1) : Math.round(value);
}

/** Return what makes a pixel grey, given its place among the pixels. */
function greyOf(png: Content, samples: Uint16Array, white: boolean): (at: number) => number {
  const { bits, type } = png;
  const trns = white ? png.transparency : undefined;
  if (type === GREY && bits === 16) {
    const brightest = samples.reduce((most, value) => Math.max(most, value), 0);
    const factor = 255 / (brightest <= 1 ? 1 : brightest <= 255 ? 255 : 65535);
    return (at) => rint(samples[at]! * factor);
  }
  if (type === GREY) {
    const factor = 255 / ((1 << bits) - 1);
    // Pillow compares the key with the scaled grey; for 1 bit it scales the key as well.
    const key = !trns ? -1 : bits === 1 ? trns[1]! * 255 : trns[1]!;
    return (at) => (samples[at]! * factor === key ? 255 : samples[at]! * factor);
  }
  if (type === PALETTE) {
    const greys = Array.from({ length: 256 }, (_, entry) => {
      const colour = [0, 1, 2].map((channel) => png.palette[3 * entry + channel] ?? 0);
      const [r, g, b] = trns ? colour.map((value) => over(value, trns[entry] ?? 255)) : colour;
      return luma(r!, g!, b!);
    });
    return (at) => greys[samples[at]!]!;
  }
  const shift = bits === 16 ? 8 : 0;
  const sample = (index: number): number => samples[index]! >> shift;
  if (type === GREY_ALPHA) return (at) => (white ? over(sample(2 * at), sample(2 * at + 1)) : sample(2 * at));
  const channels = CHANNELS[type]!;
  return (at) => {
    const [r, g, b] = [sample(channels * at), sample(channels * at + 1), sample(channels * at + 2)];
    if (type === RGBA && white) {
      const alpha = sample(4 * at + 3);
      return luma(over(r, alpha), over(g, alpha), over(b, alpha));
    }
    return trns && r === trns[1] && g === trns[3] && b === trns[5] ? 255 : luma(r, g, b);
  };
}

/** Decode a PNG file. */
export async function decodePng(
  data: Uint8Array<ArrayBuffer>, white: boolean,
): Promise<{ image: GreyImage; orientation: number }> {
  const png = parse(data);
  const grey = greyOf(png, await samplesOf(png), white);
  const pixels = Uint8Array.from({ length: png.width * png.height }, (_, at) => grey(at));
  return { image: { width: png.width, height: png.height, pixels }, orientation: png.orientation };
}
