/** Greedy CTC decoding, with a confidence and a place for everything it reads: section 5 of FORMAT.md. */
import { EngineError, type Reading, type Span } from "./types.js";

const SPACE = /^[\p{White_Space}\x1c-\x1f]$/u;

function geometricMean(logs: number[]): number {
  return Math.exp(logs.reduce((sum, one) => sum + one, 0) / logs.length);
}

/** The best class of a frame, and its log probability; of a frame that is not finite, a blank of probability 0. */
function bestOf(logits_C: Float32Array): [number, number] {
  let best = 0;
  let finite = true;
  logits_C.forEach((logit, index) => {
    finite &&= Number.isFinite(logit);
    if (logit > logits_C[best]!) best = index;
  });
  if (!finite) return [0, -Infinity];
  let sum = 0;
  for (const logit of logits_C) sum += Math.exp(logit - logits_C[best]!);
  return [best, -Math.log(sum)];
}

function wordsOf(characters: Span[]): Span[] {
  const words: Span[] = [];
  let run: Span[] = [];
  for (const span of [...characters, { text: " ", confidence: 1, start: 0, end: 0 }]) {
    if (!SPACE.test(span.text)) {
      run.push(span);
    } else if (run.length) {
      const confidence = geometricMean(run.map((one) => Math.log(Math.max(one.confidence, 1e-45))));
      words.push({ text: run.map((one) => one.text).join(""), confidence, start: run[0]!.start, end: run.at(-1)!.end });
      run = [];
    }
  }
  return words;
}

/** Decode the logits of one line, float32 [T,C]. Places are in frames times `pixelsPerFrame`, at most `width`. */
export function decodeGreedy(
  logits: Float32Array, characters: string[], pixelsPerFrame = 1, width = Infinity,
): Reading {
  const classes = characters.length + 1;
  if (logits.length % classes)
    throw new EngineError(`the model has other classes than the bundle's ${characters.length} characters; bundle it again`);
  const frames = Array.from({ length: logits.length / classes }, (_, frame) =>
    bestOf(logits.subarray(frame * classes, (frame + 1) * classes)));
  if (!frames.length) return { text: "", confidence: 0, words: [], characters: [] };
  const spans: Span[] = [];
  const kept: number[] = [];
  for (let start = 0, end = 0; start < frames.length; start = end) {
    const best = frames[start]![0];
    let logP = -Infinity;
    for (; end < frames.length && frames[end]![0] === best; end++) logP = Math.max(logP, frames[end]![1]);
    if (best === 0) continue;
    kept.push(logP);
    const [left, right] = [start, end].map((frame) => Math.min(frame * pixelsPerFrame, width));
    spans.push({ text: characters[best - 1]!, confidence: Math.exp(logP), start: left!, end: right! });
  }
  return {
    text: spans.map((span) => span.text).join(""),
    confidence: geometricMean(kept.length ? kept : frames.map((frame) => frame[1])),
    words: wordsOf(spans),
    characters: spans,
  };
}

const rounded = (value: number, digits: number): number => Number(value.toFixed(digits));

/** A reading as `htr-read --json` writes it: confidences rounded to 4 digits, places to 1. */
export function toRecord(reading: Reading): Reading {
  const spans = (all: Span[]): Span[] =>
    all.map((span) => ({
      text: span.text,
      confidence: rounded(span.confidence, 4),
      start: rounded(span.start, 1),
      end: rounded(span.end, 1),
    }));
  return {
    text: reading.text,
    confidence: rounded(reading.confidence, 4),
    words: spans(reading.words),
    characters: spans(reading.characters),
  };
}
