/** PAGE and ALTO documents: where their lines are, and PAGE written with what was read. */
import { DataError, type GreyImage, type Reading } from "./types.js";

export type Point = readonly [number, number];

export interface PageLine {
  id: string;
  polygon: Point[]; // in the document's own units; none if it has none
  baseline: Point[];
  element: Element;
}

export interface PageDocument {
  xml: Document;
  form: "PAGE" | "ALTO";
  image: string; // name of the image file
  width: number; // 0 where it is not given
  height: number;
  lines: PageLine[]; // in reading order
}

const PAGE_2019 = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15";

const all = (node: Document | Element, name: string): Element[] => [...node.getElementsByTagNameNS("*", name)];
const children = (node: Element, name: string): Element[] => [...node.children].filter((one) => one.localName === name);
const numberOf = (node: Element, name: string): number => Number.parseFloat(node.getAttribute(name) ?? "") || 0;
const baseName = (path: string): string => path.trim().split(/[\\/]/).at(-1)!;

function pointsOf(text: string | null | undefined): Point[] {
  const numbers = (text ?? "").match(/[-+]?(?:\d+\.?\d*|\.\d+)/g)?.map(Number) ?? [];
  return Array.from({ length: numbers.length >> 1 }, (_, at) => [numbers[2 * at]!, numbers[2 * at + 1]!] as const);
}

function pageLine(element: Element): PageLine {
  const points = (name: string): Point[] => pointsOf(children(element, name)[0]?.getAttribute("points"));
  return { id: element.id, polygon: points("Coords"), baseline: points("Baseline"), element };
}

function altoLine(element: Element): PageLine {
  const [left, top] = [numberOf(element, "HPOS"), numberOf(element, "VPOS")];
  const [right, bottom] = [left + numberOf(element, "WIDTH"), top + numberOf(element, "HEIGHT")];
  let polygon = pointsOf(all(element, "Polygon")[0]?.getAttribute("POINTS"));
  if (polygon.length < 3 && right > left && bottom > top)
    polygon = [[left, top], [right, top], [right, bottom], [left, bottom]];
  const text = element.getAttribute("BASELINE") ?? "";
  const level = Number(text); // before version 4 it is the height of a level baseline
  const baseline: Point[] = text.trim() && level ? [[left, level], [right, level]] : pointsOf(text);
  return { id: element.getAttribute("ID") ?? "", polygon, baseline, element };
}

/** Sort lines by their region's place in PAGE's reading order; regions that it leaves out follow. */
function inReadingOrder(page: Element, lines: PageLine[]): PageLine[] {
  const references = all(page, "ReadingOrder").flatMap((order) => all(order, "RegionRefIndexed"))
    .sort((left, right) => (left.parentNode === right.parentNode ? numberOf(left, "index") - numberOf(right, "index") : 0))
    .map((reference) => reference.getAttribute("regionRef"));
  const rank = ({ element }: PageLine): number => {
    for (let region = element.parentElement; region; region = region.parentElement)
      if (references.includes(region.id)) return references.indexOf(region.id);
    return references.length;
  };
  return lines.map((line) => [rank(line), line] as const).sort(([left], [right]) => left - right).map(([, line]) => line);
}

/** Read the first page of a PAGE or ALTO document. Throws DataError. */
export function parsePage(text: string): PageDocument {
  if (/<!DOCTYPE/i.test(text)) throw new DataError("the document declares a document type, which no PAGE or ALTO needs; remove it");
  const xml = new DOMParser().parseFromString(text, "application/xml");
  if (all(xml, "parsererror").length) throw new DataError("the document is damaged XML; export it again");
  const page = all(xml, "Page")[0];
  const root = xml.documentElement.localName;
  if (!page || (root !== "PcGts" && root !== "alto"))
    throw new DataError(`the document is neither PAGE nor ALTO: its root element is <${root}>`);
  const elements = all(page, "TextLine");
  if (root === "alto") {
    const image = baseName(all(xml, "fileName")[0]?.textContent ?? "");
    const [width, height] = [numberOf(page, "WIDTH"), numberOf(page, "HEIGHT")];
    return { xml, form: "ALTO", image, width, height, lines: elements.map(altoLine) };
  }
  const [width, height] = [numberOf(page, "imageWidth"), numberOf(page, "imageHeight")];
  const lines = inReadingOrder(page, elements.map(pageLine));
  return { xml, form: "PAGE", image: baseName(page.getAttribute("imageFilename") ?? ""), width, height, lines };
}

/** Pixels of the image by a unit of the document, across and down. Throws DataError if they do not belong together. */
export function scaleOf(document: PageDocument, image: GreyImage): Point {
  if (!document.width || !document.height) return [1, 1];
  const scale = [image.width / document.width, image.height / document.height] as const;
  if (Math.abs(scale[0] / scale[1] - 1) > 0.03)
    throw new DataError(`the page is ${document.width} x ${document.height}, but its image ${image.width} x ${image.height}: another picture`);
  return scale;
}

/** Make a PAGE document of lines that have neither text nor outlines yet. */
export function newPage(image: string, width: number, height: number, ids: string[]): PageDocument {
  const xml = document.implementation.createDocument(PAGE_2019, "PcGts");
  const add = (parent: Element, name: string, attributes: Record<string, string> = {}): Element => {
    const element = parent.appendChild(xml.createElementNS(PAGE_2019, name));
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const metadata = add(xml.documentElement, "Metadata");
  add(metadata, "Creator").textContent = "htr-web";
  for (const name of ["Created", "LastChange"]) add(metadata, name).textContent = new Date().toISOString();
  const page = add(xml.documentElement, "Page", {
    imageFilename: image, imageWidth: String(width), imageHeight: String(height) });
  const region = add(page, "TextRegion", { id: "region" });
  add(region, "Coords", { points: pointsText([[0, 0], [width, 0], [width, height], [0, height]]) });
  for (const id of ids) add(region, "TextLine", { id });
  return parsePage(new XMLSerializer().serializeToString(xml));
}

const pointsText = (points: Point[]): string =>
  points.map(([x, y]) => `${Math.max(0, Math.round(x))},${Math.max(0, Math.round(y))}`).join(" ");

/**
 * Put a reading into a line of PAGE, with words, in place of its text. `outline` gives the columns of the line's image, of
 * which there are `width`, in the document's units.
 */
export function writeLine(
  line: PageLine, reading: Reading, width: number, outline: (start: number, end: number) => Point[],
): void {
  const { element } = line;
  const { ownerDocument: xml, namespaceURI } = element;
  const create = (name: string): Element => xml.createElementNS(namespaceURI, name);
  const equivalent = (text: string, confidence: number): Element => {
    const made = create("TextEquiv");
    made.setAttribute("conf", confidence.toFixed(4));
    made.appendChild(create("Unicode")).textContent = text.replace(/[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]/g, "\ufffd");
    return made;
  };
  const coords = (start: number, end: number): Element => {
    const made = create("Coords");
    made.setAttribute("points", pointsText(outline(start, end)));
    return made;
  };
  if (!children(element, "Coords").length) element.prepend(coords(0, width));
  for (const old of [...children(element, "TextEquiv"), ...children(element, "Word")]) old.remove();
  const words = reading.words.map((word, index) => {
    const made = create("Word");
    made.setAttribute("id", `${line.id || "line"}_w${index + 1}`);
    made.append(coords(word.start, word.end), equivalent(word.text, word.confidence));
    return made;
  });
  const before = [...element.children].find((one) => !["AlternativeImage", "Coords", "Baseline"].includes(one.localName));
  for (const made of [...words, equivalent(reading.text, reading.confidence)]) element.insertBefore(made, before ?? null);
}

export const toXml = ({ xml }: PageDocument): string => {
  const text = new XMLSerializer().serializeToString(xml);
  return text.startsWith("<?xml") ? text : `<?xml version="1.0" encoding="UTF-8"?>\n${text}\n`;
};
