/** What the decoders share: Pillow's arithmetic and orientation. */
import { type GreyImage, ImageError } from "./types.js";

export const MAX_PIXELS = 50_000_000;

/** ITU-R 601-2 in 16-bit fixed point. */
export const luma = (r: number, g: number, b: number): number => (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;

export function checkSize(width: number, height: number): void {
  if (width < 1 || height < 1) throw new ImageError("the image has no pixels; save it again or leave it out");
  if (width * height > MAX_PIXELS)
    throw new ImageError(`the image has more than ${MAX_PIXELS / 1e6} million pixels; cut it into lines first`);
}

/** Turn an image as EXIF's orientation 1 to 8 asks; others leave it as it is. */
export function upright(image: GreyImage, orientation: number): GreyImage {
  if (!(orientation >= 2 && orientation <= 8)) return image;
  const { width, height, pixels } = image;
  const swapped = orientation >= 5;
  const rightLeft = [2, 3, 7, 8].includes(orientation);
  const bottomTop = [3, 4, 6, 7].includes(orientation);
  const out = { width: swapped ? height : width, height: swapped ? width : height, pixels: new Uint8Array(pixels.length) };
  for (let y = 0, at = 0; y < out.height; y++)
    for (let x = 0; x < out.width; x++) {
      const [across, down] = swapped ? [y, x] : [x, y];
      const column = rightLeft ? width - 1 - across : across;
      out.pixels[at++] = pixels[(bottomTop ? height - 1 - down : down) * width + column]!;
    }
  return out;
}

/** Return the orientation in EXIF data, 0 where there is none. */
export function exifOrientation(data: Uint8Array): number {
  const text = (from: number, to: number): string => String.fromCharCode(...data.subarray(from, to));
  while (text(0, 6) === "Exif\0\0") data = data.subarray(6);
  const little = text(0, 4) === "II*\0";
  if (data.length < 8 || (!little && text(0, 4) !== "MM\0*")) return 0;
  const view = new DataView(data.buffer, data.byteOffset, data.length);
  const first = view.getUint32(4, little);
  if (first > data.length - 2) return 0;
  for (let entry = 0; entry < view.getUint16(first, little); entry++) {
    const at = first + 2 + 12 * entry;
    if (at + 12 > data.length) return 0;
    const found = view.getUint16(at, little) === 0x0112 && view.getUint16(at + 2, little) === 3;
    if (found && view.getUint32(at + 4, little) === 1) return view.getUint16(at + 8, little);
  }
  return 0;
}

export const xmpOrientation = (xmp: string): number => Number(/tiff:Orientation(?:="|>)([0-9])/.exec(xmp)?.[1] ?? 0);

/** Return opaque RGBA pixels as grey. */
export function fromRgba({ width, height, data }: ImageData): GreyImage {
  const pixels = new Uint8Array(width * height);
  for (let at = 0; at < pixels.length; at++) pixels[at] = luma(data[4 * at]!, data[4 * at + 1]!, data[4 * at + 2]!);
  return { width, height, pixels };
}
