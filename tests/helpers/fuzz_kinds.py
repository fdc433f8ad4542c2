"""The kinds of files that strangers give, each with small honest ones and with all that reads them."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import torch
from click.testing import CliRunner
from fuzz import Kind
from PIL import Image

from helpers.bench_fakes import make_onnx
from helpers.drawn import CHARSET, draw_line
from helpers.small import CONFIG, published_layout
from htr_engines.backends import open_engine
from htr_engines.bundle import open_bundle
from htr_engines.charset import read_charset
from htr_engines.errors import HtrError
from htr_engines.language_model import read_language_model
from htr_engines.lines import read_lines
from htr_engines.pages.document import read_pages
from htr_engines.preprocess import load_pages
from htr_export.bundle.writer import write_bundle
from htr_export.checkpoint import read_checkpoint
from htr_export.cli import main as htr_export
from htr_export.inspection import inspect_artefact
from htr_export.model import load_any, load_model, model_from_checkpoint, save_model
from htr_export.network.model import HTRConvText
from htr_export.precision.precision_map import read_map
from htr_export.validation.report import load_report
from htr_training.language_model import build_language_model
from htr_training.recipe_file import read_recipe

PAGE = """<?xml version="1.0" encoding="UTF-8"?>
<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"><Page imageFilename="a.png"
 imageWidth="200" imageHeight="100"><TextRegion id="r"><Coords points="0,0 200,0 200,100 0,100"/><TextLine id="l">
<Coords points="5,5 150,5 150,40 5,40"/><Baseline points="5,35 150,35"/><TextEquiv><Unicode>Ein Wort</Unicode>
</TextEquiv></TextLine></TextRegion></Page></PcGts>"""
ALTO = """<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#"><Description><MeasurementUnit>pixel</MeasurementUnit>
<sourceImageInformation><fileName>a.png</fileName></sourceImageInformation></Description><Layout><Page WIDTH="200"
 HEIGHT="100"><PrintSpace><TextBlock><TextLine ID="l" HPOS="5" VPOS="5" WIDTH="145" HEIGHT="35" BASELINE="5,35 150,35">
<String CONTENT="Ein"/><SP/><String CONTENT="Wort"/></TextLine></TextBlock></PrintSpace></Page></Layout></alto>"""
RECIPE = """seed = 3
[network]
preset = "tiny"
[data]
root = "."
alpha = "white"
[schedule]
iterations = 100
warm_up = 10
max_rate = 1e-3
"""
MAP = 'schema_version = 1\ndefault = "fp16"\n[modules]\n"blocks.3.attn" = "fp32"\n"patch_embed" = "int8"\n'
REPORT = {
    "schema_version": 1,
    "passed": True,
    "verdict": "PASSED",
    "created": "2026",
    "inputs": {"candidate": {"file": "a.onnx", "sha256": "0" * 64, "engine": "openvino"}, "lines_sha256": ""},
    "samples": [{"file": "samples/line-1.png"}],
    "result": {
        "mode": "transcripts",
        "lines": 3,
        "changed": 0,
        "options": {"max_cer_increase": 0.1},
        **{name: {"cer": 1.0} for name in ("reference_rates", "candidate_rates", "cer_increase", "wer_increase")},
    },
}


def make_kinds(folder: Path) -> dict[str, Kind]:
    """Return the kinds by name.

    Args:
        folder: for the files that the seeds are made of; the mutated ones stand there too.
    """
    torch.manual_seed(1)
    network = HTRConvText(CONFIG).eval()
    content = {**published_layout(network), "charset": CHARSET.characters, "network": CONFIG.to_dict()}
    torch.save(content, folder / "seed.pth")
    torch.save(content, folder / "old.pth", _use_new_zipfile_serialization=False)
    save_model(model_from_checkpoint(read_checkpoint(folder / "seed.pth"), "0" * 64), folder / "seed.safetensors")
    make_onnx(folder / "seed.onnx")
    write_bundle([folder / "seed.onnx"], folder / "seed.htr")
    saved = {path.suffix: path.read_bytes() for path in folder.glob("seed.*") if path.is_file()}
    return {
        "checkpoint": Kind(".pth", (saved[".pth"], (folder / "old.pth").read_bytes()), _read_checkpoint),
        "safetensors": Kind(".safetensors", (saved[".safetensors"],), _both(load_model, inspect_artefact)),
        "onnx": Kind(".onnx", (saved[".onnx"],), _read_onnx),
        "manifest": Kind(".json", ((folder / "seed.htr" / "manifest.json").read_bytes(),), _read_manifest),
        "sidecar": Kind(".json", (_sidecar(),), _read_sidecar),
        "report": Kind(".json", (json.dumps(REPORT).encode(),), _read_report),
        "charset": Kind(".json", (b'"abc"', b'["a", "b"]'), read_charset),
        "list": Kind(".jsonl", (b'{"file_name": "a.png", "text": "ein"}\n' * 3,), _read_list),
        "table": Kind(".csv", (b'file,text\na.png,"ein, zwei"\nb.png,drei\n',), _read_list),
        "names": Kind(".ln", (b"a.png\nb.png\nsub/c.jpg\n",), _read_list),
        "recipe": Kind(".toml", (RECIPE.encode(),), read_recipe),
        "map": Kind(".toml", (MAP.encode(),), read_map),
        "page": Kind(".xml", (PAGE.encode(), ALTO.encode()), read_pages),
        "language model": Kind(".htrlm", (_language_model(folder),), read_language_model),
        "image": Kind(".png", tuple(_images()), load_pages),
    }


def _language_model(folder: Path) -> bytes:
    build_language_model(["anna", "an anna", "hanna"], folder / "seed.htrlm", 3)
    return (folder / "seed.htrlm").read_bytes()


def _both(*readers):
    def read(path: Path) -> None:
        errors = []
        for reader in readers:
            try:
                reader(path)
            except HtrError as error:
                errors.append(error)
        if errors:
            raise errors[0]

    return read


def _command(*arguments: object) -> None:
    """Run a command, which turns every foreseeable error into an exit code."""
    result = CliRunner().invoke(htr_export, [str(argument) for argument in arguments])
    if not isinstance(result.exception, SystemExit | type(None)):
        raise result.exception


def _read_checkpoint(path: Path) -> None:
    _both(load_any, inspect_artefact)(path)


def _read_onnx(path: Path) -> None:
    _command("trt", path, "--dry-run", "--runtime", "tensorrt-rtx", "-o", path.with_suffix(".plan"))
    _both(inspect_artefact, lambda path: open_engine(path).close(), lambda path: open_engine(path, "openvino").close())(
        path
    )


def _read_manifest(path: Path) -> None:
    folder = path.with_name("case.htr")
    shutil.copytree(path.with_name("seed.htr"), folder, dirs_exist_ok=True)
    shutil.copyfile(path, folder / "manifest.json")
    bundle = open_bundle(folder)
    bundle.changed_files()
    for model in bundle.models:
        bundle.read_model(model)


def _sidecar() -> bytes:
    from htr_engines.backends.base import TensorInfo
    from htr_engines.backends.tensorrt.sidecar import PlanSidecar, Profile, to_json

    shapes = (1, 1, 64, 64), (4, 1, 64, 64), (8, 1, 64, 64)
    return to_json(
        PlanSidecar(
            runtime="tensorrt",
            runtime_version="10.3.0",
            compute_capability="8.7",
            targets=(),
            hardware_compatible=False,
            version_compatible=True,
            precision="fp16",
            profiles=(Profile(*shapes),),
            input=TensorInfo("image", "float32", ("batch", 1, 64, "width")),
            output=TensorInfo("logits", "float32", ("batch", "frames", 8)),
            onnx_file="a.onnx",
            onnx_sha256="0" * 64,
            plan_sha256="1" * 64,
            plan_bytes=4,
            metadata={"charset": "abc"},
            flags={"tf32": False},
            seconds=1.5,
            log=("a",),
            environment={"gpus": []},
            command="htr-export trt a.onnx",
        )
    ).encode()


def _read_sidecar(path: Path) -> None:
    from htr_engines.backends.tensorrt.sidecar import incompatibility, read_sidecar

    sidecar = read_sidecar(path.with_suffix(""), path.read_bytes())
    incompatibility(sidecar, runtime="tensorrt", version="10.3.0", compute_capability="8.6")


def _read_report(path: Path) -> None:
    shutil.copyfile(path, path.with_name("report.json"))
    load_report(path.parent)


def _read_list(path: Path) -> None:
    for line in read_lines(path.parent, path):
        assert line.identity


def _images():
    for kind in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "PPM"):
        stream = io.BytesIO()
        draw_line("abc").save(stream, kind)
        yield stream.getvalue()
    stream = io.BytesIO()
    draw_line("a").save(stream, "TIFF", save_all=True, append_images=[draw_line("b")], compression="tiff_lzw")
    yield stream.getvalue()
    stream = io.BytesIO()
    Image.new("F", (40, 20), 0.5).save(stream, "TIFF")
    yield stream.getvalue()
