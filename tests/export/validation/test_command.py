from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
import warnings

import pytest
from click.testing import CliRunner
from helpers.validation_fakes import make_lines

from htr_engines.charset import Charset
from htr_engines.files import sha256_of
from htr_export.network.config import NetworkConfig
from htr_export.network.model import HTRConvText
from htr_export.open_model import open_any
from htr_export.validation import run as validation
from htr_export.validation.command import validate_command
from htr_export.validation.report import load_report

torch = pytest.importorskip("torch")
CONFIG = NetworkConfig(8, embed_dim=32, depth=3, num_heads=2, mobilevit_head_dim=8, image_width=64)


def save(path, *, seed=0, noise=0.0, characters="abcdefg"):
    from htr_export.model import Model, save_model

    torch.manual_seed(seed)
    tensors = {name: value.clone() for name, value in HTRConvText(CONFIG).state_dict().items()}
    tensors["head.weight"] *= 4  # an untrained head reads nothing but blanks
    tensors["head.weight"] += noise * torch.randn_like(tensors["head.weight"])
    save_model(Model(CONFIG, Charset(characters), tensors, {}), path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    make_lines(folder / "lines", ["abc", "gfa", "dd", "ec", "fgab"])
    (folder / "lines" / "broken.png").write_bytes(b"\x89PNG")
    return {
        "reference": save(folder / "reference.safetensors"),
        "same": save(folder / "same.safetensors"),
        "perturbed": save(folder / "perturbed.safetensors", noise=3.0),
        "foreign": save(folder / "foreign.safetensors", characters="gfedcba"),
        "lines": folder / "lines",
    }


def run(files, candidate, *options, enough=False):
    arguments = [
        "--reference",
        files["reference"],
        "--candidate",
        files[candidate],
        "--lines",
        files["lines"],
    ]
    return CliRunner().invoke(
        validate_command,
        [str(value) for value in (*arguments, "--threads", 1, *(() if enough else ("--accept-few",)), *options)],
    )


def test_a_copy_passes(files, tmp_path):
    result = run(files, "same", "--report", tmp_path / "report")
    assert result.exit_code == 0, result.output
    assert "PASSED on 5 lines" in result.stdout
    assert "-[✓] accuracy" in result.stdout
    assert "skipped: " in result.stdout
    assert "broken.png" in result.stdout
    assert load_report(tmp_path / "report")["passed"]


def test_a_perturbed_candidate_exits_3(files, tmp_path):
    result = run(files, "perturbed", "--report", tmp_path / "report")
    assert result.exit_code == 3, result.output
    assert "-[✗] accuracy" in result.stdout
    assert "FAILED on 5 lines: accuracy" in result.stdout
    assert result.stdout.splitlines()[-1] == f"Next: look at {tmp_path / 'report' / 'report.html'}"
    assert load_report(tmp_path / "report")["passed"] is False


def test_too_few_lines_prove_nothing_unless_accepted(files, tmp_path):
    result = run(files, "same", "--report", tmp_path / "report", enough=True)
    assert result.exit_code == 3, result.output
    assert "-[✗] amount: 14 characters on 5 lines; 400 prove something, about 143 such lines" in result.stdout
    assert "NOT ENOUGH LINES: 14 characters on 5 lines" in result.stdout
    assert "--accept-few" in result.stdout
    assert load_report(tmp_path / "report")["passed"] is False


def test_a_candidate_of_other_characters_exits_3(files):
    result = run(files, "foreign")
    assert result.exit_code == 3
    assert "charset is not the reference's" in result.stderr


def test_files_that_are_swapped_after_they_were_hashed_are_not_opened(files, tmp_path, monkeypatch):
    def swap(model, *arguments):
        model.path.write_bytes(b"something else")
        return open_any(model, *arguments)

    copies = {side: tmp_path / f"{side}.safetensors" for side in ("reference", "candidate")}
    for copy in copies.values():
        shutil.copyfile(files["reference"], copy)
    monkeypatch.setattr(validation, "open_any", swap)
    result = run({**files, **copies}, "candidate", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert {document["inputs"][side]["sha256"] for side in copies} == {sha256_of(files["reference"])}


def test_json_goes_to_stdout_alone(files):
    result = run(files, "perturbed", "--json", "--limit", 2)
    assert result.exit_code == 3
    document = json.loads(result.stdout)
    assert document["inputs"]["lines_listed"] == 6
    assert len(document["result"]["records"]) + len(document["result"]["skipped"]) == 2


def test_errors_are_one_sentence(files, tmp_path):
    empty = tmp_path / "none.ln"
    empty.write_text("\n", encoding="utf-8")
    result = run(files, "same", "--list", empty)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {empty} names no line; it should hold one image file name per line\n"
    result = run(files, "same", "--engine", "openvino")
    assert result.exit_code == 1
    assert "cannot be run by openvino" in result.stderr


def test_an_unknown_charset_in_the_reference_is_told(files, monkeypatch):
    from htr_export import torch_engine

    class Nameless(torch_engine.TorchEngine):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.info = dataclasses.replace(self.info, metadata={})

    monkeypatch.setattr(torch_engine, "TorchEngine", Nameless)
    result = run(files, "same")
    assert result.exit_code == 1
    assert "does not state its characters" in result.stderr


def test_help_is_quick_since_nothing_heavy_is_imported():
    heavy = "('torch', 'jinja2', 'rich', 'onnxruntime')"
    code = f"import htr_export.validation.command, sys; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_onnx_candidate_passes_on_both_engines(files, onnx_file, engine, tmp_path):
    pytest.importorskip(engine)
    result = run({**files, "onnx": onnx_file}, "onnx", "--engine", engine, "--report", tmp_path)
    assert result.exit_code == 0, result.output
    assert "readings changed" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("Next: htr-export bundle")


@pytest.fixture(scope="module")
def onnx_file(files, tmp_path_factory):
    """Export by TorchScript, which takes a tenth of the time and is not what is tested here."""
    from htr_export.model import load_model

    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            load_model(files["reference"]).network(),
            (torch.zeros(2, 1, 64, 64),),
            path,
            dynamo=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )
    return path
