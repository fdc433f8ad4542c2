"""Checkpoints that were made to fill the memory, to hang or to end in a traceback: each costs one sentence."""

from __future__ import annotations

import json
import os
import pickle
import sys
import threading
import zipfile

import pytest
import torch
from click.testing import CliRunner

from htr_export.checkpoint import infer_config, inference_tensors, read_checkpoint
from htr_export.cli import main
from htr_export.model import load_any


def saved(path, content):
    """Save in a thread with room for the recursion of the pickler, which the unpickler does not need."""
    limit, size = sys.getrecursionlimit(), threading.stack_size(512 << 20)
    sys.setrecursionlimit(1_000_000)
    thread = threading.Thread(target=torch.save, args=(content, path))
    thread.start()
    thread.join()
    threading.stack_size(size)
    sys.setrecursionlimit(limit)
    return path


@pytest.fixture
def content(checkpoint):
    return torch.load(checkpoint, map_location="cpu", weights_only=False)


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def refused(path, tmp_path):
    """Strip and inspect a file; return what was said. Neither may end in a traceback or leave a file."""
    target = tmp_path / "out.safetensors"
    strip, inspect = run("strip", path, "-o", target), run("inspect", path, "--json")
    assert not target.exists()
    for result in (strip, inspect):
        assert isinstance(result.exception, SystemExit | type(None)), result.exception
    assert strip.exit_code == 1
    assert strip.stderr.count("\n") == 1
    return strip.stderr


@pytest.mark.parametrize(
    "view",
    [
        lambda tensor: torch.zeros(1).expand(tensor.shape),
        lambda tensor: torch.zeros(max(tensor.shape[-1], 2)).as_strided(tensor.shape, (0,) * (tensor.ndim - 1) + (1,)),
    ],
    ids=["stride 0", "overlapping rows"],
)
def test_views_that_would_unpack_to_more_than_is_stored(content, tmp_path, view):
    state = {name: view(tensor) for name, tensor in content["model"].items() if tensor.ndim}
    content["model"] = content["state_dict_ema"] = {**content["model"], **state}
    assert "more than is stored" in refused(saved(tmp_path / "a.pth", content), tmp_path)


def test_tensors_that_all_stand_in_one_storage(content, tmp_path):
    state = content["state_dict_ema"]
    storage = torch.zeros(max(tensor.numel() for tensor in state.values()))
    content["state_dict_ema"] = {name: storage[: one.numel()].view(one.shape) for name, one in state.items()}
    assert "more than is stored" in refused(saved(tmp_path / "a.pth", content), tmp_path)


@pytest.mark.parametrize(
    "strange",
    [
        lambda tensor: tensor.to_sparse(),
        lambda tensor: torch.empty(tensor.shape, device="meta"),
        lambda tensor: tensor.to(torch.complex64),
        lambda tensor: torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "meta", "complex", "quantised"],
)
def test_tensors_of_other_kinds(content, tmp_path, strange):
    state = content["state_dict_ema"]
    content["state_dict_ema"] = {name: strange(one) if one.ndim else one for name, one in state.items()}
    content["extra"] = next(iter(content["state_dict_ema"].values()))
    refused(saved(tmp_path / "a.pth", content), tmp_path)


def nested(depth):
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


def shared(times):
    value: list = [torch.zeros(1)]
    for _ in range(times):
        value = [value, value]
    return value


def cycle():
    value: list = [torch.zeros(3)]
    value.append({"again": value})
    return value


@pytest.mark.parametrize("value", [nested(10_000), shared(60), cycle()], ids=["deep", "shared", "cycle"])
@pytest.mark.parametrize("key", ["optimizer", "args", "tcm_head", "nb_iter", "best_cer", "charset"])
def test_containers_without_end_cost_nothing(content, tmp_path, key, value):
    content[key] = value
    path = saved(tmp_path / "a.pth", content)
    result = run("inspect", path, "--json")
    assert isinstance(result.exception, SystemExit | type(None)), result.exception
    assert result.exit_code == 0, result.stderr
    json.loads(result.stdout, parse_constant=pytest.fail)


@pytest.mark.parametrize(
    "value", [nested(10_000), shared(60), cycle(), 10**4, 10**400, -1, float("nan"), True, "8", None], ids=range(10)
)
@pytest.mark.parametrize("key", ["depth", "embed_dim", "num_classes", "image_width", "x"])
def test_configurations_that_cannot_be(content, tmp_path, key, value):
    content["network"] = {**content["network"], key: value}
    refused(saved(tmp_path / "a.pth", content), tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 10**400, "x", None, torch.zeros(3)], ids=range(6))
@pytest.mark.parametrize("key", ["nb_iter", "best_cer", "best_wer"])
def test_numbers_that_are_none_are_left_out_and_json_stays_json(content, tmp_path, key, value):
    content[key] = value
    path = saved(tmp_path / "a.pth", content)
    assert read_checkpoint(path).number(key) is None
    facts = json.loads(run("inspect", path, "--json").stdout, parse_constant=pytest.fail)
    assert facts["best_cer" if key == "best_cer" else "iteration" if key == "nb_iter" else key] is None
    assert key not in load_any(path).provenance


def test_files_that_are_no_regular_files_or_too_large(tmp_path):
    fifo, sparse = tmp_path / "fifo.pth", tmp_path / "sparse.pth"
    os.mkfifo(fifo)
    with sparse.open("wb") as stream:
        stream.truncate(10 << 30)
    for path, said in ((fifo, "regular"), (tmp_path / "x\nb.pth", "does not exist"), (sparse, "too large")):
        assert said in refused(path, tmp_path)
    for suffix in ("onnx", "safetensors", "plan"):
        os.mkfifo(tmp_path / f"fifo.{suffix}")
        assert run("inspect", tmp_path / f"fifo.{suffix}").exit_code == 1
    assert run("inspect", "/dev/zero").exit_code == 1


def test_zip_directories_that_are_damaged_or_huge(checkpoint, tmp_path):
    whole = checkpoint.read_bytes()
    path = tmp_path / "a.pth"
    end = whole.rindex(b"PK\x05\x06")
    for offset in range(end, len(whole)):
        for value in (0, 0xFF):
            path.write_bytes(whole[:offset] + bytes([value]) + whole[offset + 1 :])
            result = run("inspect", path)
            assert isinstance(result.exception, SystemExit | type(None)), (offset, result.exception)
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(70_000):
            archive.writestr(f"a/data/{number}-{'x' * 20}", b"")
    assert "more files" in refused(path, tmp_path)


def test_a_pickle_of_more_than_tensors_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + b"N0" * (5 << 20) + b"N.")
        archive.writestr("a/version", b"3\n")
    assert "more than tensors" in refused(path, tmp_path)


def hash_bomb(get, put):
    """Return the pickle of a dictionary whose key is a tuple of 2^60 elements."""
    return b"\x80\x02}K\x00\x85" + (put + get + b"\x86") * 60 + b"Ns."


@pytest.mark.parametrize(
    "pickled",
    [hash_bomb(b"h\x01", b"q\x01"), hash_bomb(b"g1\n", b"p1\n"), b"\x80\x02}K\x00\x85" + b"2\x86" * 60 + b"Ns."],
)
def test_keys_that_take_for_ever_to_hash(tmp_path, pickled):
    path = tmp_path / "a.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/version", b"3\n")
    assert "tuples" in refused(path, tmp_path)
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({"little_endian": True}, 2)
    path.write_bytes(magic + pickled)
    assert "tuples" in refused(path, tmp_path)


def test_names_with_commands_to_the_terminal_are_shown_as_text(content, tmp_path):
    content["state_dict_ema"] = {f"\x1b]0;evil\x07{name}": one for name, one in content["state_dict_ema"].items()}
    said = refused(saved(tmp_path / "a.pth", content), tmp_path)
    assert "\x1b" not in said
    assert "\x07" not in said


def test_charsets_with_control_characters_are_refused(content, tmp_path):
    content["charset"] = "\n" + content["charset"][1:]
    assert "control character" in refused(saved(tmp_path / "a.pth", content), tmp_path)


def test_an_honest_checkpoint_passes_all_of_this(checkpoint):
    found = read_checkpoint(checkpoint)
    state = found.state("ema")
    assert inference_tensors(state, found.config or infer_config(state)).keys() <= state.keys()
