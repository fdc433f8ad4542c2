"""Many lines on many machines, by Ray Data: ``htr-read ... --ray``.

Every worker holds a recognizer. What is written is noted by the path of its image or document, so that a job that was
killed goes on with the rest when it is run again, and reads nothing twice.
"""

from __future__ import annotations

import posixpath
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from htr_engines.backends import backends
from htr_engines.errors import DataError, EngineError, HtrError
from htr_engines.host import physical_cores
from htr_engines.preprocess import SUFFIXES
from htr_engines.shard_files import Summary
from htr_engines.text import to_json_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from htr_engines.recognizer import Recognizer

ClusterFormat = Literal["parquet", "jsonl", "xml"]
READINGS = "readings"  # folder in the output: one row a line, or a document
BATCH_ROWS = 64  # files that a worker takes at a time
SPARE_CPUS = 2  # beside the workers: Ray needs them to read and write, and waits for ever without


@dataclass(frozen=True)
class ClusterOptions:
    """How a job reads."""

    bundle: str  # path that every machine has, or hf://
    output: str  # folder or URI that every machine can write to
    format: ClusterFormat = "parquet"
    address: str = "local"  # of the cluster
    workers: int | None = None  # by default as many as CPUs allow
    engine: str | None = None  # one that runs on GPUs gives each worker one
    batch_size: int = 1  # lines per run of the engine


def run_job(sources: Sequence[str], options: ClusterOptions) -> Summary:
    """Read images, or PAGE and ALTO documents, into files below the output folder.

    Args:
        sources: files and folders, on any file system that Ray reads (local, ``s3://``, ``gs://``, ``hdfs://``).
        options: how to read and where to write.

    Returns:
        What became of all lines, those of earlier runs of the job too.

    Raises:
        EngineError: if the cluster has too few CPUs for a worker.
        DataError: if there is nothing to read.
    """
    import ray

    if options.engine and options.engine not in backends():
        raise EngineError(f"no engine is called {options.engine!r}; choose one of {', '.join(backends())}")
    workers = _start(ray, options)
    try:
        began = time.perf_counter()
        _run(ray, sources, options, workers)
        seconds = time.perf_counter() - began
    finally:
        ray.shutdown()
    return _summary(options, seconds)


def _start(ray: Any, options: ClusterOptions) -> int:  # noqa: ANN401 - a module
    """Join or start the cluster and return the number of workers."""
    local = options.address == "local"
    wanted = options.workers or (physical_cores() if local else None)
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    if local:
        ray.init(address="local", num_cpus=(wanted or 1) + SPARE_CPUS, include_dashboard=False, **quiet)
    else:
        ray.init(address=options.address, **quiet)
    cpus = int(ray.cluster_resources().get("CPU", 0))
    workers = wanted or cpus - SPARE_CPUS
    if not 1 <= workers <= cpus - SPARE_CPUS:
        raise EngineError(
            f"the cluster has {cpus} CPUs, too few for {workers} workers and {SPARE_CPUS} beside them; ask for fewer, "
            f"or give Ray more logical CPUs (ray start --num-cpus)"
        )
    ray.data.DataContext.get_current().enable_progress_bars = False
    return workers


def _run(ray: Any, sources: Sequence[str], options: ClusterOptions, workers: int) -> None:  # noqa: ANN401
    from ray.data.checkpoint import CheckpointConfig

    documents = options.format == "xml"
    context = ray.data.DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(
        id_column="path",
        checkpoint_path=posixpath.join(options.output, ".checkpoint"),
        delete_checkpoint_on_success=False,
    )
    suffixes = ["xml"] if documents else sorted(suffix.removeprefix(".") for suffix in SUFFIXES)
    try:
        files = ray.data.read_binary_files(list(sources), include_paths=True, file_extensions=suffixes)
    except (FileNotFoundError, ValueError) as error:
        raise DataError(f"there is nothing to read: {error}") from None
    rows = files.map_batches(
        _DocumentReader if documents else _LineReader,
        fn_constructor_args=(options,),
        batch_size=BATCH_ROWS,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
        num_gpus=1 if options.engine and backends()[options.engine].device != "cpu" else None,
    )
    write = rows.write_json if options.format == "jsonl" else rows.write_parquet
    write(posixpath.join(options.output, READINGS))


def _summary(options: ClusterOptions, seconds: float) -> Summary:
    """Count all lines that the output holds."""
    from pyarrow import compute, dataset, fs

    system, place = _file_system(posixpath.join(options.output, READINGS))
    written = system.get_file_info(fs.FileSelector(place, allow_not_found=True))
    if not written:
        raise DataError("there is nothing to read; give images or a folder of them, and for --format xml documents")
    kind = "json" if options.format == "jsonl" else "parquet"
    table = dataset.dataset(place, filesystem=system, format=kind).to_table(columns=["lines", "failures"])
    lines, failures = (compute.sum(table[name]).as_py() or 0 for name in ("lines", "failures"))
    return Summary(lines, failures, round(seconds, 3))


class _LineReader:
    """A worker that reads line images: a row for each line."""

    def __init__(self, options: ClusterOptions) -> None:
        self._recognizer = _open(options)
        self._batch_size = options.batch_size

    def __call__(self, files: dict[str, NDArray[Any]]) -> dict[str, list[Any]]:
        sources = zip(files["path"].tolist(), files["bytes"].tolist(), strict=True)
        results = list(self._recognizer.read_all(sources, self._batch_size))
        readings = [result.reading for result in results]
        return {
            "path": [result.source for result in results],
            "page": [result.page for result in results],
            "text": [reading.text if reading else "" for reading in readings],
            "confidence": [reading.confidence if reading else 0.0 for reading in readings],
            "reading": [to_json_text(reading.to_dict()) if reading else "" for reading in readings],
            "error": [result.error or "" for result in results],
            "lines": [1] * len(results),
            "failures": [int(reading is None) for reading in readings],
        }


class _DocumentReader:
    """A worker that reads PAGE and ALTO documents and writes them with their text: a row for each document."""

    def __init__(self, options: ClusterOptions) -> None:
        self._recognizer = _open(options)
        self._options = options

    def __call__(self, files: dict[str, NDArray[Any]]) -> dict[str, list[Any]]:
        rows = [self._read(path, content) for path, content in zip(files["path"], files["bytes"], strict=True)]
        return {name: [row[name] for row in rows] for name in ("path", "text", "error", "lines", "failures")}

    def _read(self, path: str, content: bytes) -> dict[str, Any]:
        try:
            with tempfile.TemporaryDirectory(prefix="htr-read-") as folder:
                return {"path": path, "error": "", **self._read_copy(path, content, Path(folder))}
        except (HtrError, OSError) as error:
            return {"path": path, "text": "", "error": str(error), "lines": 0, "failures": 1}

    def _read_copy(self, path: str, content: bytes, folder: Path) -> dict[str, Any]:
        from htr_engines.pages.command import to_content
        from htr_engines.pages.document import read_pages

        xml = folder / posixpath.basename(path)
        xml.write_bytes(content)
        names = {page.image for page in read_pages(xml)}
        _copy_images(path, names, folder)
        pages = self._recognizer.read_page(xml, batch_size=self._options.batch_size)
        _write(posixpath.join(self._options.output, xml.name), to_content(xml, pages, self._recognizer.identity, "xml"))
        lines = [line for page in pages for line in page.lines]
        unread = sum(line.reading is None for line in lines)
        return {"text": "\n\f".join(page.text for page in pages), "lines": len(lines), "failures": unread}


def _open(options: ClusterOptions) -> Recognizer:
    from htr_engines.recognizer import Recognizer

    return Recognizer(options.bundle, options.engine, threads=1)


def _copy_images(path: str, names: set[str], folder: Path) -> None:
    """Copy the images that a document may mean: beside it, of the name that it gives or of its own."""
    from pyarrow import fs

    system, place = _file_system(path)
    stems = {
        posixpath.splitext(name)[0].lower() for name in {*map(posixpath.basename, names), posixpath.basename(place)}
    }
    for info in system.get_file_info(fs.FileSelector(posixpath.dirname(place))):
        stem, suffix = posixpath.splitext(info.base_name.lower())
        if info.is_file and stem in stems and suffix in SUFFIXES:
            with system.open_input_stream(info.path) as stream:
                (folder / info.base_name).write_bytes(stream.read())


def _write(target: str, content: bytes) -> None:
    """Write a file aside and rename it."""
    system, place = _file_system(target)
    system.create_dir(posixpath.dirname(place))
    with system.open_output_stream(f"{place}.partial") as stream:
        stream.write(content)
    system.move(f"{place}.partial", place)


def _file_system(place: str) -> tuple[Any, str]:
    """Return the file system of a path or URI, and the path on it."""
    from pyarrow import fs

    return fs.FileSystem.from_uri(place) if "://" in place else (fs.LocalFileSystem(), str(Path(place).absolute()))
