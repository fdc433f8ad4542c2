"""The reader for the browser beside ONNX Runtime's native library: time a line, time until the first one, sizes.

    python benchmarks/web.py demo-output/demo.htr training/demo/lines -o benchmarks/results/web.json

A line goes from the file's content to its reading in both. They take turns, so that both see the same load; the least
of all times counts. CPU time is that of the page's thread and of the native process, and depends less on what else the
machine does. Needs `make web-page`, the extra `web` and a Chromium.
"""

from __future__ import annotations

import contextlib
import http.server
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from htr_engines import Recognizer
from htr_export.reporting import document, write_document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import CDPSession, Page

LIBRARY = Path(__file__).parents[1] / "engines" / "web" / "dist"
UNITS = {"line_seconds": "s", "line_cpu_seconds": "s", "open_seconds": "s", "bytes": "B"}
OPEN = """async (threads) => {
    const { Recognizer } = await import("/lib/index.js");
    const start = performance.now();
    globalThis.recognizer = await Recognizer.open("/bundle/", { engine: "wasm", threads });
    globalThis.files = new Map();
    return (performance.now() - start) / 1000;
}"""
READ = """async (name) => {
    if (!files.has(name)) files.set(name, new Uint8Array(await (await fetch(`/lines/${name}`)).arrayBuffer()));
    const start = performance.now();
    const { text } = await recognizer.read(files.get(name));
    return [(performance.now() - start) / 1000, text];
}"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves with the headers that threads need."""

    def end_headers(self) -> None:
        """Add the headers."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@click.command()
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("lines", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=20, show_default=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="JSON file to write.")
def main(bundle: Path, lines: Path, threads: int, rounds: int, output: Path) -> None:
    """Measure both with BUNDLE on the images of LINES."""
    images = sorted(lines.glob("*.png"))
    with _page(bundle.resolve(), lines.resolve()) as page:
        start = page.evaluate(OPEN, threads)
        with Recognizer(bundle, engine="onnxruntime", threads=threads) as native:
            found, model = _in_turns(page, native, images, rounds), native.selection.candidate.model
        browser = page.context.browser
        content: dict[str, Any] = {
            "model": model.file.name,
            "threads": threads,
            "rounds": rounds,
            "lines": len(images),
            "browser": {**found["browser"], "open_seconds": start, "version": browser.version if browser else None},
            "native": found["native"],
            "bytes": {
                "model": model.file.stat().st_size,
                "runtime": (LIBRARY / "ort" / "ort-wasm-simd-threaded.wasm").stat().st_size,
                "library": sum(path.stat().st_size for path in LIBRARY.glob("*.js") if "jspi" not in path.name),
            },
        }
    write_document(output, document("htr-bench web", content, units=UNITS))
    for name, figures in found.items():
        click.echo(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in figures.items()))


def _in_turns(page: Page, native: Recognizer, images: list[Path], rounds: int) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, list[float]]] = {name: {"line": [], "line_cpu": []} for name in ("browser", "native")}
    contents = {path: path.read_bytes() for path in images}
    thread = page.context.new_cdp_session(page)
    thread.send("Performance.enable")
    for _ in range(rounds):
        before = _thread_seconds(thread)
        read = [page.evaluate(READ, path.name) for path in images]
        found["browser"]["line_cpu"].append((_thread_seconds(thread) - before) / len(images))
        found["browser"]["line"] += [one for one, _ in read]
        texts = []
        before = time.process_time()
        for content in contents.values():
            start = time.perf_counter()
            texts.append(native.read(content).text)
            found["native"]["line"].append(time.perf_counter() - start)
        found["native"]["line_cpu"].append((time.process_time() - before) / len(images))
        if texts != [text for _, text in read]:
            raise click.ClickException("the browser reads other text; run its self-test")
    return {name: {f"{key}_seconds": min(all_) for key, all_ in one.items()} for name, one in found.items()}


def _thread_seconds(thread: CDPSession) -> float:
    """Return the CPU time of the page's thread so far."""
    metrics = thread.send("Performance.getMetrics")["metrics"]
    return next(float(metric["value"]) for metric in metrics if metric["name"] == "ThreadTime")


@contextlib.contextmanager
def _page(bundle: Path, lines: Path) -> Iterator[Page]:
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None or not (LIBRARY / "index.js").exists():
        raise click.ClickException("this needs a Chromium, and 'make web-page' before")
    from playwright.sync_api import sync_playwright  # with the extra web, which nothing else needs

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        for name, target in (("lib", LIBRARY), ("bundle", bundle), ("lines", lines)):
            (Path(folder) / name).symlink_to(target)
        (Path(folder) / "index.html").touch()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), lambda *a: Handler(*a, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://localhost:{server.server_address[1]}/")
        yield page
        browser.close()
        server.shutdown()


if __name__ == "__main__":
    main()
