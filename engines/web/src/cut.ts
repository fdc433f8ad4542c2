/** Lines cut out of a page's image: straightened along their baseline, with paper painted over their surroundings. */
import type { PageLine, Point } from "./pages.js";
import { DataError, type GreyImage } from "./types.js";

/** A line cut out of its page. */
export interface CutLine {
  image: GreyImage;
  /** The outline on the page's image of the columns from `start` to `end`. */
  outline(start: number, end: number): Point[];
}

const STEP = 8; // pixels between the points of a curve
const [ABOVE, BELOW] = [0.75, 0.35]; // how far a line reaches from its baseline, in heights, where nobody says
const MIN_SIZE = 8; // pixels

const subtract = (a: Point, b: Point): Point => [a[0] - b[0], a[1] - b[1]];
const moved = (a: Point, b: Point, by = 1): Point => [a[0] + by * b[0], a[1] + by * b[1]];
const dot = (a: Point, b: Point): number => a[0] * b[0] + a[1] * b[1];
const unit = (a: Point): Point => [a[0] / (Math.hypot(...a) || 1), a[1] / (Math.hypot(...a) || 1)];

/** Points `STEP` apart along a line, and its end. */
function resample(points: Point[]): Point[] {
  const out: Point[] = [];
  let due = 0; // until the next point
  for (let at = 1; at < points.length; at++) {
    const [from, to] = [points[at - 1]!, points[at]!];
    const length = Math.hypot(...subtract(to, from));
    for (; due < length; due += STEP) out.push(moved(from, unit(subtract(to, from)), due));
    due -= length;
  }
  return [...out, points.at(-1)!];
}

const trace = (polygon: Point[]): Point[] => resample([...polygon, polygon[0]!]);

/** Unit vectors across a curve, downwards where it runs to the right. */
function normalsOf(curve: Point[]): Point[] {
  return curve.map((_, at) => {
    const [x, y] = unit(subtract(curve[Math.min(at + 1, curve.length - 1)]!, curve[Math.max(at - 1, 0)]!));
    return [-y, x];
  });
}

/** Round a baseline's corners, and lengthen it on both sides until it passes the whole outline. */
function smoothCurve(baseline: Point[], outline: Point[], height: number): Point[] {
  const points = resample(baseline);
  const around = Math.max(1, Math.round((0.75 * height) / STEP));
  const extend = (end: Point, inner: Point): Point[] => {
    const direction = unit(subtract(end, inner));
    const missing = Math.max(0, ...outline.map((point) => dot(subtract(point, end), direction)));
    const steps = Math.round(missing / STEP) + 2 * around + 1;
    return Array.from({ length: steps }, (_, step) => moved(end, direction, (step + 1) * STEP));
  };
  const before = extend(points[0]!, points[Math.min(2 * around, points.length - 1)]!).reverse();
  const after = extend(points.at(-1)!, points.at(Math.max(-1 - 2 * around, -points.length))!);
  const longer = [...before, ...points, ...after];
  const window = 2 * around + 1;
  return Array.from({ length: longer.length - window + 1 }, (_, at) =>
    longer.slice(at, at + window).reduce((sum, point) => moved(sum, point, 1 / window), [0, 0] as Point));
}

/** Where an outline lies along a curve, and how far above (negative) and below it reaches. */
function project(outline: Point[], curve: Point[]): { first: number; last: number; top: number; bottom: number } {
  const normals = normalsOf(curve);
  const found = outline.map((point) => {
    let [nearest, least] = [0, Infinity];
    curve.forEach((one, at) => {
      const distance = (one[0] - point[0]) ** 2 + (one[1] - point[1]) ** 2;
      if (distance < least) [nearest, least] = [at, distance];
    });
    return [nearest, dot(subtract(point, curve[nearest]!), normals[nearest]!)] as const;
  });
  const [first, top, last, bottom] = boxOf(found);
  return { first, last, top, bottom };
}

function enclosedArea(polygon: Point[]): number {
  return Math.abs(polygon.reduce((sum, [x, y], at) => {
    const [nextX, nextY] = polygon[(at + 1) % polygon.length]!;
    return sum + (x * nextY - nextX * y) / 2;
  }, 0));
}

function boxOf(points: Point[]): [number, number, number, number] {
  const [xs, ys] = [points.map(([x]) => x), points.map(([, y]) => y)];
  return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
}

function heightOf(polygon: Point[]): number {
  const [left, top, right, bottom] = boxOf(polygon);
  return enclosedArea(polygon) / Math.hypot(right - left, bottom - top);
}

/** Tell of every pixel of the page whether it is inside a polygon. */
function maskOf(polygon: Point[], page: GreyImage): (x: number, y: number) => boolean {
  const box = boxOf(polygon).map(Math.round);
  const [left, top] = [Math.max(0, box[0]! - 1), Math.max(0, box[1]! - 1)];
  const [width, height] = [Math.min(page.width, box[2]! + 2) - left, Math.min(page.height, box[3]! + 2) - top];
  const context = new OffscreenCanvas(Math.max(1, width), Math.max(1, height)).getContext("2d")!;
  context.translate(-left, -top);
  polygon.forEach(([x, y]) => context.lineTo(x, y));
  context.fill();
  const { data } = context.getImageData(0, 0, Math.max(1, width), Math.max(1, height));
  return (x, y) => x >= left && y >= top && x < left + width && y < top + height && data[4 * ((y - top) * width + x - left) + 3]! > 127;
}

/** The grey in the middle of a histogram; of an empty one, none. */
function medianGrey(counts: Uint32Array): number | undefined {
  let rank = counts.reduce((sum, count) => sum + count, 0) >> 1;
  return rank ? counts.findIndex((count) => (rank -= count) < 0) : undefined;
}

/** Lay a curve level, `STEP` columns for each of its points, and paint over with paper what lies outside the polygon. */
function straighten(page: GreyImage, polygon: Point[], upper: Point[], lower: Point[], height: number): GreyImage {
  const width = (upper.length - 1) * STEP;
  const inside = maskOf(polygon, page);
  const pixels = new Uint8Array(width * height);
  const outside: number[] = [];
  const [every, ...tones] = Array.from({ length: 1 + Math.ceil(width / height) }, () => new Uint32Array(256));
  const [right, bottom] = [page.width - 1, page.height - 1];
  const grey = (x: number, y: number): number =>
    page.pixels[Math.min(Math.max(y, 0), bottom) * page.width + Math.min(Math.max(x, 0), right)]!;
  for (let column = 0; column < width; column++) {
    const [at, share] = [Math.floor(column / STEP), ((column + 0.5) % STEP) / STEP];
    const [high, low] = [upper, lower].map((edge) => moved(edge[at]!, subtract(edge[at + 1]!, edge[at]!), share));
    const [stepX, stepY] = [(low![0] - high![0]) / height, (low![1] - high![1]) / height];
    for (let row = 0; row < height; row++) {
      const x = high![0] + stepX * (row + 0.5), y = high![1] + stepY * (row + 0.5);
      const left = Math.floor(x - 0.5), top = Math.floor(y - 0.5);
      const across = x - 0.5 - left, down = y - 0.5 - top;
      const above = grey(left, top) * (1 - across) + grey(left + 1, top) * across;
      const below = grey(left, top + 1) * (1 - across) + grey(left + 1, top + 1) * across;
      const value = Math.round(above * (1 - down) + below * down);
      pixels[row * width + column] = value;
      if (!inside(Math.floor(x), Math.floor(y))) outside.push(row * width + column);
      else {
        every![value]!++;
        tones[Math.floor(column / height)]![value]!++;
      }
    }
  }
  const paper = medianGrey(every!);
  if (paper === undefined) throw new DataError("its outline encloses nothing");
  const papers = tones.map((counts) => medianGrey(counts) ?? paper);
  for (const place of outside) pixels[place] = papers[Math.floor((place % width) / height)]!;
  return { width, height, pixels };
}

/** Cut lines out of a page, one after the other. Those that cannot be cut give an error. */
export function* cutLines(page: GreyImage, lines: PageLine[], scale: Point): Generator<CutLine | DataError> {
  const scaled = lines.map(({ polygon, baseline }) =>
    [polygon, baseline].map((points) => points.map(([x, y]) => [
      Math.min(Math.max(x * scale[0], 0), page.width), Math.min(Math.max(y * scale[1], 0), page.height)] as const)));
  const heights = scaled.filter(([polygon]) => polygon!.length > 2).map(([polygon]) => heightOf(polygon!));
  const usual = heights.sort((left, right) => left - right)[heights.length >> 1] ?? page.height / 30;
  for (const [polygon, baseline] of scaled)
    try {
      yield cutLine(page, polygon!, baseline!, usual);
    } catch (error) {
      if (!(error instanceof DataError)) throw error;
      yield error;
    }
}

function cutLine(page: GreyImage, polygon: Point[], baseline: Point[], usual: number): CutLine {
  const hasOutline = polygon.length > 2 && enclosedArea(polygon) > MIN_SIZE;
  if (baseline.length < 2) {
    if (!hasOutline) throw new DataError("it has neither an outline nor a baseline on the image");
    const [left, top, right, bottom] = boxOf(polygon); // taken as level
    baseline = [[left, (top + bottom) / 2], [right, (top + bottom) / 2]];
  }
  if (baseline.at(-1)![0] < baseline[0]![0]) baseline = [...baseline].reverse();
  if (!hasOutline) {
    const middle = smoothCurve(baseline, resample(baseline), usual);
    const normals = normalsOf(middle);
    const edge = (by: number): Point[] => middle.map((point, at) => moved(point, normals[at]!, by * usual));
    polygon = [...edge(-ABOVE), ...edge(BELOW).reverse()];
  }
  const outline = trace(polygon);
  const curve = smoothCurve(baseline, outline, heightOf(polygon));
  const { first, last, top, bottom } = project(outline, curve);
  if (bottom - top < MIN_SIZE || (last - first) * STEP < MIN_SIZE) throw new DataError(`it is smaller than ${MIN_SIZE} pixels`);
  const normals = normalsOf(curve);
  const [upper, lower] = [top, bottom].map((by) =>
    curve.slice(first, last + 1).map((point, at) => moved(point, normals[first + at]!, by)));
  const at = (edge: Point[], column: number): Point => {
    const place = Math.min(Math.max(column / STEP, 0), edge.length - 1);
    const from = Math.min(Math.floor(place), edge.length - 2);
    return moved(edge[from]!, subtract(edge[from + 1]!, edge[from]!), place - from);
  };
  return {
    image: straighten(page, polygon, upper!, lower!, Math.round(bottom - top)),
    outline(start, end) {
      const columns = [start];
      for (let column = Math.floor(start / 64 + 1) * 64; column < end; column += 64) columns.push(column);
      columns.push(end);
      return [...columns.map((column) => at(upper!, column)), ...columns.reverse().map((column) => at(lower!, column))];
    },
  };
}
