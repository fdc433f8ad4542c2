"""A server that speaks as much of the Hub's protocol as downloads need."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMIT = hashlib.sha1(b"main").hexdigest()  # noqa: S324 - what a commit looks like


class Handler(BaseHTTPRequestHandler):
    """Serves the folders ``OWNER/REPO`` below ``root``; the revision is ``main``."""

    root: Path

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self.api("/".join(parts[2:4]), parts[4:], body=body)
        elif len(parts) < 5:
            self.fail(404, "EntryNotFound")
        else:
            self.file("/".join(parts[:2]), parts[3], "/".join(parts[4:]), body=body)

    def api(self, repo: str, rest: list[str], *, body: bool) -> None:
        folder = self.root / repo
        if not folder.is_dir():
            return self.fail(401, "RepoNotFound")
        if len(rest) > 1 and rest[1] not in {"main", COMMIT}:
            return self.fail(404, "RevisionNotFound")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        if rest and rest[0] == "tree":
            tree = [
                {
                    "type": "file",
                    "path": path.relative_to(folder).as_posix(),
                    "size": path.stat().st_size,
                    "oid": hashlib.sha1(path.read_bytes()).hexdigest(),  # noqa: S324
                }
                for path in files
            ]
            return self.send(json.dumps(tree).encode(), {}, body=body)
        siblings = [{"rfilename": path.relative_to(folder).as_posix()} for path in files]
        facts = {"id": repo, "modelId": repo, "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}
        return self.send(json.dumps(facts).encode(), {}, body=body)

    def file(self, repo: str, revision: str, name: str, *, body: bool) -> None:
        path = self.root / repo / name
        if not (self.root / repo).is_dir():
            return self.fail(401, "RepoNotFound")
        if revision not in {"main", COMMIT}:
            return self.fail(404, "RevisionNotFound")
        if not path.is_file():
            return self.fail(404, "EntryNotFound")
        content = path.read_bytes()
        tag = hashlib.sha256(content).hexdigest()
        return self.send(content, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT}, body=body)

    def send(self, content: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(200)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def fail(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextlib.contextmanager
def serve(root: Path) -> Iterator[str]:
    """Serve repositories and yield the endpoint."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (Handler,), {"root": root}))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
