"""The service's paths, as a Starlette application."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import time
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from htr_engines.errors import DataError, HtrError, ImageError
from htr_engines.serve.batching import Batcher, BusyError
from htr_engines.serve.body import LimitBody
from htr_engines.serve.kserve import HEADER_LENGTH, INPUT, OUTPUTS, answer, parse_inference
from htr_engines.serve.metrics import Metrics
from htr_engines.serve.pages import FORMATS, read_upload
from htr_engines.sources import doubt

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from starlette.requests import Request

    from htr_engines.recognizer import Recognizer

RETRY_S = 1  # after which a refused client may try again


@dataclass(frozen=True)
class ServeOptions:
    """The limits of a service."""

    batch_size: int = 8  # lines per run of the engine, at most
    waiting: int = 256  # lines that may wait; more requests are refused with 429
    max_bytes: int = 64 << 20  # of a request
    timeout_s: float = 60.0  # for one request
    token: str | None = None  # that clients have to send
    site: Path | None = None  # folder of the browser's page


class Service:
    """Answers requests with a recognizer."""

    def __init__(self, recognizer: Recognizer, options: ServeOptions) -> None:
        self._recognizer = recognizer
        self._options = options
        self._name = recognizer.bundle.folder.resolve().name.removesuffix(".htr")
        self._metrics = Metrics()
        self._batcher = Batcher(recognizer, options.batch_size, options.waiting, self._metrics)

    def application(self) -> LimitBody:
        """Return the ASGI application."""
        model = f"/v2/models/{self._name}"
        routes: list[Route | Mount] = [
            Route("/read", self._guarded(self._read), methods=["POST"]),
            Route(f"{model}/infer", self._guarded(self._infer), methods=["POST"]),
            Route(f"{model}/versions/1/infer", self._guarded(self._infer), methods=["POST"]),
            *(Route(path, _static(self._describe())) for path in (model, f"{model}/versions/1")),
            *(Route(f"{path}/ready", _static({"ready": True})) for path in (model, f"{model}/versions/1")),
            Route("/v2", _static(self._server())),
            Route("/v2/health/live", _static({"live": True})),
            Route("/v2/health/ready", _static({"ready": True})),
            Route("/metrics", self._guarded(self._count)),
            Route("/openapi.json", _openapi),
        ]
        if self._options.site:
            routes.append(Mount("/", StaticFiles(directory=self._options.site, html=True)))
        handlers: Any = {HTTPException: _refuse}
        inner = Starlette(routes=routes, lifespan=self._lifespan, exception_handlers=handlers)
        return LimitBody(inner, self._options.max_bytes)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        async with self._batcher.running():
            yield

    def _guarded(self, handle: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """Return a handler that checks the token, keeps the time limit, counts, and turns errors into answers."""

        async def guarded(request: Request) -> Response:
            began = time.perf_counter()
            try:
                self._check_token(request)
                response = await asyncio.wait_for(handle(request), self._options.timeout_s)
            except (ImageError, DataError) as error:
                response = _error(400, str(error))
            except HtrError as error:
                response = _error(500, str(error))
            except BusyError:
                response = _error(429, "too many lines wait; try again later", {"Retry-After": str(RETRY_S)})
            except asyncio.TimeoutError:
                response = _error(503, f"not done within {self._options.timeout_s:g} s; send less, or try again later")
            except HTTPException as error:
                response = await _refuse(request, error)
            self._metrics.seconds.observe(time.perf_counter() - began)
            self._metrics.requests.labels(request.scope["path"], response.status_code).inc()
            return response

        return guarded

    def _check_token(self, request: Request) -> None:
        if self._options.token is None:
            return
        sent = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(sent.encode(), self._options.token.encode()):
            raise HTTPException(401, "send the header: Authorization: Bearer TOKEN", {"WWW-Authenticate": "Bearer"})

    async def _read(self, request: Request) -> Response:
        """Read the image that is the body, or the page whose document and image are a form's files."""
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            result = await read_upload(request, self._batcher, self._recognizer)
            self._metrics.lines.inc(result.lines)
            return Response(result.content, media_type=FORMATS[result.format], headers=result.headers)
        pages = await self._batcher.load(await request.body())
        readings = await self._batcher.read(pages)
        self._metrics.lines.inc(len(pages))
        records = [
            {"page": number, **reading.to_dict(), **_warning(page_HW)}
            for number, (page_HW, reading) in enumerate(zip(pages, readings, strict=True))
        ]
        if request.query_params.get("format") == "text":
            return PlainTextResponse("".join(f"{reading.text}\n" for reading in readings))
        return JSONResponse({"readings": records})

    async def _infer(self, request: Request) -> Response:
        """Answer in the protocol of KServe."""
        inference = parse_inference(await request.body(), request.headers.get(HEADER_LENGTH))
        lines = []
        for number, content in enumerate(inference.images):
            pages = await self._load_numbered(number, content)
            if len(pages) > 1:
                raise ImageError(f"image {number} has {len(pages)} pages, and a line is one; send them one by one")
            lines += pages
        readings = await self._batcher.read(lines)
        self._metrics.lines.inc(len(lines))
        body, headers = answer(self._name, inference, readings)
        return Response(body, headers=headers)

    async def _load_numbered(self, number: int, content: bytes) -> list[NDArray[np.uint8]]:
        try:
            return await self._batcher.load(content)
        except ImageError as error:
            raise ImageError(f"image {number}: {error}") from None

    async def _count(self, _: Request) -> Response:
        self._metrics.waiting.set(self._batcher.size)
        return Response(self._metrics.text(), media_type="text/plain; version=0.0.4")

    def _describe(self) -> dict[str, Any]:
        return {
            "name": self._name,
            "versions": ["1"],
            "platform": "htr-export_bundle",
            "inputs": [INPUT],
            "outputs": OUTPUTS,
            "parameters": {
                "engine": self._recognizer.engine.info.engine,
                "selection": self._recognizer.selection.brief,
            },
        }

    def _server(self) -> dict[str, Any]:
        from importlib.metadata import version

        return {"name": "htr-serve", "version": version("htr-export"), "extensions": ["binary_tensor_data"]}


def _static(document: dict[str, Any]) -> Callable[[Request], Awaitable[Response]]:
    async def handle(_: Request) -> Response:
        return JSONResponse(document)

    return handle


async def _openapi(_: Request) -> Response:
    content = files("htr_engines.schemas").joinpath("openapi.json").read_bytes()
    return Response(content, media_type="application/json")


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, dict(error.headers or {}))


def _error(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": sentence}, status, headers=headers)


def _warning(page_HW: NDArray[np.uint8]) -> dict[str, str]:
    reason = doubt(page_HW)
    return {"warning": reason} if reason else {}
