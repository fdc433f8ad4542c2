"""The command ``htr-serve``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from htr_engines.console import HtrCommand, echo
from htr_engines.errors import DataError
from htr_engines.options import ANY_PATH, ModelPath, engine_option, streams_option, threads_option

if TYPE_CHECKING:
    from pathlib import Path

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@click.command(cls=HtrCommand)
@click.argument("bundle", type=ModelPath())
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is all of them.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@engine_option
@threads_option
@streams_option
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Lines per run, at most.")
@click.option("--waiting", type=click.IntRange(min=1), default=256, show_default=True, help="Lines that may wait.")
@click.option("--max-bytes", type=click.IntRange(min=1), default=64 << 20, show_default=True, help="Of a request.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="Seconds."
)
@click.option("--token", envvar="HTR_SERVE_TOKEN", help="Clients have to send it.  [or variable HTR_SERVE_TOKEN]")
@click.option("--site", type=ANY_PATH, help="Folder of 'htr-export site', served at /.")
@click.version_option(package_name="htr-export")
def main(
    bundle: Path,
    host: str,
    port: int,
    engine: str | None,
    threads: int | None,
    streams: int | None,
    batch_size: int,
    waiting: int,
    max_bytes: int,
    timeout_s: float,
    token: str | None,
    site: Path | None,
) -> None:
    """Serve BUNDLE over HTTP, to this machine only unless --host says otherwise.

    POST /read takes an image of a line, or a form with a PAGE or ALTO document ('page') and its image ('image').
    POST /v2/models/NAME/infer is the protocol of KServe, which Triton's clients speak. GET /openapi.json describes
    all paths, /v2/health/ready and /metrics (Prometheus) watch over it.
    """
    import uvicorn

    from htr_engines.recognizer import Recognizer
    from htr_engines.serve.app import ServeOptions, Service

    if site is not None and not (site / "index.html").is_file():
        raise DataError(f"{site} holds no index.html; make it with: htr-export site {bundle} -o {site}")
    with Recognizer(bundle, engine, threads, streams=streams) as recognizer:
        echo(recognizer.selection.brief, err=True)
        if host not in LOOPBACK and not token:
            echo("Warning: anyone who reaches this machine can use the service; give a --token", err=True)
        options = ServeOptions(batch_size, waiting, max_bytes, timeout_s, token, site)
        application = Service(recognizer, options).application()
        with contextlib.suppress(KeyboardInterrupt):  # the signal comes again when the server has ended in good order
            uvicorn.run(
                application, host=host, port=port, log_level="info", timeout_graceful_shutdown=int(timeout_s) + 1
            )


if __name__ == "__main__":
    main()
