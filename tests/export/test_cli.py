"""The command line as a user meets it: outputs, exit codes, one-line errors, light starts."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.drawn import CHARSET

import htr_bench
import htr_engines
import htr_export
import htr_training
from htr_export.cli import main

FLOORS = {htr_engines: 1, htr_export: 2, htr_training: 3, htr_bench: 3}


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_strip_tells_what_went(checkpoint, tmp_path):
    result = run("strip", checkpoint, "-o", tmp_path / "m.safetensors")
    assert result.exit_code == 0, result.output
    assert "TCM: 2 tensors" in result.stdout
    assert "kept     the ema weights" in result.stdout
    assert (tmp_path / "m.safetensors").stat().st_size < checkpoint.stat().st_size / 3


def test_strip_takes_a_charset_file(checkpoint, tmp_path):
    path = tmp_path / "charset.txt"
    path.write_text(CHARSET.characters, encoding="utf-8")
    output = tmp_path / "m.safetensors"
    assert run("strip", checkpoint, "-o", output, "--charset", path).exit_code == 0
    facts = json.loads(run("inspect", output, "--json").stdout)
    assert (facts["kind"], facts["charset"]) == ("model", CHARSET.characters)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["strip", "none.pth", "-o", "m.safetensors"], 1, "does not exist"),
        (["strip", "CHECKPOINT", "-o", "m.bin"], 2, ".safetensors"),
        (["strip", "CHECKPOINT", "-o", "m.safetensors", "--dataset", "IAM"], 1, "79 characters"),
        (["strip", "CHECKPOINT", "-o", "m.safetensors", "--dataset", "mnist"], 2, "mnist"),
        (["strip", "CHECKPOINT", "-o", "m.safetensors", "--dataset", "iam", "--charset", "x"], 2, "not both"),
        (["onnx", "CHECKPOINT", "-o", "m.onnx", "--width", "77"], 1, "multiple of 8"),
        (["onnx", "CHECKPOINT", "-o", "m.onnx", "--batch", "many"], 2, "neither"),
        (["onnx", "CHECKPOINT", "-o", "m.plan"], 2, ".onnx"),
        (["inspect", "none.onnx"], 1, "does not exist"),
        (["bundle", "none.onnx", "-o", "b.htr"], 1, "does not exist"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_mistakes_end_in_one_line_and_their_exit_code(checkpoint, tmp_path, monkeypatch, arguments, code, said):
    monkeypatch.chdir(tmp_path)
    result = run(*[str(checkpoint) if argument == "CHECKPOINT" else argument for argument in arguments])
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("command", [[], *([name] for name in main.commands)])
def test_every_command_explains_itself(command, option):
    result = run(*command, option)
    assert result.exit_code == 0
    assert "--help" in result.stdout
    assert not command or "--quiet" in result.stdout


def test_what_is_not_an_older_product_is_not_replaced(checkpoint, tmp_path):
    output = tmp_path / "m.safetensors"
    output.write_text("my diary", encoding="utf-8")
    result = run("strip", checkpoint, "-o", output)
    assert result.exit_code == 1
    assert "is not an older one of its kind; give another path, or --force" in result.stderr
    assert output.read_text(encoding="utf-8") == "my diary"
    assert run("strip", checkpoint, "-o", output, "--force").exit_code == 0
    assert run("strip", checkpoint, "-o", output).exit_code == 0  # a product of ours


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bundle", "x.onnx", "-o", "."], "other files"),
        (["onnx", "m.safetensors", "-o", "other.onnx"], "--force"),
        (["onnx", "m.safetensors", "-o", "other.onnx/m.onnx"], "is a file"),
        (["ship", "other.onnx", "-o", "b.htr", "--lines", ".", "--list", "none.ln"], "none.ln does not exist"),
        (["ship", "other.onnx", "-o", "b.htr", "--lines", ".", "--list", "names.ln"], "any other of the 2 images"),
        (["ship", "none.pth", "-o", "b.htr", "--lines", "."], "none.pth does not exist"),
        (["ship", "other.onnx", "-o", "other.onnx", "--lines", "."], "--force"),
        (["validate", "--reference", "a", "--candidate", "b", "--lines", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_cheap_checks_come_before_pytorch(tmp_path, arguments, said):
    (tmp_path / "other.onnx").write_bytes(b"of another program")
    (tmp_path / "names.ln").write_text("a.png\nb.png\n", encoding="utf-8")
    code = "import sys\nsys.modules['torch'] = sys.modules['onnx'] = None\nfrom htr_export.cli import main\nmain()"
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert process.returncode == 1
    assert said in process.stderr
    assert process.stderr.count("\n") == 1


def test_the_next_command_can_be_pasted_into_a_shell(checkpoint, tmp_path):
    output = tmp_path / "my model.safetensors"
    result = run("strip", checkpoint, "-o", output)
    last = result.stdout.splitlines()[-1]
    assert shlex.split(last)[:4] == ["next", "htr-export", "onnx", str(output)]
    assert "htr-export onnx" not in run("strip", checkpoint, "-o", output, "--quiet").stdout


@pytest.fixture
def hashed(monkeypatch):
    """How often each file is hashed by its path."""
    from htr_engines import files

    def count(path):
        counts[path.name if path.suffix != ".json" else str(path)] += 1
        return sha256_of(path)

    counts, sha256_of = Counter(), files.sha256_of
    for name in ("ship", "strip", "validation.run"):
        monkeypatch.setattr(f"htr_export.{name}.sha256_of", count)
    return counts


def test_inspect_shows_every_artefact(checkpoint, safetensors, onnx_file, bundle):
    kinds = []
    for path in (checkpoint, safetensors, onnx_file, bundle):
        assert run("inspect", path).exit_code == 0
        facts = json.loads(run("inspect", path, "--json").stdout)
        assert facts["charset"] == CHARSET.characters
        assert facts["schema_version"] == 1
        kinds.append(facts["kind"])
    assert kinds == ["checkpoint", "model", "onnx", "bundle"]


@pytest.mark.usefixtures("graphs_once")
def test_ship_does_it_all_and_nothing_twice(checkpoint, lines_dir, workspace, tmp_path, hashed):
    arguments = [
        "ship",
        checkpoint,
        "-o",
        tmp_path / "a.htr",
        "--lines",
        lines_dir,
        "--list",
        workspace / "all.ln",
        "--batch",
        "2",
        "--width",
        "128",
        "--accept-few",
    ]
    first = run(*arguments)
    assert first.exit_code == 0, first.output
    assert "PASSED on 8 lines" in first.stdout
    assert "unchanged" not in first.stdout
    assert hashed[checkpoint.name] == hashed["model.safetensors"] == hashed["model.onnx"] == 1
    assert run(*arguments).stdout.count("unchanged") == 4
    for engine in ("onnxruntime", "openvino"):
        if find_spec(engine):
            assert f"-[✓] {engine}: PASSED on 8 lines" in first.stdout
    (tmp_path / "a.htr.work" / "model.onnx").write_bytes(b"damaged")
    third = run(*arguments)
    assert third.exit_code == 0, third.output
    assert third.stdout.splitlines()[0].startswith("strip     unchanged")
    assert "unchanged" not in third.stdout.splitlines()[1]
    facts = json.loads(run("inspect", tmp_path / "a.htr", "--json").stdout)
    assert facts["models"][0]["validation"]["passed"] is True


@pytest.mark.usefixtures("graphs_once")
def test_ship_in_half_precision(checkpoint, lines_dir, workspace, tmp_path):
    arguments = ["ship", checkpoint, "-o", tmp_path / "h.htr", "--lines", lines_dir, "--list", workspace / "all.ln"]
    result = run(
        *arguments, "--precision", "fp16", "--batch", "2", "--width", "128", "--max-cer-increase", "5", "--accept-few"
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "h.htr" / "model.fp16.onnx").is_file()
    facts = json.loads(run("inspect", tmp_path / "h.htr", "--json").stdout)
    assert facts["models"][0]["precision"] == "fp16"
    assert facts["models"][0]["input"]["dtype"] == facts["models"][0]["output"]["dtype"] == "float32"


@pytest.mark.parametrize("command", ["htr_export", "htr_engines", "htr_bench", "htr_training"])
def test_help_imports_nothing_heavy(command):
    heavy = ["torch", "onnx", "onnxruntime", "openvino", "numpy", "rapidfuzz", "jinja2", "PIL", "scipy"]
    code = (
        f"import sys\nfrom {command}.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        f"found = [name for name in {heavy} if name in sys.modules]\n"
        "print('heavy:', found, file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage" in result.stdout
    assert ast.literal_eval(result.stderr[7:]) == []


@pytest.mark.parametrize("package", FLOORS, ids=lambda package: package.__name__)
def test_dependencies_point_down_only(package):
    """Each floor imports from lower floors only, and the lowest never PyTorch or ONNX."""
    names = {other.__name__ for other, floor in FLOORS.items() if floor >= FLOORS[package] and other is not package}
    if package is htr_engines:
        names |= {"torch", "onnx", "safetensors"}
    for path in Path(package.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            imported += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {name.split(".")[0] for name in imported} & names, path
