/** What the modules share. engines/FORMAT.md says what each of it means. */

/** An error that a user can cause or cure; its message says what is wrong and how to fix it. */
export class HtrError extends Error {
  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }
}
/** A bundle that is incomplete, changed or of an unknown version. */
export class BundleError extends HtrError {}
/** A file that is not an image of a line that can be read. */
export class ImageError extends HtrError {}
/** A document that is neither PAGE nor ALTO, or does not belong to its image. */
export class DataError extends HtrError {}
/** An engine that cannot be opened, or that failed while it ran. */
export class EngineError extends HtrError {}

/** What shows through transparency: white paper, or nothing is mixed in. */
export type Alpha = "white" | "ignore";

export interface Preprocessing {
  width: number; // pixels; a longer line is squashed, a shorter one padded
  height: number;
  alpha: Alpha;
}

/** Rows from the top, 8 bits, white = 255. */
export interface GreyImage {
  width: number;
  height: number;
  pixels: Uint8Array;
}

/** A character or a word. */
export interface Span {
  text: string;
  confidence: number; // 0 to 1
  start: number; // pixels of the image
  end: number;
}

export interface Reading {
  text: string;
  confidence: number; // 0 to 1
  words: Span[];
  characters: Span[];
}
