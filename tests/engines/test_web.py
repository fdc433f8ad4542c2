"""The reader for the browser, in a Chromium that is installed: what it reads, and its page as a person uses it."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from helpers.image_kinds import drawn
from helpers.web import serve
from PIL import Image

from htr_engines import Recognizer
from htr_engines.preprocess import Preprocessing, fit_line, load_pages

playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra 'web'")

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "engines" / "web" / "dist"
PAGE = ROOT / "htr_export" / "page"
DEMO = ROOT / "training" / "demo"
CHROMIUM = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
ARTEFACTS = Path(os.environ.get("HTR_ARTEFACTS", ROOT / "build" / "web"))  # screenshots
IMAGES = 240
SPEC = Preprocessing(256, 64)
CMYK = 4  # grey levels: the browser turns four inks into three colours in its own way
pytestmark = [
    pytest.mark.skipif(not (LIBRARY / "index.js").exists(), reason="engines/web is not built; run 'make web-page'"),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
OPEN = """async (options) => {
    const { Recognizer, toRecord } = await import("/lib/index.js");
    globalThis.toRecord = toRecord;
    globalThis.recognizer = await Recognizer.open("/bundle/", options);
    return [crossOriginIsolated, recognizer.selection];
}"""


@pytest.fixture(scope="session")
def demo(exports) -> Path:
    """A bundle of the demo network in FP32 and INT8."""
    path = exports / "demo.htr"
    if not path.exists():
        pytest.importorskip("torch", reason="needs the extra 'export'")
        from htr_engines.lines import read_lines
        from htr_export.bundle.writer import write_bundle
        from htr_export.model import load_any
        from htr_export.onnx.export import OnnxOptions, export_onnx
        from htr_export.precision.precision_map import PrecisionMap

        model = load_any(DEMO / "demo.pth")
        lines = read_lines(DEMO / "lines", DEMO / "demo.ln")
        files = [exports / f"demo.{precision}.onnx" for precision in ("fp32", "int8")]
        for file, precision in zip(files, ("fp32", "int8"), strict=True):
            export_onnx(model, file, OnnxOptions(precision_map=PrecisionMap(precision)), lines=lines)
        write_bundle(files, path)
    return path


def only(model: str, bundle: Path, copy: Path) -> Path:
    """Copy a bundle without its other models."""
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["models"] = [entry for entry in manifest["models"] if entry["file"] == model]
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return copy


@pytest.fixture(scope="module")  # its event loop must not meet that of other tests
def chromium():
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def images(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("kinds")
    for number in range(IMAGES):
        name, content = drawn(number)
        if not name.endswith(".tif"):
            (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def tab(chromium, demo, images, tmp_path):
    """An empty page that can import the library."""
    (tmp_path / "index.html").write_text("<!doctype html><title>test</title>", encoding="utf-8")
    folders = {"": tmp_path, "lib": LIBRARY, "bundle": demo, "images": images, "lines": DEMO / "lines"}
    with serve(folders) as address:
        page = chromium.new_page()
        page.goto(address)
        yield page
        page.close()


@pytest.mark.parametrize(
    ("threads", "model"), [(1, "demo.fp32.onnx"), (2, "demo.fp32.onnx"), (1, "demo.int8.onnx"), (2, "demo.int8.onnx")]
)
def test_the_self_test_passes_and_lines_read_as_in_python(tab, demo, tmp_path, threads, model):
    assert tab.evaluate(OPEN, {"threads": threads, "model": model})[0]
    checks = tab.evaluate("async () => (await Array.fromAsync(recognizer.selfTest()))")
    vectors = json.loads((demo / "manifest.json").read_text(encoding="utf-8"))["preprocessing_vectors"]["images"]
    assert [check["detail"] for check in checks if not check["passed"]] == []
    assert checks[0]["detail"] == f"preprocessing: {len(vectors)} of {len(vectors)} images match"
    assert len(checks) > 3
    paths = sorted((DEMO / "lines").glob("*.png"))
    found = tab.evaluate(
        """(names) => names.reduce(async (all, name) => [...await all, toRecord(await recognizer.read(
               await (await fetch(`/lines/${name}`)).blob()))], [])""",
        [path.name for path in paths],
    )
    with Recognizer(only(model, demo, tmp_path / "bundle"), engine="onnxruntime") as recognizer:
        expected = [recognizer.read(path).to_dict() for path in paths]
    if "int8" in model:  # a step of the quantization may fall to either side
        same = [record["text"] == other["text"] for record, other in zip(found, expected, strict=True)]
        assert sum(same) >= len(paths) - 2
        return
    assert [record["text"] for record in found] == [record["text"] for record in expected]
    for record, other in zip(found, expected, strict=True):
        for kind in ("words", "characters"):
            for span, wanted in zip(record[kind], other[kind], strict=True):
                assert span["text"] == wanted["text"]
                assert (span["start"], span["end"]) == (wanted["start"], wanted["end"])
                assert span["confidence"] == pytest.approx(wanted["confidence"], abs=1e-3)


@pytest.mark.parametrize("alpha", ["white", "ignore"])
def test_tensors_are_equal_bit_for_bit(tab, images, alpha):
    paths = sorted(images.iterdir())
    assert len(paths) > 200
    sizes, encoded = tab.evaluate(
        """async ({ names, spec }) => {
            const { loadImage, fitLine } = await import("/lib/index.js");
            const sizes = [];
            const tensors = new Uint8Array(names.length * spec.height * spec.width);
            for (const [index, name] of names.entries()) {
                const content = new Uint8Array(await (await fetch(`/images/${name}`)).arrayBuffer());
                const image = await loadImage(content, spec.alpha);
                sizes.push([image.height, image.width]);
                tensors.set(fitLine(image, spec), index * spec.height * spec.width);
            }
            const reader = new FileReader();
            await new Promise((done) => { reader.onload = done; reader.readAsDataURL(new Blob([tensors])); });
            return [sizes, reader.result.split(",")[1]];
        }""",
        {"names": [path.name for path in paths], "spec": {"width": SPEC.width, "height": SPEC.height, "alpha": alpha}},
    )
    different = {}
    found_NHW = np.frombuffer(base64.b64decode(encoded), np.uint8).reshape(-1, SPEC.height, SPEC.width)
    for path, size, tensor_HW in zip(paths, sizes, found_NHW, strict=True):
        grey_HW = load_pages(path, alpha)[0]
        assert tuple(size) == grey_HW.shape
        expected_HW = np.rint(255 * fit_line(grey_HW, SPEC)[0])
        difference = np.abs(tensor_HW - expected_HW).max()
        with Image.open(path) as image:
            if difference > (CMYK if image.mode == "CMYK" else 0):
                different[path.name] = difference
    assert different == {}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("model", "demo.fp32.onnx was changed after the bundle was written"),
        ("version", "has schema version 99"),
        ("outside", "which is outside of the bundle"),
        ("none", "HTTP 404"),
    ],
)
def test_bundles_that_were_changed_are_refused(chromium, demo, tmp_path, damage, message):
    copy = tmp_path / "bundle"
    shutil.copytree(demo, copy)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    if damage == "model":
        with (copy / "demo.fp32.onnx").open("r+b") as file:
            file.write(b"\x00")
    elif damage == "version":
        manifest["schema_version"] = 99
    elif damage == "outside":
        name = "../evil.onnx"
        manifest["files"][name] = {"sha256": "0" * 64, "bytes": 1}
        manifest["models"] = [{**manifest["models"][0], "file": name}]
    if damage == "none":
        (copy / "manifest.json").unlink()
    else:
        (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with serve({"": tmp_path, "lib": LIBRARY}) as address:
        page = chromium.new_page()
        page.goto(f"{address}bundle/")
        with pytest.raises(playwright.Error, match=f"BundleError: .*{message}"):
            page.evaluate(OPEN, {} if damage == "outside" else {"model": "demo.fp32.onnx"})
        page.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "is damaged"),
        (b"\xff\xd8\xff\xe0nonsense", "damaged or of a kind"),
        (b"II*\0" + b"\0" * 40, "damaged or of a kind"),
    ],
)
def test_what_is_no_image_is_refused(tab, content, message):
    with pytest.raises(playwright.Error, match=f"ImageError: .*{message}"):
        tab.evaluate(
            """async (text) => (await import("/lib/index.js")).loadImage(
                   Uint8Array.from(atob(text), (one) => one.charCodeAt(0)), "white")""",
            base64.b64encode(content).decode(),
        )


@pytest.fixture(scope="session")
def exact(demo, tmp_path_factory) -> Path:
    """The bundle with FP32 alone, which reads the same everywhere."""
    return only("demo.fp32.onnx", demo, tmp_path_factory.mktemp("exact") / "demo.htr")


@pytest.fixture(scope="session")
def site(exact, tmp_path_factory) -> Path:
    from htr_export.site import write_site

    folder = tmp_path_factory.mktemp("site") / "demo"
    write_site(exact, folder)
    write_site(exact, folder)  # an older one is replaced
    return folder


@pytest.fixture
def visit(chromium, site):
    """The page, opened from a plain server that sets no header, and all addresses that it asked for."""
    with serve({"": site}, {}) as address:
        context = chromium.new_context(permissions=["clipboard-read", "clipboard-write"], accept_downloads=True)
        page = context.new_page()
        errors, asked = [], []
        page.on("pageerror", lambda error: errors.append(error))  # noqa: PLW0108 - it asks for the signature
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        ready(page)
        yield page
        assert errors == []
        assert [url for url in asked if not url.startswith((address, f"blob:{address}"))] == []
        context.close()


def ready(page):
    page.locator("#status", has_text="Ready.").wait_for(timeout=60_000)


def read(page):
    """Wait until what was given is read; return its lines."""
    page.locator("#status", has_text="uncertain").wait_for(timeout=60_000)
    return page.locator("#lines .text").all_inner_texts()


def screenshot(page, name):
    ARTEFACTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=ARTEFACTS / f"{name}.png", full_page=True)


def download(page, button) -> str:
    with page.expect_download() as caught:
        page.get_by_role("button", name=button).click()
    return Path(caught.value.path()).read_text(encoding="utf-8")


def saved_page(page) -> ET.Element:
    return ET.fromstring(download(page, "Save PAGE"))  # noqa: S314 - our own


DROP = """([name, text]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(atob(text), (one) => one.charCodeAt(0))], name));
    const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
    for (const kind of ["dragover", "drop"])
        document.getElementById("drop").dispatchEvent(new DragEvent(kind, options));
}"""


def test_a_line_is_dropped_read_and_taken_along(visit):
    path = DEMO / "lines" / "demo-000000.png"
    text = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
    assert visit.evaluate("crossOriginIsolated")  # by the service worker
    visit.evaluate(DROP, [path.name, base64.b64encode(path.read_bytes()).decode()])
    assert read(visit) == [text]
    visit.get_by_role("button", name="Copy text").click()
    visit.locator("#status", has_text="Copied").wait_for()
    assert visit.evaluate("navigator.clipboard.readText()") == text
    assert download(visit, "Save text") == f"{text}\n"
    record = json.loads(download(visit, "Save JSON"))
    assert (record["file"], record["text"]) == (path.name, text)
    assert len(record["characters"]) == len(text)
    page = saved_page(visit)
    assert [one.text for one in page.iterfind(".//{*}TextLine/{*}TextEquiv/{*}Unicode")] == [text]
    assert len(page.findall(".//{*}Word")) == len(text.split())
    screenshot(visit, "line")


def test_the_keyboard_goes_from_character_to_character(visit):
    visit.get_by_role("button", name="Try an example").press("Enter")
    (text,) = read(visit)
    items = visit.get_by_role("listitem").filter(has=visit.locator("span"))
    items.first.focus()
    visit.keyboard.press("ArrowRight")
    focused = visit.evaluate("document.activeElement.getAttribute('aria-label')")
    assert focused.startswith(f"{text[1] if text[1] != ' ' else 'space'}, ")
    assert focused.split("; ")[0] in visit.locator(".detail").inner_text()
    visit.keyboard.press("End")
    assert visit.evaluate("document.activeElement.nextElementSibling === null")


def test_an_image_is_pasted(visit):
    path = DEMO / "lines" / "demo-000001.png"
    visit.evaluate(
        """async (text) => navigator.clipboard.write([new ClipboardItem({ "image/png": new Blob(
               [Uint8Array.from(atob(text), (one) => one.charCodeAt(0))], { type: "image/png" }) })])""",
        base64.b64encode(path.read_bytes()).decode(),
    )
    visit.get_by_role("button", name="Paste").click()
    assert read(visit) == [path.with_suffix(".txt").read_text(encoding="utf-8").strip()]


def test_it_works_without_a_network_after_the_first_visit(visit):
    visit.context.set_offline(True)
    visit.reload()
    ready(visit)
    visit.get_by_role("button", name="Try an example").click()
    assert len(read(visit)) == 1


def test_a_new_version_takes_the_place_of_the_old_one(chromium, site, tmp_path):
    copy = tmp_path / "site"
    shutil.copytree(site, copy)
    with serve({"": copy}, {"Cache-Control": "max-age=3600"}) as address:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(address)
        ready(page)
        for name, old, new in (("sw.js", r"htr-[0-9a-f]{16}", "htr-new"), ("index.html", "<title>", "<title>Always ")):
            changed, count = re.subn(old, new, (copy / name).read_text(encoding="utf-8"))
            assert count == 1
            (copy / name).write_text(changed, encoding="utf-8")
        page.evaluate("navigator.serviceWorker.getRegistration().then((one) => one.update())")
        page.wait_for_function("caches.keys().then((names) => names.every((name) => name === 'htr-new'))")
        other = context.new_page()  # to load again would pass by the browser's own cache
        other.goto(address)
        ready(other)
        assert other.title().startswith("Always ")
        context.close()


def test_it_fits_a_phone_in_the_dark(visit):
    visit.set_viewport_size({"width": 360, "height": 740})
    visit.emulate_media(color_scheme="dark")
    visit.get_by_role("button", name="Try an example").click()
    read(visit)
    assert visit.evaluate("document.documentElement.scrollWidth <= 360")
    assert visit.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(251, 250, 247)"
    screenshot(visit, "phone-dark")


def test_what_cannot_be_read_is_said_and_the_page_goes_on(visit, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    visit.set_input_files("#files", tmp_path / "broken.png")
    visit.get_by_role("alert").filter(has_text="damaged").wait_for()
    visit.get_by_role("button", name="Try an example").click()
    assert len(read(visit)) == 1
    assert not visit.get_by_role("alert").is_visible()


PAGE_XML = """<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2013-07-15">
<Page imageFilename="scan.png" imageWidth="{width}" imageHeight="{height}"><ReadingOrder><OrderedGroup id="g">
<RegionRefIndexed index="1" regionRef="r0"/><RegionRefIndexed index="0" regionRef="r1"/>
</OrderedGroup></ReadingOrder>{lines}</Page></PcGts>"""
PAGE_LINE = """<TextRegion id="r{region}"><TextLine id="l{index}">
<Coords points="{polygon}"/><Baseline points="{baseline}"/>
<TextEquiv><Unicode>old</Unicode></TextEquiv></TextLine></TextRegion>"""
ALTO_XML = """<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#"><Layout><Page WIDTH="{width}" HEIGHT="{height}"
><PrintSpace><TextBlock>{lines}</TextBlock></PrintSpace></Page></Layout></alto>"""
ALTO_LINE = """<TextLine ID="l{index}" HPOS="{left}" VPOS="{top}" WIDTH="256" HEIGHT="64" BASELINE="{baseline}"/>"""


@pytest.fixture(scope="session")
def scan(tmp_path_factory) -> Path:
    """A page of four demo lines, with PAGE (at half the scale, the second pair first) and ALTO."""
    folder = tmp_path_factory.mktemp("scan")
    page = Image.new("L", (700, 400), 240)
    facts = []
    for index, path in enumerate(sorted((DEMO / "lines").glob("*.png"))[:4]):
        left, top = 40 + 330 * (index % 2), 50 + 150 * (index // 2)
        with Image.open(path) as line:
            page.paste(line.convert("L"), (left, top))
        facts.append((index, left, top))
    page.save(folder / "scan.png")
    for name, template, row, scale in (("page", PAGE_XML, PAGE_LINE, 2), ("alto", ALTO_XML, ALTO_LINE, 1)):
        rows = []
        for index, left, top in facts:
            corners = [(left, top), (left + 256, top), (left + 256, top + 64), (left, top + 64)]
            write = lambda points, by=scale: " ".join(f"{x / by:g},{y / by:g}" for x, y in points)  # noqa: E731
            baseline = write([(left, top + 45), (left + 256, top + 45)])
            rows.append(
                row.format(
                    index=index, region=index // 2, left=left, top=top, polygon=write(corners), baseline=baseline
                )
            )
        content = template.format(width=700 // scale, height=400 // scale, lines="".join(rows))
        (folder / name).mkdir()
        shutil.copy(folder / "scan.png", folder / name)
        (folder / name / "scan.xml").write_text(content, encoding="utf-8")
    return folder


@pytest.mark.parametrize("form", ["page", "alto"])
def test_a_page_is_read_line_by_line_as_in_python(visit, exact, scan, form):
    pytest.importorskip("lxml", reason="needs the extra 'pages'")
    visit.set_input_files("#files", [scan / form / "scan.png", scan / form / "scan.xml"])
    found = read(visit)
    screenshot(visit, f"page-{form}")
    with Recognizer(exact, engine="onnxruntime") as recognizer:
        (page,) = recognizer.read_page(scan / form / "scan.xml")
    assert found == page.text.splitlines()
    assert len(found) == 4
    document = saved_page(visit)
    written = document.findall(".//{*}TextLine")
    assert sorted(one.findtext("{*}TextEquiv/{*}Unicode") for one in written) == sorted(found)
    points = written[0].find("{*}Word/{*}Coords").get("points")
    x, y = map(int, points.split()[0].split(","))
    scale = 2 if form == "page" else 1
    assert 40 <= x * scale <= 40 + 256
    assert abs(y * scale - 50) <= 4


def test_a_document_of_another_picture_is_refused(visit, scan, tmp_path):
    Image.new("L", (300, 900), 255).save(tmp_path / "scan.png")
    visit.set_input_files("#files", [tmp_path / "scan.png", scan / "page" / "scan.xml"])
    visit.get_by_role("alert").filter(has_text="another picture").wait_for()
    visit.set_input_files("#files", [scan / "page" / "scan.xml"])
    visit.get_by_role("alert").filter(has_text="give that image together with it").wait_for()
