export { Bundle, type GoldenLine, type Model, type Progress } from "./bundle.js";
export { toRecord } from "./ctc.js";
export type { EngineName } from "./engine.js";
export { loadImage } from "./image.js";
export { fitLine } from "./preprocess.js";
export { type Check, type Options, Recognizer } from "./recognizer.js";
export * from "./types.js";
export { type CutLine, cutLines } from "./cut.js";
export * from "./pages.js";
