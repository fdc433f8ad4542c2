"""A web server on this machine, and a Chromium that visits it."""

from __future__ import annotations

import contextlib
import functools
import http.server
import threading
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ISOLATED = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}


class _Handler(http.server.SimpleHTTPRequestHandler):
    extensions_map = {  # noqa: RUF012 - as the base class has it
        **http.server.SimpleHTTPRequestHandler.extensions_map,
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def __init__(self, *arguments, folders, headers, **options):
        self.folders, self.extra = folders, headers
        super().__init__(*arguments, **options)

    def translate_path(self, path):
        first, _, rest = unquote(path.split("?")[0]).lstrip("/").partition("/")
        if first in self.folders:
            return str(self.folders[first] / rest)
        return str(self.folders[""] / first / rest) if "" in self.folders else str(self.folders["lib"] / "none")

    def end_headers(self):
        for name, value in self.extra.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serve(folders: dict[str, Path], headers: dict[str, str] = ISOLATED) -> Iterator[str]:
    """Serve folders by the first part of the path, "" for all others; gives the address."""
    handler = functools.partial(_Handler, folders=folders, headers=headers)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://localhost:{server.server_address[1]}/"
        server.shutdown()
