/** Resampling bit for bit as Pillow does it for 8-bit images, the width first: section 4 of FORMAT.md. */
import type { GreyImage, Preprocessing } from "./types.js";

const PRECISION_BITS = 32 - 8 - 2;

function bicubic(x: number): number {
  x = Math.abs(x);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * -0.5 : 0;
}

interface Weights {
  first: number; // pixel of the input
  fixed: number[]; // by 2^PRECISION_BITS
}

function weightsOf(from: number, to: number): Weights[] {
  const scale = from / to;
  const stretch = Math.max(scale, 1);
  const inverse = 1 / stretch;
  return Array.from({ length: to }, (_, pixel) => {
    const centre = (pixel + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - 2 * stretch + 0.5));
    const last = Math.min(from, Math.trunc(centre + 2 * stretch + 0.5));
    const weights = [];
    for (let x = first; x < last; x++) weights.push(bicubic((x - centre + 0.5) * inverse));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    const fixed = weights.map((weight) => {
      const scaled = (sum ? weight / sum : weight) * 2 ** PRECISION_BITS;
      return Math.trunc(scaled + (scaled < 0 ? -0.5 : 0.5));
    });
    return { first, fixed };
  });
}

/** Resample along one axis: `step` pixels lie between neighbours, `across` between one row or column and the next. */
function resample(pixels: Uint8Array, from: number, to: number, others: number, horizontal: boolean): Uint8Array {
  if (from === to) return pixels;
  const out = new Uint8Array(to * others);
  const step = horizontal ? 1 : others;
  weightsOf(from, to).forEach(({ first, fixed }, pixel) => {
    for (let other = 0; other < others; other++) {
      let at = horizontal ? other * from + first : first * others + other;
      let sum = 1 << (PRECISION_BITS - 1);
      for (const weight of fixed) {
        sum += pixels[at]! * weight;
        at += step;
      }
      const value = sum >> PRECISION_BITS;
      out[horizontal ? other * to + pixel : pixel * others + other] = value < 0 ? 0 : value > 255 ? 255 : value;
    }
  });
  return out;
}

/** How many columns of the network's input a line fills. */
export function scaledWidth(line: GreyImage, spec: Preprocessing): number {
  return Math.max(1, Math.min(Math.floor((line.width * spec.height) / line.height), spec.width));
}

/** Fit a line into the network's input: grey values [H,W], padded with white on the right. */
export function fitLine(line: GreyImage, spec: Preprocessing): Uint8Array {
  const width = scaledWidth(line, spec);
  const narrow = resample(line.pixels, line.width, width, line.height, true);
  const scaled = resample(narrow, line.height, spec.height, width, false);
  const tensor = new Uint8Array(spec.height * spec.width).fill(255);
  for (let y = 0; y < spec.height; y++) tensor.set(scaled.subarray(y * width, (y + 1) * width), y * spec.width);
  return tensor;
}

/** Scale grey values to [0,1], white = 1: times the rounded reciprocal, as PyTorch divides. */
export function toFloats(tensor: Uint8Array): Float32Array {
  return Float32Array.from(tensor, (grey) => grey * Math.fround(1 / 255));
}
