/** The page: images in, text under them. Everything happens here; nothing is sent. */
import {
  cutLines, DataError, type GreyImage, HtrError, newPage, type PageDocument, type PageLine, parsePage, type Point,
  type Reading, Recognizer, scaleOf, toRecord, toXml, writeLine,
} from "../src/index.js";

const UNCERTAIN = 0.8;

interface Result {
  file: string;
  name: string; // of the line
  image: GreyImage;
  reading: Reading;
}

/** What one image gave, with the PAGE document that its text goes into. */
interface Group {
  file: string;
  page: PageDocument;
  results: Result[];
}

const groups: Group[] = [];
let recognizer: Recognizer | undefined;
let example: Promise<File> | undefined; // loaded at the start, so that it is there without a network

const element = <Kind extends HTMLElement>(id: string): Kind => document.getElementById(id) as Kind;
const percent = (confidence: number): string => `${Math.floor(100 * confidence)} %`;
const say = (text: string): void => void (element("status").textContent = text);

function create<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag, name = "", text = "",
): HTMLElementTagNameMap[Tag] {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}

function complain(text: string): void {
  element("error").textContent = text;
  element("error").hidden = !text;
}

/** Run an action; an error that a user can cure is shown as a sentence. */
async function attempt(action: () => Promise<void>): Promise<void> {
  try {
    complain("");
    await action();
  } catch (error) {
    complain(error instanceof Error ? error.message : String(error));
    if (!(error instanceof HtrError)) console.error(error);
  }
}

function picture({ width, height, pixels }: GreyImage): HTMLCanvasElement {
  const canvas = create("canvas");
  [canvas.width, canvas.height] = [width, height];
  const data = new ImageData(width, height);
  pixels.forEach((grey, at) => data.data.set([grey, grey, grey, 255], 4 * at));
  canvas.getContext("2d")!.putImageData(data, 0, 0);
  canvas.setAttribute("aria-hidden", "true"); // the text follows
  return canvas;
}

/** The characters under their places. One of them can be reached by Tab, the others by arrow keys. */
function characterList({ reading, image }: Result, detail: HTMLElement): HTMLOListElement {
  const list = create("ol");
  list.setAttribute("aria-label", "Characters with their confidence");
  for (const [index, span] of reading.characters.entries()) {
    const item = create("li", span.confidence < UNCERTAIN ? "doubt" : "");
    const words = `${span.text === " " ? "space" : span.text}, ${percent(span.confidence)}${span.confidence < UNCERTAIN ? ", uncertain" : ""}`;
    item.append(create("span", "", span.text));
    item.tabIndex = index ? -1 : 0;
    item.setAttribute("aria-label", words);
    item.style.left = `${(100 * span.start) / image.width}%`;
    item.style.width = `${(100 * (span.end - span.start)) / image.width}%`;
    item.style.setProperty("--confidence", String(span.confidence));
    const show = (): void => void (detail.textContent = `${words}; pixels ${Math.round(span.start)} to ${Math.round(span.end)}`);
    item.addEventListener("focus", show);
    item.addEventListener("mouseenter", show);
    list.append(item);
  }
  list.addEventListener("keydown", (event) => {
    const items = [...list.children] as HTMLElement[];
    const now = items.indexOf(event.target as HTMLElement);
    const to = { ArrowLeft: now - 1, ArrowRight: now + 1, Home: 0, End: items.length - 1 }[event.key];
    if (to === undefined || !items[to]) return;
    event.preventDefault();
    items[now]!.tabIndex = -1;
    items[to].tabIndex = 0;
    items[to].focus();
  });
  return list;
}

function show(result: Result): void {
  const { reading } = result;
  const article = create("article", "line");
  const detail = create("p", "detail");
  const text = create("p", "text", reading.characters.length ? "" : "(no text)");
  for (const span of reading.characters)
    text.append(span.confidence < UNCERTAIN ? create("mark", "", span.text) : span.text);
  const strip = create("div", "strip");
  strip.style.setProperty("--count", String(reading.characters.length));
  strip.append(picture(result.image), characterList(result, detail));
  const scroll = create("div", "scroll");
  scroll.append(strip);
  const title = `${result.file}${result.name ? `, ${result.name}` : ""}: ${percent(reading.confidence)} confidence`;
  article.append(create("h3", "", title), scroll, text, detail);
  element("lines").append(article);
  element("results").hidden = false;
}

/** Read a line, show it, and put it into its document; `outline` gives places on the page. */
async function readLine(
  group: Group, name: string, image: GreyImage, line: PageLine, outline: (start: number, end: number) => Point[],
): Promise<void> {
  const result = { file: group.file, name, image, reading: await recognizer!.read(image) };
  writeLine(line, result.reading, image.width, outline);
  show(result);
  group.results.push(result);
  await new Promise((resolve) => setTimeout(resolve)); // lets the browser draw
}

async function readImage(file: File): Promise<void> {
  const image = await recognizer!.load(file);
  const { width, height } = image;
  if (height >= 500 && width < 3 * height)
    complain(`${file.name} looks like a page, not like a line; give its PAGE or ALTO file with it`);
  const outline = (left: number, right: number): Point[] => [[left, 0], [right, 0], [right, height], [left, height]];
  const page = newPage(file.name, width, height, ["line"]);
  const group = { file: file.name, page, results: [] };
  groups.push(group);
  await readLine(group, "", image, page.lines[0]!, outline);
}

/** Read the lines of a page. Those of ALTO are written as PAGE, in pixels. */
async function readPage(given: PageDocument, file: File): Promise<void> {
  const image = await recognizer!.load(file);
  const ids = given.lines.map(({ id }, index) => id || `line_${index + 1}`);
  const page = given.form === "ALTO" ? newPage(file.name, image.width, image.height, ids) : given;
  const [across, down] = scaleOf(page, image);
  const group = { file: file.name, page, results: [] };
  groups.push(group);
  const failed: string[] = [];
  let index = 0;
  for (const cut of cutLines(image, given.lines, scaleOf(given, image))) {
    const id = ids[index]!;
    const line = page.lines[index++]!;
    say(`Reading line ${index} of ${ids.length}…`);
    if (cut instanceof DataError) failed.push(`${id}: ${cut.message}`);
    else
      await readLine(group, id, cut.image, line, (start, end) =>
        cut.outline(start, end).map(([x, y]) => [x / across, y / down]));
  }
  if (failed.length) complain(`${failed.length} of ${ids.length} lines could not be cut: ${failed.join("; ")}`);
}

const isXml = (file: File): boolean => /\.xml$/i.test(file.name) || /xml$/.test(file.type) && !/svg/.test(file.type);
const stem = (name: string): string => name.replace(/\.[^.]*$/, "").toLowerCase();

/** Read files that belong together: every document finds its image by the name in it, by its own, or as the only one. */
async function readFiles(files: File[]): Promise<void> {
  if (!recognizer || !files.length) return;
  const started = performance.now();
  const before = groups.length;
  const images = files.filter((file) => !isXml(file));
  for (const file of files.filter(isXml)) {
    const page = parsePage(await file.text());
    const image = images.find((one) => stem(one.name) === stem(page.image)) ??
      images.find((one) => stem(one.name) === stem(file.name)) ?? (images.length === 1 ? images[0] : undefined);
    if (!image) throw new DataError(`${file.name} describes ${page.image}; give that image together with it`);
    images.splice(images.indexOf(image), 1);
    await readPage(page, image);
  }
  for (const image of images) await readImage(image);
  const results = groups.slice(before).flatMap((group) => group.results);
  const doubts = results.flatMap(({ reading }) => reading.characters).filter((span) => span.confidence < UNCERTAIN).length;
  const took = Math.round(performance.now() - started);
  say(`Read ${results.length} line${results.length === 1 ? "" : "s"} in ${took} ms; ${doubts} uncertain character${doubts === 1 ? "" : "s"}.`);
}

const allText = (): string => groups.flatMap((group) => group.results.map(({ reading }) => reading.text)).join("\n");

function save(content: string, name: string, type: string): void {
  const link = create("a");
  link.href = URL.createObjectURL(new Blob([content], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const records = (): object[] => groups.flatMap(({ file, results }) =>
  results.map(({ name, reading }) => ({ file, page: 0, ...(name && { line: name }), ...toRecord(reading) })));

const ACTIONS: Record<string, () => Promise<void>> = {
  paste: async () => {
    const items = await navigator.clipboard.read().catch(() => {
      throw new DataError("the browser does not let this page look at the clipboard; press Ctrl+V");
    });
    const blobs = items.flatMap((item) => item.types.filter((type) => type.startsWith("image/")).map((type) => item.getType(type)));
    if (!blobs.length) throw new DataError("the clipboard holds no image; copy one first");
    await readFiles((await Promise.all(blobs)).map((blob) => new File([blob], "pasted image", { type: blob.type })));
  },
  example: async () => readFiles([await example!]),
  copy: async () => {
    await navigator.clipboard.writeText(allText());
    say("Copied.");
  },
  "save-text": async () => save(`${allText()}\n`, "text.txt", "text/plain"),
  "save-json": async () => save(records().map((record) => `${JSON.stringify(record)}\n`).join(""), "text.jsonl", "application/json"),
  "save-page": async () => {
    for (const { file, page } of groups) save(toXml(page), `${file.replace(/\.[^.]*$/, "")}.xml`, "application/xml");
  },
  clear: async () => {
    groups.length = 0;
    element("lines").replaceChildren();
    element("results").hidden = true;
    say("Ready.");
    element("files").focus();
  },
  test: async () => {
    element("checks").replaceChildren();
    for await (const { passed, detail } of recognizer!.selfTest())
      element("checks").append(create("li", "", `${passed ? "✓" : "✗"} ${detail}`));
  },
};

/** Let files in by every door. */
function listen(): void {
  for (const [id, action] of Object.entries(ACTIONS)) element(id).addEventListener("click", () => void attempt(action));
  const take = (files: FileList | null | undefined): void => {
    if (files?.length) void attempt(() => readFiles([...files]));
  };
  for (const id of ["files", "camera"]) {
    const input = element<HTMLInputElement>(id);
    input.addEventListener("change", () => {
      take(input.files);
      input.value = "";
    });
  }
  document.addEventListener("paste", (event) => take(event.clipboardData?.files));
  for (const kind of ["dragover", "dragleave", "drop"] as const)
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      element("drop").classList.toggle("over", kind === "dragover");
      if (kind === "drop") take(event.dataTransfer?.files);
    });
}

/** Install the service worker. The first visit loads once more, so that the worker sets the headers that threads need. */
async function workOffline(): Promise<void> {
  const worker = navigator.serviceWorker as ServiceWorkerContainer | undefined; // only on https and localhost
  if (!worker) return;
  const controlled = worker.controller ? undefined
    : new Promise((resolve) => worker.addEventListener("controllerchange", resolve, { once: true }));
  try {
    await worker.register("sw.js");
  } catch (error) {
    console.warn(error); // a private window may have none: then it reads with one thread, and only with a network
    return;
  }
  await controlled;
  if (crossOriginIsolated || sessionStorage.getItem("reloaded")) return;
  sessionStorage.setItem("reloaded", "yes");
  location.reload();
  await new Promise(() => undefined); // the page goes
}

async function start(): Promise<void> {
  const buttons = [...document.querySelectorAll<HTMLButtonElement | HTMLInputElement>("button, input")];
  for (const button of buttons) button.disabled = true;
  await workOffline();
  const files = new Map<string, [loaded: number, total: number]>();
  const progress = element<HTMLProgressElement>("progress");
  recognizer = await Recognizer.open("bundle/", {
    progress(file, loaded, total) {
      files.set(file, [loaded, total]);
      const [done, all] = [...files.values()].reduce(([a, b], [c, d]) => [a + c, b + d], [0, 0]);
      progress.value = all ? done / all : 0;
      element("loaded").textContent = `${(done / 1e6).toFixed(1)} of ${(all / 1e6).toFixed(1)} MB`;
    },
  });
  const { bundle } = recognizer;
  const name = bundle.manifest.golden[0]!.image;
  example = bundle.content(name).then((content) => new File([content], name.split("/").at(-1)!));
  await example;
  element("download").hidden = true;
  element("selection").textContent = recognizer.selection;
  for (const button of buttons) button.disabled = false;
  say("Ready.");
}

listen();
void attempt(start);
