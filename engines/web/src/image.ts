/** From an image file to upright 8-bit grey, by Pillow's arithmetic: section 3 of FORMAT.md. */
import { checkSize, exifOrientation, fromRgba, upright, xmpOrientation } from "./grey.js";
import { decodePng } from "./png.js";
import { type Alpha, type GreyImage, ImageError } from "./types.js";

/** Part a JPEG into what its pixels need and its orientation: a browser would apply EXIF and profiles as it likes. */
function stripJpeg(data: Uint8Array): { parts: Uint8Array<ArrayBuffer>[]; orientation: number } {
  const parts = [data.slice(0, 2)];
  let [exif, xmp] = [0, 0];
  let at = 2;
  while (at + 4 <= data.length && data[at] === 0xff && data[at + 1] !== 0xda) {
    if (data[at + 1] === 0xff) {
      at++; // a marker may be filled up
      continue;
    }
    const marker = data[at + 1]!;
    const end = at + 2 + ((data[at + 2]! << 8) | data[at + 3]!);
    const body = data.subarray(at + 4, end);
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker))
      checkSize((body[3]! << 8) | body[4]!, (body[1]! << 8) | body[2]!);
    if (marker === 0xe1) {
      exif ||= exifOrientation(body);
      xmp ||= xmpOrientation(new TextDecoder("latin1").decode(body));
    } else if (marker !== 0xe2) parts.push(data.slice(at, end));
    at = end;
  }
  return { parts: [...parts, data.slice(at)], orientation: exif || xmp };
}

/** Decode what only the browser can, over white; the size is that of the file, the colours as they stand there. */
async function decodeByBrowser(blob: Blob): Promise<GreyImage> {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" }).catch(() => {
    throw new ImageError("the image is damaged or of a kind that this browser does not decode; save it as PNG or JPEG");
  });
  const { width, height } = bitmap;
  checkSize(width, height);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true })!;
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return fromRgba(context.getImageData(0, 0, width, height));
}

/** Decode an image file. Throws ImageError. */
export async function loadImage(data: Uint8Array<ArrayBuffer>, alpha: Alpha): Promise<GreyImage> {
  const head = String.fromCharCode(...data.subarray(0, 8));
  if (!data.length) throw new ImageError("the image is empty; give an image file");
  if (head === "\x89PNG\r\n\x1a\n") {
    const { image, orientation } = await decodePng(data, alpha === "white");
    return upright(image, orientation);
  }
  if (!head.startsWith("\xff\xd8\xff")) return decodeByBrowser(new Blob([data]));
  const { parts, orientation } = stripJpeg(data);
  return upright(await decodeByBrowser(new Blob(parts, { type: "image/jpeg" })), orientation);
}
