"""A backend is one file: everything that opens, chooses, proves, times or examines engines finds it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import toy_backend
from helpers.bench_fakes import make_onnx
from helpers.drawn import draw_line

import htr_engines
from htr_engines.backends import DEFAULT_ENGINE, backends, engines_of
from htr_export.open_model import all_backends


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The reader's package with one file more, a model, and a line."""
    folder = tmp_path_factory.mktemp("tree")
    package = folder / "htr_engines"
    shutil.copytree(Path(htr_engines.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(toy_backend.__file__, package / "backends" / "toy.py")
    make_onnx(folder / "model.onnx")
    (folder / "lines").mkdir()
    for number in range(5):
        draw_line(f"line {number}").save(folder / "lines" / f"{number}.png")
    return folder


def run(tree, module, *arguments):
    path = os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", f"from {module}.cli import main; main()", *arguments]
    done = subprocess.run(
        command, cwd=tree, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.export
def test_one_file_adds_a_backend(tree):
    run(tree, "htr_export", "bundle", "model.onnx", "-o", "model.htr")
    read = run(tree, "htr_engines", "model.htr", "lines/0.png")
    assert "toy reads model.onnx" in read.stderr
    assert read.stdout == run(tree, "htr_engines", "model.htr", "lines/0.png", "--engine", "onnxruntime").stdout

    options = [
        "--reference",
        "model.onnx",
        "--candidate",
        "model.onnx",
        "--lines",
        "lines",
        "--engine",
        "toy",
        "--accept-few",
    ]
    report = json.loads(run(tree, "htr_export", "validate", *options, "--accept-few", "--json").stdout)
    assert report["passed"]
    assert report["inputs"]["candidate"]["engine"] == "toy"

    quick = ["--batch", "1", "--duration", "0", "--iterations", "1", "--json", "figures.json"]
    run(tree, "htr_bench", "latency", "toy:model.onnx", *quick)
    figures = json.loads((tree / "figures.json").read_text(encoding="utf-8"))
    assert figures["targets"][0]["engine"]["engine"] == "toy"

    doctor = json.loads(run(tree, "htr_export", "doctor", "--json").stdout)
    assert doctor["choice"] == "toy"


def test_the_default_engine_comes_first_and_names_are_unique():
    declared = list(backends().values())
    assert declared[0].name == DEFAULT_ENGINE
    assert engines_of(".onnx")[0] == DEFAULT_ENGINE
    ranks = [rank for backend in declared for rank in backend.ranks.values()]
    assert len(ranks) == len(set(ranks)), "equal ranks would leave the order to the names of files"
    assert set(all_backends()) - set(backends()) == {"torch", "rounding"}


def test_the_registry_imports_no_engine():
    code = (
        "import sys\nfrom htr_engines.backends import backends\nbackends()\n"
        "print({'onnxruntime', 'openvino', 'tensorrt', 'cuda', 'onnx', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
