"""Checkpoints: everything the published training writes is read, and nothing in a file is ever run."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import struct
import subprocess
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from helpers.drawn import CHARSET
from helpers.golden_weights import read_shapes
from helpers.small import CONFIG, published_layout

from htr_engines.charset import Charset
from htr_engines.errors import CharsetError, CheckpointError, UnsafeCheckpointError
from htr_export.checkpoint import infer_config, inference_tensors, read_checkpoint
from htr_export.model import load_any, load_model, save_model

OURS = {"charset": CHARSET.characters, "network": CONFIG.to_dict()}


class Calls:
    """Pickles as a call of ``function``."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def touch(path) -> str:
    return f"touch {path}"


HOSTILE = {
    "os.system": lambda mark: Calls(os.system, touch(mark)),
    "builtins.eval": lambda mark: Calls(builtins.eval, f"open({str(mark)!r}, 'w')"),
    "builtins.exec": lambda mark: Calls(builtins.exec, f"open({str(mark)!r}, 'w')"),
    "subprocess.Popen": lambda mark: Calls(subprocess.Popen, ["touch", str(mark)]),
    "builtins.open": lambda mark: Calls(builtins.open, str(mark), "w"),
    "builtins.getattr": lambda _: Calls(getattr, Calls(__import__, "os"), "system"),
    "pickle.loads": lambda mark: Calls(pickle.loads, pickle.dumps(Calls(os.system, touch(mark)))),
    "torch.load": lambda mark: Calls(torch.load, str(mark)),
    "numpy.load": lambda mark: Calls(np.load, str(mark)),
    "os.mkdir": lambda mark: Calls(os.mkdir, str(mark)),
}


@pytest.mark.parametrize("payload", HOSTILE)
@pytest.mark.parametrize("place", ["top", "optimizer", "state dict", "legacy", "plain pickle"])
def test_hostile_pickles_are_refused_by_name_and_not_run(tmp_path, network, payload, place):
    mark, path = tmp_path / "ran", tmp_path / "evil.pth"
    evil = HOSTILE[payload](mark)
    state = network.state_dict()
    if place == "top":
        torch.save(evil, path)
    elif place == "optimizer":
        torch.save({"model": state, "optimizer": {"state": {0: {"step": [evil]}}}}, path)
    elif place == "state dict":
        torch.save({"model": {**state, "x": evil}}, path)
    elif place == "legacy":
        torch.save({"model": state, "args": evil}, path, _use_new_zipfile_serialization=False)
    else:
        path.write_bytes(pickle.dumps({"model": evil}, protocol=2))
    with pytest.raises(UnsafeCheckpointError) as refusal:
        read_checkpoint(path)
    assert not mark.exists()
    function = payload.rsplit(".", 1)[1]
    assert function in str(refusal.value) or "__import__" in str(refusal.value)
    assert "not run" in str(refusal.value)


def test_hostile_pickle_in_another_zip_entry(tmp_path, network):
    mark, path = tmp_path / "ran", tmp_path / "evil.pth"
    torch.save({"model": network.state_dict()}, path)
    with zipfile.ZipFile(path, "a") as archive:
        prefix = archive.namelist()[0].split("/")[0]
        archive.writestr(f"{prefix}/constants.pkl", pickle.dumps(HOSTILE["os.system"](mark)))
        archive.writestr("evil/data.pkl", pickle.dumps(HOSTILE["os.system"](mark)))
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert not mark.exists()


def test_zip_bomb_is_refused_before_it_unpacks(tmp_path):
    path = tmp_path / "bomb.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(200_000_000))
    with pytest.raises(UnsafeCheckpointError, match="compressed"):
        read_checkpoint(path)


def test_entries_that_overlap_are_refused(tmp_path, network):
    path = tmp_path / "overlap.pth"
    torch.save({"model": network.state_dict()}, path)
    content = bytearray(path.read_bytes())
    # Central directory record: the uncompressed and compressed sizes stand 20 and 24 bytes in.
    at = content.find(b"PK\x01\x02")
    content[at + 20 : at + 28] = struct.pack("<II", 1 << 31, 1 << 31)
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_a_tensor_larger_than_its_bytes_is_refused(tmp_path):
    path = tmp_path / "long.pth"
    torch.save({"model": {"norm.weight": torch.zeros(4)}}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in entries if name.endswith("data.pkl"))
    # The storage's element count is the BININT1 4 after its device; make the tensor's size and count 200.
    entries[name] = entries[name].replace(b"K\x04", b"K\xc8")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for entry, content in entries.items():
            archive.writestr(entry, content)
    with pytest.raises(CheckpointError):
        inference_tensors(read_checkpoint(path).state("model"), CONFIG)


@pytest.mark.parametrize("keep", [0, 1, 10, 200, 0.5, 0.9, 0.999])
def test_truncated_files_are_refused(tmp_path, checkpoint, keep):
    path = tmp_path / "cut.pth"
    content = checkpoint.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match=r"cut\.pth"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"hello", b"\x80\x02}q\x00.", b"\x89PNG\r\n", bytes(1000), b"\x80\x02K\x01."])
def test_files_that_are_no_checkpoint_are_refused(tmp_path, content):
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_published_layout_is_read_whole(tmp_path, network, legacy, prefix):
    path = tmp_path / "published.pth"
    torch.save({**published_layout(network, prefix=prefix), **OURS}, path, _use_new_zipfile_serialization=not legacy)
    for weights in ("ema", "model"):
        model = load_any(path, weights=weights)
        expected = network.state_dict()["head.weight"] + (weights == "model")
        assert torch.equal(model.tensors["head.weight"], expected)
    assert load_any(path).provenance["weights"] == "ema"
    assert load_any(path).provenance["iteration"] == "1200"
    assert load_any(path).provenance["best_cer"] == "0.0625"


def test_first_generation_loses_its_mask_token(tmp_path, network):
    path = tmp_path / "v1.pth"
    torch.save({"model": {"mask_token": torch.zeros(1, 1, 32), **network.state_dict()}, **OURS}, path)
    assert "mask_token" not in load_any(path).tensors


def test_bare_state_dicts_of_the_published_size_tell_their_configuration():
    with torch.device("meta"):
        state = {name: torch.empty(shape) for name, shape in read_shapes("state_dict_v2.tsv", 91).items()}
    config = infer_config(state)
    assert (config.num_classes, config.embed_dim, config.depth, config.num_heads) == (91, 512, 8, 8)


def test_bare_state_dicts_of_other_sizes_are_refused(tmp_path, network):
    path = tmp_path / "bare.pth"
    torch.save(OrderedDict(network.state_dict()), path)
    with pytest.raises(CheckpointError, match="configuration"):
        load_any(path, CHARSET)


def test_a_checkpoint_without_characters_asks_for_them(tmp_path, network):
    path = tmp_path / "nameless.pth"
    torch.save({"model": network.state_dict(), "network": CONFIG.to_dict()}, path)
    with pytest.raises(CheckpointError, match="--dataset"):
        load_any(path)


def test_a_character_set_of_another_length_is_refused_with_both_numbers(checkpoint):
    with pytest.raises(CharsetError, match=r"3 characters.*4 classes.*has 31"):
        load_any(checkpoint, Charset("abc"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("norm.bias"), "lacks norm.bias"),
        (lambda state: state.update({"extra.weight": torch.zeros(1)}), "unknown tensors: extra.weight"),
        (lambda state: state.update({"norm.bias": torch.zeros(33)}), r"norm.bias has shape \(33,\), expected \(32,\)"),
        (lambda state: state["norm.bias"].fill_(float("nan")), "not finite in norm.bias"),
        (lambda state: state.update({"norm.bias": torch.zeros(32).to_sparse()}), "dense"),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, network, change, said):
    path = tmp_path / "odd.pth"
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    change(state)
    torch.save({"model": state, **OURS}, path)
    with pytest.raises(CheckpointError, match=said):
        load_any(path)


def test_half_precision_weights_become_float32(tmp_path, network):
    path = tmp_path / "half.pth"
    state = {
        name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in network.state_dict().items()
    }
    torch.save({"model": state, **OURS}, path)
    assert load_any(path).tensors["head.weight"].dtype == torch.float32


def test_weights_that_are_not_there_are_asked_for_in_vain(tmp_path, network):
    path = tmp_path / "plain.pth"
    torch.save({"model": network.state_dict(), **OURS}, path)
    assert load_any(path).provenance["weights"] == "model"
    with pytest.raises(CheckpointError, match="no ema weights"):
        load_any(path, weights="ema")


def test_safetensors_round_trip(tmp_path, checkpoint):
    model = load_any(checkpoint)
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    again = load_model(path)
    assert (again.config, again.charset, again.provenance) == (model.config, model.charset, model.provenance)
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in model.tensors.items())


@pytest.mark.parametrize("content", [b"", b"x" * 100, struct.pack("<Q", 1 << 62) + b"{}"])
def test_broken_safetensors_are_refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError):
        load_model(path)


def test_foreign_safetensors_are_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "model.safetensors"
    save_file({"x": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="not written by htr-export"):
        load_model(path)


def test_numpy_states_of_every_age_are_read(tmp_path, network):
    """NumPy 1 pickles its arrays under another module name than NumPy 2."""
    path = tmp_path / "old.pth"
    buffer = io.BytesIO()
    torch.save({"model": network.state_dict(), "numpy_state": np.random.get_state(), **OURS}, buffer)  # noqa: NPY002
    with zipfile.ZipFile(buffer) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in entries if name.endswith("data.pkl"))
    entries[name] = entries[name].replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
    assert b"cnumpy.core.multiarray\n" in entries[name]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for entry, content in entries.items():
            archive.writestr(entry, content)
    assert load_any(path).config == CONFIG
