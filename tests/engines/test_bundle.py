"""Bundles, the recogniser and htr-read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from helpers.drawn import CHARSET, draw_line
from PIL import Image

from htr_engines import Recognizer
from htr_engines.backends import open_engine
from htr_engines.bundle import open_bundle
from htr_engines.cli import main as htr_read
from htr_engines.errors import BundleError, EngineError, ExportError, ImageError, ParityError
from htr_engines.files import sha256_of
from htr_export.cli import main as htr_export


def read(*arguments, stdin=None):
    return CliRunner().invoke(htr_read, [str(argument) for argument in arguments], input=stdin)


@pytest.fixture
def copy(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "copy.htr")
    return tmp_path / "copy.htr"


def edit_manifest(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def test_manifest_names_every_file_and_the_missing_proof(bundle):
    manifest = json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == files - {"manifest.json", "README.md"}
    assert manifest["models"][0]["validation"] == {"verdict": "not validated", "passed": False}
    assert open_bundle(bundle).changed_files() == []


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_self_test(bundle, engine):
    pytest.importorskip(engine)
    result = read("--self-test", bundle, "--engine", engine)
    assert result.exit_code == 0, result.output
    assert result.output.count("-[✓]") == 10
    assert f"{engine} with model.onnx reads as expected" in result.output


def test_self_test_sees_a_changed_model(copy):
    golden = copy / "golden" / "line-0.model.onnx.npy"
    np.save(golden, np.load(golden) + 1)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["golden/line-0.model.onnx.npy"]["sha256"] = sha256_of(golden)
    edit_manifest(copy, files=manifest["files"])
    result = read("--self-test", copy)
    assert result.exit_code == 3
    assert "-[✗] line-0.png: logits, max diff 1.0e+00" in result.output


def test_a_changed_file_is_refused_by_name(copy):
    with (copy / "model.onnx").open("r+b") as file:
        file.seek(1000)
        file.write(b"\x00\x01\x02")
    result = read(copy, "x.png")
    assert result.exit_code == 1
    assert "model.onnx" in result.stderr
    assert "copy it again" in result.stderr


@pytest.mark.parametrize("name", ["../evil.onnx", "/etc/passwd", "a/../../b", "..\\evil"])
def test_names_that_lead_outside_are_refused(copy, name):
    edit_manifest(copy, files={name: {"sha256": "0"}})
    with pytest.raises(BundleError, match="outside"):
        open_bundle(copy)


@pytest.mark.parametrize(
    "changes",
    [
        {"schema_version": 1},
        {"format": "zip"},
        {"charset": 5},
        {"models": [{}]},
        {"files": 3},
        {"golden": None},
        {"preprocessing": {"width": "x", "height": 64}},
    ],
)
def test_damaged_manifests_are_refused(copy, changes):
    edit_manifest(copy, **changes)
    with pytest.raises(BundleError):
        open_bundle(copy)


def test_a_file_without_a_hash_is_refused(copy):
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"].pop("model.onnx")
    edit_manifest(copy, files=manifest["files"])
    with pytest.raises(BundleError, match=r"model\.onnx has no SHA-256"):
        open_bundle(copy)


def test_names_that_are_not_utf8_are_printed(bundle, lines_dir, tmp_path):
    path = os.fsencode(tmp_path) + b"/l\xe9gende.png"
    shutil.copyfile(lines_dir / "line-0.png", path)
    command = [sys.executable, "-m", "htr_engines.cli", str(bundle), path, "--json"]
    result = subprocess.run(command, capture_output=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "gende.png" in json.loads(result.stdout)["file"]


def test_no_bundle_is_refused(tmp_path):
    result = read(tmp_path, "x.png")
    assert result.exit_code == 1
    assert "not a bundle" in result.stderr


def test_reading_files_arrays_and_bytes_agree(bundle, lines_dir):
    path = lines_dir / "line-0.png"
    with Recognizer(bundle) as recognizer:
        by_path = recognizer.read(path)
        assert recognizer.read(path.read_bytes()) == by_path
        assert recognizer.read(np.asarray(Image.open(path).convert("L"))) == by_path
        for span in by_path.characters:
            assert 0 <= span.start < span.end <= 160  # pixels of the image


def test_a_tiff_of_two_pages_gives_two_lines(bundle, tmp_path):
    path = tmp_path / "two.tif"
    draw_line("a").save(path, save_all=True, append_images=[draw_line("b")])
    with Recognizer(bundle) as recognizer, pytest.raises(ImageError, match="2 pages"):
        recognizer.read(path)
    result = read(bundle, path, "--json")
    assert [json.loads(line)["page"] for line in result.stdout.splitlines()] == [0, 1]


@pytest.mark.parametrize("batch_size", [1, 3, 8, 50])
def test_order_is_stable_and_a_bad_image_costs_only_its_line(bundle, lines_dir, tmp_path, batch_size):
    broken = tmp_path / "broken.png"
    broken.write_bytes((lines_dir / "line-0.png").read_bytes()[:50])
    images = [lines_dir / "line-0.png", broken, lines_dir, tmp_path / "none.png"]
    result = read(bundle, *images, "--json", "--batch-size", batch_size)
    records = [json.loads(line) for line in result.stdout.splitlines()]
    names = ["line-0.png", "broken.png", *(f"line-{number}.png" for number in range(8)), "none.png"]
    assert [Path(record["file"]).name for record in records] == names
    assert [number for number, record in enumerate(records) if "error" in record] == [1, 10]
    assert result.exit_code == 1
    assert result.stderr.count("Error:") == 2
    plain = read(bundle, *images, "--batch-size", batch_size)
    assert plain.stdout.split("\n")[:-1] == [record.get("text", "") for record in records]


def test_standard_input_is_an_image_or_a_list(bundle, lines_dir):
    path = lines_dir / "line-3.png"
    expected = read(bundle, path).stdout
    assert read(bundle, "-", stdin=path.read_bytes()).stdout == expected
    assert read(bundle, "-", stdin=f"{path}\n{path}\n").stdout == 2 * expected
    every = read(bundle, lines_dir).stdout
    assert read(bundle, f"@{lines_dir.parent / 'all.ln'}").stdout == every  # the list lies beside the folder "lines"
    (lines_dir.parent / "paths.txt").write_text("lines/line-3.png\n", encoding="utf-8")
    assert read(bundle, f"@{lines_dir.parent / 'paths.txt'}").stdout == expected


def test_usage_errors(bundle):
    assert read(bundle).exit_code == 2
    assert read(bundle, "x.png", "--batch-size", 0).exit_code == 2


def test_an_engine_that_is_not_there_is_refused_not_replaced(bundle):
    with pytest.raises(EngineError, match="CUDAExecutionProvider"):
        Recognizer(bundle, "onnxruntime-cuda")
    with pytest.raises(EngineError, match="no model for tpu"):
        Recognizer(bundle, "tpu")


@pytest.mark.export
def test_a_report_travels_with_the_bundle(workspace, tmp_path, safetensors, onnx_file, lines_dir):
    from htr_export.bundle.writer import write_bundle

    report = tmp_path / "report"
    arguments = [
        "validate",
        "--reference",
        safetensors,
        "--candidate",
        onnx_file,
        "--lines",
        lines_dir,
        "--list",
        workspace / "all.ln",
        "--report",
        report,
        "--accept-few",
    ]
    runner = CliRunner()
    assert runner.invoke(htr_export, [str(argument) for argument in arguments]).exit_code == 0
    manifest = write_bundle([onnx_file], tmp_path / "v.htr", [report])
    assert manifest["models"][0]["validation"]["passed"] is True
    assert read("--self-test", tmp_path / "v.htr").exit_code == 0
    assert np.array_equal(
        np.asarray(Image.open(tmp_path / "v.htr" / "golden" / "line-0.png")),
        np.asarray(Image.open(lines_dir / "line-0.png")),
    )
    document = json.loads((report / "report.json").read_text(encoding="utf-8"))
    (report / "report.json").write_text(json.dumps({**document, "passed": False}), encoding="utf-8")
    with pytest.raises(ParityError, match="failed"):
        write_bundle([onnx_file], tmp_path / "w.htr", [report])
    document["inputs"]["candidate"]["sha256"] = "0" * 64
    (report / "report.json").write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(BundleError, match="another file"):
        write_bundle([onnx_file], tmp_path / "w.htr", [report])
    assert not (tmp_path / "w.htr").exists()


@pytest.mark.export
def test_a_folder_that_is_no_bundle_is_not_replaced(tmp_path, onnx_file):
    from htr_export.bundle.writer import write_bundle

    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"dear")
    with pytest.raises(ExportError, match="other files"):
        write_bundle([onnx_file], tmp_path / "photos")
    assert (tmp_path / "photos" / "a.jpg").read_bytes() == b"dear"


def test_reading_needs_no_torch_and_no_onnx(bundle, lines_dir):
    code = (
        "import sys\n"
        "sys.modules.update(dict.fromkeys(['torch', 'onnx', 'safetensors', 'rapidfuzz', 'htr_export']))\n"
        "from htr_engines.cli import main\nmain()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(bundle), str(lines_dir / "line-0.png"), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "text" in json.loads(result.stdout)


def write_over(path, content):
    path.write_bytes(content)
    return content


def test_a_file_swapped_after_it_was_hashed_is_not_opened(copy):
    """Whatever is done to the file in between: the bytes that were hashed are the bytes that are opened."""
    found = open_bundle(copy)
    model = found.models[0]
    read_once = found.read_model(model)
    write_over(model.file, b"something else")
    with open_engine(read_once, "onnxruntime") as engine:
        assert engine.info.metadata["charset"] == found.charset.characters
    with pytest.raises(BundleError, match=r"changed.*model\.onnx"):
        found.read_model(model)
    with pytest.raises(BundleError, match=r"changed.*model\.onnx"):
        Recognizer(copy, verify=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"charset": "".join(reversed(CHARSET.characters))}, "another characters"),
        ({"preprocessing": {"width": 64, "height": 64, "alpha": "white"}}, "another preprocessing"),
        ({"preprocessing": {"width": 128, "height": 32, "alpha": "white"}}, "another preprocessing"),
        ({"charset": CHARSET.characters[:-1]}, "classes"),
        ({"charset": CHARSET.characters[:-1], "num_classes": CHARSET.num_classes - 1}, "another characters"),
        ({"charset": "\x1b]0;" + CHARSET.characters[4:]}, "control character"),
    ],
)
def test_a_manifest_that_says_other_than_its_model_is_refused(copy, changes, said):
    edit_manifest(copy, **changes)
    result = read(copy, "x.png")
    assert result.exit_code == 1
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert read("--self-test", copy).exit_code == 1


def test_a_model_of_another_width_than_the_manifest_is_refused(copy):
    """The graph itself counts, whatever its metadata says."""
    import onnx

    model = onnx.load(str(copy / "model.onnx"))
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 64
    onnx.save(model, str(copy / "model.onnx"))
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["files"]["model.onnx"] |= {"sha256": sha256_of(copy / "model.onnx")}
    edit_manifest(copy, files=manifest["files"])
    assert "another input shape" in read(copy, "x.png").stderr


@pytest.mark.parametrize(
    "damage",
    [
        lambda manifest: manifest["files"]["model.onnx"].pop("sha256"),
        lambda manifest: manifest["models"][0].pop("validation"),
        lambda manifest: manifest["models"].clear(),
        lambda manifest: manifest["preprocessing"].update(width=10**9),
        lambda manifest: manifest["preprocessing"].update(height=0),
        lambda manifest: manifest["models"][0].update(file="a\0b"),
        lambda manifest: manifest["models"][0].update(file="x" * 5000),
        lambda manifest: manifest["golden"][0].update(image=[[[[]]]]),
    ],
    ids=range(8),
)
def test_manifests_with_other_fields_cost_one_sentence(copy, damage):
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    damage(manifest)
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    result = read(copy, "x.png")
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1


def test_bad_names_in_a_list_cost_their_own_lines(bundle, lines_dir, tmp_path):
    names = ["a\x00b.png", "x" * 300, "\x1b]0;evil\x07.png", str(lines_dir / "line-0.png"), "/dev/zero", "\x9b31m"]
    (tmp_path / "list.txt").write_text("\n".join(names), encoding="utf-8")
    for options in ([], ["--json"]):
        result = read(bundle, f"@{tmp_path / 'list.txt'}", *options)
        assert result.exit_code == 1
        rows = result.stdout.split("\n")[:-1]
        assert len(rows) == len(names)
        assert not set(result.stdout + result.stderr) & {"\x1b", "\x07", "\x00", "\x9b"}
        assert (json.loads(rows[3]).get("error") if options else not rows[3]) in {None, False}


def test_the_last_word_is_how_many_failed(bundle, lines_dir, tmp_path):
    (tmp_path / "none.png").write_bytes(b"no image")
    result = read(bundle, lines_dir / "line-0.png", tmp_path / "none.png")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == "1 of 2 failed"
