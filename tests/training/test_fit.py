"""The whole training, on a handful of lines: what it leaves behind, and what it survives."""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers.drawn import CHARSET
from helpers.fit_helpers import ROOT, command, environment, equal, read, start, write_data
from helpers.golden_weights import read_shapes
from helpers.small import published_layout

from htr_engines.charset import preset
from htr_engines.errors import CharsetError
from htr_export.network.config import NetworkConfig
from htr_export.network.model import HTRConvText
from htr_training.cli import main
from htr_training.data import FittedLines, TrainingBatches, choose_charset, read_split
from htr_training.errors import TrainingError
from htr_training.order import Order
from htr_training.recipe import Recipe
from htr_training.recipe_file import read_recipe
from htr_training.resume import initialise_from, restore
from htr_training.state import new_state, save, to_checkpoint, write
from htr_training.step import Stepper

WEIGHTS = ("model", "state_dict_ema", "tcm_head", "optimizer")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory, recipe):
    """The output folder of an uninterrupted training, and what the command said."""
    output = tmp_path_factory.mktemp("run") / "out"
    return output, run(recipe, output).stderr


def run(recipe, output, *options, code=0):
    result = CliRunner().invoke(main, command(recipe, output, *options))
    assert result.exit_code == code, result.output
    return result


def rows(output):
    return [json.loads(row) for row in (output / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_what_a_training_leaves(trained):
    output, said = trained
    names = {path.name for path in output.iterdir()}
    assert names == {"last.pth", "best_CER.pth", "best_WER.pth", "log.jsonl", "report.html"}
    log = rows(output)
    assert [row["iteration"] for row in log if row["kind"] == "val"] == [5, 10, 12]
    training = [row for row in log if row["kind"] == "train"]
    assert training[-1]["iteration"] == 12
    assert {"total", "ctc", "tcm", "rate", "lines_per_s", "data_wait"} <= training[0].keys()
    validation = log[-1]
    assert {"cer", "wer", "loss"} <= validation.keys()
    assert validation["examples"][0].keys() == {"name", "truth", "prediction"}
    assert "6 lines to learn from, 2 to validate on" in said
    assert "was read as" in said


def test_checkpoint_has_the_published_layout(trained):
    content = torch.load(trained[0] / "last.pth", weights_only=False)
    published = {
        *("model", "state_dict_ema", "optimizer", "nb_iter", "best_cer", "best_wer", "args", "random_state"),
        *("numpy_state", "torch_state", "torch_cuda_state", "train_loss", "train_loss_count", "tcm_head"),
    }
    assert content.keys() == published | {"charset", "network", "scaler"}
    assert content["nb_iter"] == 12
    assert isinstance(content["numpy_state"][1], np.ndarray)
    assert content["args"]["optimizer"]["batch"] == 4
    assert read(trained[0] / "last.pth").keys() == content.keys()


def test_names_at_base_size_are_the_published_ones():
    state = new_state(Recipe(), preset("iam"), torch.device("cpu"))
    content = to_checkpoint(state, Recipe())
    for part, manifest in (("model", "state_dict_v2.tsv"), ("tcm_head", "tcm_state_dict.tsv")):
        shapes = {name: tuple(tensor.shape) for name, tensor in content[part].items()}
        assert shapes == read_shapes(manifest, 80)
    assert content["state_dict_ema"].keys() == content["model"].keys()


def test_killed_and_resumed_is_bit_identical(tmp_path, recipe, trained):
    output = tmp_path / "killed"
    process = start(command(recipe, output, "--resume", "auto", "--set", "data.workers=1"))
    deadline = time.monotonic() + 60
    while not (output / "last.pth").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert 3 <= read(output / "last.pth")["nb_iter"] < 12
    with (output / "log.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"kind": "train", "itera')
    run(recipe, output, "--resume", "auto")
    one, other = read(trained[0] / "last.pth"), read(output / "last.pth")
    assert all(equal(one[name], other[name]) for name in WEIGHTS)
    assert (one["best_cer"], one["best_wer"]) == (other["best_cer"], other["best_wer"])
    assert [row["iteration"] for row in rows(output)] == [row["iteration"] for row in rows(trained[0])]


def test_a_finished_training_is_not_begun_again(recipe, trained):
    before = (trained[0] / "last.pth").read_bytes()
    assert "already holds a training" in run(recipe, trained[0], code=1).stderr
    run(recipe, trained[0], "--resume", "auto")
    assert (trained[0] / "last.pth").read_bytes() == before


def test_an_exploding_loss_stops_and_keeps_the_last_checkpoint(tmp_path, recipe):
    output = tmp_path / "out"
    run(recipe, output, "--set", "schedule.iterations=3")
    before = (output / "last.pth").read_bytes()
    result = run(recipe, output, "--resume", "auto", "--set", "schedule.max_rate=1e30", code=1)
    assert "lower schedule.max_rate" in result.stderr
    assert (output / "last.pth").read_bytes() == before


def test_weights_that_are_not_finite_are_not_saved(tmp_path, recipe):
    state = tiny_state(recipe)
    with torch.no_grad():
        state.learner.network.head.bias[0] = float("nan")
    with pytest.raises(TrainingError, match="no longer finite"):
        save(state, read_recipe(recipe), tmp_path / "last.pth")
    assert not list(tmp_path.iterdir())


def test_a_full_disk_loses_nothing(tmp_path, recipe):
    state = tiny_state(recipe)
    path = tmp_path / "last.pth"
    save(state, read_recipe(recipe), path)
    before = path.read_bytes()
    state.iteration = 7
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"."):
            save(state, read_recipe(recipe), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["last.pth"]  # noqa: PTH208


def test_training_goes_on_while_checkpoints_cannot_be_written(tmp_path, recipe, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("htr_training.loop.save", refuse)
    result = run(recipe, tmp_path / "out", "--set", "schedule.iterations=6", code=1)
    assert result.stderr.count("last.pth could not be written") == 3
    assert "the disk is full" in result.stderr
    assert "6/6" in result.stderr


def test_bad_data_is_refused_before_training(tmp_path, recipe):
    folder = tmp_path / "data"
    shutil.copytree(recipe.parent, folder)
    (folder / "lines" / "1.png").write_bytes(b"no image")
    (folder / "lines" / "2.txt").unlink()
    result = run(recipe, tmp_path / "out", "--set", f"data.root={folder}", code=1)
    assert "1.png" in result.stderr
    assert "2.png" in result.stderr
    assert not (tmp_path / "out" / "last.pth").exists()


def test_an_image_that_breaks_on_the_way_loses_nothing(tmp_path, recipe, monkeypatch):
    from htr_engines.errors import ImageError

    decode = FittedLines._decode
    calls = []

    def break_later(self, number):
        calls.append(number)
        if len(calls) > 30:
            raise ImageError("3.png is a damaged image; save it again or leave it out")
        return decode(self, number)

    monkeypatch.setattr(FittedLines, "_decode", break_later)
    output = tmp_path / "out"
    result = run(recipe, output, "--set", "data.cache=false", "--set", "run.save_every=100", code=1)
    assert "3.png is a damaged image" in result.stderr
    assert read(output / "last.pth")["nb_iter"] > 5


def test_switches(tmp_path, recipe):
    changes = ["optimizer.sam_rho=0.0", "loss.tcm_weight=0", "optimizer.accumulate=2", "optimizer.clip_norm=1"]
    options = [part for change in changes for part in ("--set", change)]
    run(recipe, tmp_path / "out", *options, "--set", "schedule.iterations=3")
    assert "tcm_head" not in read(tmp_path / "out" / "last.pth")


def test_tensorboard(tmp_path, recipe):
    pytest.importorskip("tensorboard")
    output = tmp_path / "out"
    run(recipe, output, "--set", "run.tensorboard=true", "--set", "schedule.iterations=3")
    assert list((output / "tensorboard").iterdir())


@pytest.mark.parametrize("generation", [1, 2])
def test_continuing_a_published_checkpoint(tmp_path, recipe, generation):
    source = new_state(read_recipe(recipe), charset_of(recipe), torch.device("cpu"))
    content = published_layout(source.learner.network)
    content["tcm_head"] = source.learner.tcm.state_dict()
    if generation == 1:
        for part in ("model", "state_dict_ema"):
            content[part]["module.mask_token"] = torch.zeros(1, 1, 32)
    torch.save(content, tmp_path / "published.pth")
    state = tiny_state(recipe)
    notes = restore(state, tmp_path / "published.pth")
    assert state.iteration == 1200
    assert state.best_cer == 0.0625
    expected = content["model"]["module.head.weight"]
    assert torch.equal(state.learner.network.head.weight, expected)
    # Its optimiser knows nothing of the TCM's parameters.
    assert notes == ["the checkpoint's optimiser state does not fit; its moments are collected again"]
    # Tuning would start this very process again, without the tests that are left.
    changes = ["--set", "schedule.iterations=1202", "--set", "run.tune=false"]
    result = run(recipe, tmp_path / "out", "--resume", str(tmp_path / "published.pth"), *changes)
    assert "at iteration 1200" in result.stderr
    assert read(tmp_path / "out" / "last.pth")["nb_iter"] == 1202


def test_resuming_with_other_characters_is_refused(recipe, trained):
    state = new_state(read_recipe(recipe), CHARSET, torch.device("cpu"))
    with pytest.raises(CharsetError, match="--init-from"):
        restore(state, trained[0] / "last.pth")


def test_fine_tuning_on_other_characters(recipe, trained):
    source = read(trained[0] / "best_CER.pth")
    state = new_state(read_recipe(recipe), CHARSET, torch.device("cpu"))
    fresh = state.learner.network.head.weight.detach().clone()
    notes = initialise_from(state, trained[0] / "best_CER.pth")
    head = state.learner.network.head.weight
    known = source["charset"]
    for number, character in enumerate(CHARSET.characters, 1):
        expected = (
            source["state_dict_ema"]["head.weight"][known.index(character) + 1] if character in known else fresh[number]
        )
        assert torch.equal(head[number], expected), character
    assert torch.equal(head[0], source["state_dict_ema"]["head.weight"][0])
    tcm = state.learner.tcm
    assert torch.equal(tcm.emb.weight[CHARSET.encode("a")[0]], source["tcm_head"]["emb.weight"][known.index("a") + 1])
    assert not tcm.emb.weight[-1].any()
    name = "patch_embed.conv1.weight"
    assert torch.equal(state.learner.network.state_dict()[name], source["state_dict_ema"][name])
    assert torch.equal(state.average.network.state_dict()[name], source["state_dict_ema"][name])
    assert notes[0].startswith(f"{len(known)} of {len(CHARSET.characters)} characters")
    assert state.iteration == 0


def test_fine_tuning_without_known_characters(tmp_path, recipe):
    network = HTRConvText(NetworkConfig(11, **read_recipe(recipe).network.sizes()))
    torch.save(published_layout(network), tmp_path / "published.pth")
    state = tiny_state(recipe)
    notes = initialise_from(state, tmp_path / "published.pth")
    assert notes[0].startswith("0 of ")
    assert notes[1].startswith("the textual context module is trained from the start")


def test_accumulated_gradients_are_those_of_the_whole_batch(recipe):
    gradients = []
    for parts in (1, 2):
        options = ["optimizer.sam_rho=0.0", "network.dropout=0.0", "network.drop_path=0.0", "loss.tcm_dropout=0.0"]
        changed = read_recipe(recipe, [*options, "loss.tcm_weight=0", f"optimizer.accumulate={parts}"])
        state = new_state(changed, charset_of(recipe), torch.device("cpu"))
        # Batch statistics belong to a part, so the parts are made alike.
        for module in state.learner.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 0.0
        stepper = Stepper(changed, state)
        state.learner.eval()
        stepper._backward(first_batch(changed))
        gradients.append([parameter.grad.clone() for parameter in state.learner.parameters()])
    for whole, summed in zip(*gradients, strict=True):
        assert torch.allclose(whole, summed, rtol=1e-3, atol=1e-6)


def test_slim_checkpoints_still_serve(tmp_path, recipe, trained):
    target = tmp_path / "slim.pth"
    result = CliRunner().invoke(main, ["slim", str(trained[0] / "best_CER.pth"), "-o", str(target)])
    assert result.exit_code == 0, result.output
    content = read(target)
    assert {"model", "state_dict_ema", "tcm_head", "charset", "network", "nb_iter"} <= content.keys()
    assert not {"optimizer", "torch_state"} & content.keys()
    assert initialise_from(tiny_state(recipe), target)
    write(content, target)


def test_two_processes_learn_like_one(tmp_path, recipe):
    """The same loss, gradients and batch statistics, on gloo."""
    script = [str(ROOT / "tests" / "helpers" / "fit_two_processes.py"), str(recipe)]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for launcher, target in ((torchrun, "two.pth"), ([], "one.pth")):
        line = [sys.executable, *launcher, *script, str(tmp_path / target)]
        done = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    one, two = torch.load(tmp_path / "one.pth"), torch.load(tmp_path / "two.pth")
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
    for part in ("gradients", "model"):
        for name, value in one[part].items():
            if value is not None:
                reach = 1e-4 * value.abs().max().item() + 1e-5
                assert torch.allclose(value, two[part][name], rtol=0, atol=reach), name


def charset_of(recipe):
    data = read_recipe(recipe).data
    return choose_charset(data, read_split(data))


def tiny_state(recipe):
    return new_state(read_recipe(recipe), charset_of(recipe), torch.device("cpu"))


def first_batch(recipe):
    from htr_engines.preprocess import Preprocessing

    split = read_split(recipe.data)
    lines = FittedLines(split.train, Preprocessing(recipe.network.image_width), cache=False)
    charset = choose_charset(recipe.data, split)
    return TrainingBatches(lines, charset, recipe.augment, Order(len(lines), 1), seed=1, batch=4)[0]


def test_profile(tmp_path, recipe):
    target = tmp_path / "profile.json"
    result = CliRunner().invoke(main, ["profile", str(recipe), "--steps", "2", "-o", str(target)])
    assert result.exit_code == 0, result.output
    document = json.loads(target.read_text(encoding="utf-8"))
    assert sum(document["shares"].values()) == pytest.approx(1)
    assert document["shares"]["backward"] > 0
    assert document["lines_per_step"] == 4


def test_texts_that_are_too_long_are_skipped_by_name(tmp_path):
    recipe = write_data(tmp_path)
    (tmp_path / "lines" / "1.txt").write_text("abcdef" * 3, encoding="utf-8")  # the network has 16 outputs
    result = run(recipe, tmp_path / "out", "--set", "schedule.iterations=3")
    assert "note: 1 texts are longer than the 16 outputs of the network; skipped: 1.png" in result.stderr
    assert "5 lines to learn from" in result.stderr
    for number in range(8):
        (tmp_path / "lines" / f"{number}.txt").write_text("abcdef" * 3, encoding="utf-8")
    result = run(recipe, tmp_path / "none", code=1)
    assert "no line to learn from is left; a wider network" in result.stderr


def test_a_training_ends_with_its_curves_and_the_next_command(trained, tmp_path, recipe):
    output = tmp_path / "my run"
    result = run(recipe, output, "--set", "schedule.iterations=5")
    data = recipe.parent
    words = ["htr-export", "ship", str(output / "best_CER.pth"), "-o", "my run.htr"]
    words += ["--lines", str(data / "lines"), "--list", str(data / "val.ln")]
    assert f"next     {shlex.join(words)}" in result.stdout
    page = (trained[0] / "report.html").read_text(encoding="utf-8")
    assert page.count("<polyline") == 4
    assert "CER, last" in page
    assert "<script" not in page
