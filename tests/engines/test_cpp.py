"""The C++ reader answers as the Python reader does, word for word."""

from __future__ import annotations

import ctypes
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import make_vectors
from helpers.image_kinds import drawn
from PIL import Image, ImageEnhance

from htr_engines.backends import backends
from htr_engines.bundle import open_bundle
from htr_engines.files import sha256_of
from htr_engines.preprocess import fit_line, load_pages

ROOT = Path(__file__).parents[2]
BUILD = Path(os.environ.get("HTR_CPP_BUILD", ROOT / "build" / "cpp"))
PROGRAM = BUILD / "htr-read"
pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="engines/cpp is not built; run 'make cpp'")
needs_onnxruntime = pytest.mark.skipif(
    not (BUILD / "htr-backend-onnxruntime.so").exists(), reason="the reader was built without ONNX Runtime's headers"
)
IMAGES = 360


@pytest.fixture(scope="session", autouse=True)
def _library():
    """Let the reader use the library of the installed Python package."""
    onnxruntime = pytest.importorskip("onnxruntime")
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    os.environ["HTR_ONNXRUNTIME"] = str(library)


def run(program, arguments, **options):
    result = subprocess.run([*program, *map(str, arguments)], capture_output=True, check=False, **options)
    return result.returncode, result.stdout.decode(), result.stderr.decode()


def cpp(*arguments, **options):
    return run([str(PROGRAM)], arguments, **options)


def python(*arguments, **options):
    program = "import sys; sys.argv[0] = 'htr-read'; from htr_engines.cli import main; main()"
    return run([sys.executable, "-c", program], arguments, **options)


def same(*arguments, **options):
    """Return the exit code and output that both programs give; what a decoder says of damage may differ."""
    first, second = (
        (code, out, re.sub(r"damaged image \(.*\);", "damaged image (...);", err))
        for code, out, err in (cpp(*arguments, **options), python(*arguments, **options))
    )
    assert first == second
    return first


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """Images of every kind, and demo lines as other scanners would have given them."""
    folder = tmp_path_factory.mktemp("kinds")
    for number in range(IMAGES):
        name, content = drawn(number)
        (folder / name).write_bytes(content)
    for number, path in enumerate(sorted((ROOT / "training" / "demo" / "lines").glob("*.png"))):
        with Image.open(path) as opened:
            scale = 0.5 + number / 20
            changed = opened.convert("RGB").resize((int(opened.width * scale), int(opened.height * scale)))
            ImageEnhance.Contrast(changed).enhance(0.8).save(folder / f"demo-{number}.jpg", quality=80)
    return folder


@needs_onnxruntime
def test_hundreds_of_images_read_the_same(bundle, images):
    code, out, _ = same(bundle, images, "--json", "--engine", "onnxruntime")
    records = [json.loads(row) for row in out.splitlines()]
    assert code == 0
    assert len(records) > IMAGES
    assert any(record["characters"] for record in records)


@needs_onnxruntime
def test_tensors_are_equal_bit_for_bit(bundle, images, tmp_path):
    for mode in ("white", "ignore"):
        code, _, err = cpp(
            bundle, images, "--engine", "onnxruntime", "--alpha", mode, "--dump-tensor", tmp_path / "t.npy"
        )
        assert code == 0, err
        tensors = np.load(tmp_path / "t.npy")
        paths, spec = sorted(images.iterdir()), open_bundle(bundle).preprocessing
        assert tensors.shape == (len(paths), spec.height, spec.width)
        expected = (np.rint(255 * fit_line(load_pages(path, mode)[0], spec)[0]) for path in paths)
        different = [
            path.name for path, tensor, one in zip(paths, tensors, expected, strict=True) if (tensor != one).any()
        ]
        assert different == []


@needs_onnxruntime
@pytest.mark.parametrize(
    "extra", [["-q"], ["--json"], ["--batch-size", "3"], ["--json", "--batch-size=50", "--threads=1"]]
)
def test_folders_lists_errors_and_batches(bundle, lines_dir, tmp_path, extra):
    (tmp_path / "broken.png").write_bytes((lines_dir / "line-0.png").read_bytes()[:90])
    (tmp_path / "empty.png").write_bytes(b"")
    draw = make_vectors.ink(1, 90, 40)
    draw.save(tmp_path / "pages.tif", save_all=True, append_images=[draw.resize((50, 30))])
    arguments = [
        *(bundle, lines_dir / "line-0.png", tmp_path / "broken.png", f"{lines_dir}/", "--engine", "onnxruntime"),
        *(tmp_path / "none.png", f"@{lines_dir.parent / 'all.ln'}", tmp_path / "empty.png", tmp_path / "pages.tif"),
    ]
    code, _, err = same(*arguments, *extra)
    assert code == 1
    assert err.count("Error:") == 3


@needs_onnxruntime
def test_standard_input(bundle, lines_dir):
    engine = ("--engine", "onnxruntime")
    path = lines_dir / "line-3.png"
    assert same(bundle, "-", *engine, input=path.read_bytes())[0] == 0
    assert same(bundle, "-", *engine, "--json", input=f"{path}\n\n./{path}\r\n".encode())[0] == 1


@needs_onnxruntime
def test_self_test(bundle, tmp_path):
    assert same("--self-test", bundle, "--engine", "onnxruntime")[0] == 0
    copy = tmp_path / "copy.htr"
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    golden = copy / "golden" / "line-0.model.onnx.npy"
    np.save(golden, np.load(golden) + 1)
    tensors = copy / "golden" / "preprocessing" / "expected.npy"
    np.save(tensors, np.load(tensors) ^ 3)
    for path in (golden, tensors):
        manifest["files"][path.relative_to(copy).as_posix()]["sha256"] = sha256_of(path)
    manifest["golden"][1]["models"]["model.onnx"]["text"] = 'it\'s "other"\n'
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    assert same("--self-test", copy, "--engine", "onnxruntime")[0] == 3


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["x"],
        ["--zzz", "x"],
        ["x", "y", "--threads", "0"],
        ["x", "y", "--threads", "two"],
        ["x", "y", "--batch-size=-1"],
        ["x", "y", "--alpha", "black"],
        ["--version"],
    ],
)
def test_usage(arguments):
    first, second = ((code, out, usage_error(err)) for code, out, err in (cpp(*arguments), python(*arguments)))
    assert first == second


def usage_error(message):
    """Return the sentence after the usage line; older versions of click write "No such option: --x"."""
    return re.sub(r"No such option: (\S+)", r"No such option '\1'.", message.split("Error: ")[-1])


def test_help_names_the_options_for_line_images_and_one_more():
    code, out, _ = cpp("--help")
    _, other, _ = python("--help", env={**os.environ, "COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert code == 0
    options = re.findall(r"^  (--[a-z-]+|-h, --help) +(?!.*Pages:)", other, re.MULTILINE)
    assert len(options) > 6
    mine = set(re.findall(r"^  (--[a-z-]+|-h, --help)", out, re.MULTILINE))
    assert mine - {"--dump-tensor"} <= set(options)
    assert "--dump-tensor" in mine


@pytest.mark.parametrize("damage", ["changed", "missing", "no bundle", "unlisted", "outside", "version", "engine"])
def test_damaged_bundles_are_refused_in_the_same_words(bundle, tmp_path, damage):
    copy = tmp_path / "copy.htr"
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    if damage == "changed":
        with (copy / "model.onnx").open("r+b") as file:
            file.write(b"\x00")
    elif damage == "missing":
        (copy / "golden" / "line-0.png").unlink()
    elif damage == "no bundle":
        (copy / "manifest.json").unlink()
    elif damage == "unlisted":
        del manifest["files"]["model.onnx"]
    elif damage == "outside":
        manifest["files"]["../evil"] = {"sha256": "0" * 64, "bytes": 0}
    elif damage == "version":
        manifest["schema_version"] = 99
    if damage in {"unlisted", "outside", "version"}:
        (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    code, _, err = same(copy, "x.png", "--engine", "tpu" if damage == "engine" else "onnxruntime")
    assert code == 1
    assert err.startswith("Error: ")


@needs_onnxruntime
def test_the_c_interface_reads(bundle, lines_dir):
    library = ctypes.CDLL(str(BUILD / "libhtr.so"))
    library.htr_open.restype = library.htr_read_file.restype = library.htr_read_grey.restype = ctypes.c_void_p
    library.htr_last_error.restype = ctypes.c_char_p
    assert not library.htr_open(b"/nowhere", None, 0)
    assert b"is not a bundle" in library.htr_last_error()
    reader = ctypes.c_void_p(library.htr_open(os.fsencode(bundle), b"onnxruntime", 1))
    path = lines_dir / "line-0.png"
    result = ctypes.c_void_p(library.htr_read_file(reader, os.fsencode(path)))
    grey_HW = load_pages(path)[0]
    height, width = grey_HW.shape
    again = ctypes.c_void_p(library.htr_read_grey(reader, grey_HW.tobytes(), width, height, ctypes.c_ssize_t(width)))
    expected = json.loads(python(bundle, path, "--json", "--engine", "onnxruntime")[1])
    for one in (result, again):
        assert json.loads(ctypes.string_at(one.value)) == {
            key: value for key, value in expected.items() if key not in {"file", "page"}
        }
        library.htr_free(one)
    library.htr_close(reader)


@pytest.mark.skipif(not (BUILD / "htr-backend-openvino.so").exists(), reason="built without OpenVINO")
def test_openvino_reads_the_golden_lines(bundle):
    code, out, _ = cpp("--self-test", bundle, "--engine", "openvino")
    assert code == 0
    assert "openvino with model.onnx reads as expected" in out


def test_the_ranks_are_those_of_the_registry():
    source = (ROOT / "engines" / "cpp" / "src" / "selection.cpp").read_text(encoding="utf-8")
    rows = re.findall(r'\{"([a-z-]+)", \{(\{"\w+", \d+\}(?:, \{"\w+", \d+\})*)\}\}', source)
    ranks = {name: {key: int(rank) for key, rank in re.findall(r'\{"(\w+)", (\d+)\}', row)} for name, row in rows}
    assert ranks == {name: dict(backend.ranks) for name, backend in backends().items() if backend.ranks}


def test_an_image_in_another_format_is_refused(bundle, tmp_path):
    buffer = io.BytesIO()
    Image.new("L", (30, 20)).save(buffer, "BMP")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    _, _, err = cpp(bundle, tmp_path / "a.png", "--engine", "onnxruntime")
    assert "give one of PNG, JPEG, TIFF" in err or "cannot be loaded" in err
