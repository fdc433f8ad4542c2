"""``htr-export search``: what is tried, what is kept, what is proven; and that it survives its end."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import ClassVar

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from helpers.search_outcomes import outcome
from hypothesis import given
from hypothesis import strategies as st

from htr_engines.errors import DataError, EngineError
from htr_engines.lines import read_lines
from htr_export.cli import main
from htr_export.onnx.export import write_graph
from htr_export.precision.precision_map import PrecisionMap, read_map
from htr_export.search import inputs
from htr_export.search import search as search_module
from htr_export.search.command import search_command
from htr_export.search.groups import REST
from htr_export.search.inputs import SearchRequest, choose_lines, prepare_source, search_key
from htr_export.search.journal import Journal, Trial
from htr_export.search.report import to_document, write_outputs
from htr_export.search.search import search
from htr_export.search.trial import map_of
from htr_export.validation.caching import CachingEngine
from htr_export.validation.statistics import Interval

PATHS = ["patch_embed", "blocks.0", "down1", "blocks.1", "up1", "blocks.2", "head"]


@pytest.fixture
def request_of(onnx_file, lines_dir, tmp_path):
    def make(**options):
        base = {
            "target": "tensorrt",
            "precisions": ("fp16",),
            "max_cer_increase": 1.0,
            "threads": 1,
            "groups": len(PATHS) + 1,
        }
        options = {**base, **options}
        return SearchRequest(onnx_file, tmp_path / "MAP.toml", lines_dir, **options)

    return make


class FakeBench:
    """Adds up the damage of the lowered groups; each saves a tenth of the time."""

    damages: ClassVar[dict] = {}  # points of CER by group, by default 0
    held_back_factor = 1.0
    saving = 0.1  # share of the time
    savings: ClassVar[dict] = {}  # by precision, where it is another
    stop_after = 1000

    def __init__(self, *_arguments):
        self.tried = 0

    def __enter__(self):
        type(self).last = self
        return self

    def __exit__(self, *_error):
        pass

    def try_lowered(self, lowered, part):
        if self.tried == self.stop_after:
            raise KeyboardInterrupt
        self.tried += 1
        saved = sum(self.savings.get(precision, self.saving) for precision in lowered.values())
        points = sum(self.damages.get(group, 0.0) for group in lowered)
        points *= self.held_back_factor if part == "held back" else 1.0
        result = outcome(1.0 - saved, Interval(points, points - 0.1, points + 0.1))
        return Trial(dict(lowered), part, replace(result, cosine=1.0 - 1e-6 * (1 + points)))


@pytest.fixture
def bench(monkeypatch):
    class Bench(FakeBench):
        pass

    monkeypatch.setattr(search_module, "Bench", Bench)
    return Bench


def lowered_by(result):
    assert result.precision_map is not None, result.reason
    chosen = {group for group, precision in result.precision_map.modules.items() if precision != "fp32"}
    return chosen | ({REST} if result.precision_map.default != "fp32" else set())


def test_groups_that_do_damage_stay(request_of, bench):
    bench.damages = {"head": 5.0, "down1": 0.3, "up1": 0.3, "blocks.0": 0.4}
    result = search(request_of())
    # the interval ends 0.1 above the sum
    assert lowered_by(result) == {*PATHS, REST} - {"head", "blocks.0"}
    assert [trial.part for trial in result.confirmations] == ["held back"]
    assert len(result.single_trials) == len(PATHS) + 1


def test_the_bound_may_be_of_the_estimate(request_of, bench):
    bench.damages = {"head": 1.0}
    assert "head" not in lowered_by(search(request_of()))
    assert "head" in lowered_by(search(request_of(judge="estimate")))


def test_what_breaks_the_bound_on_held_back_lines_is_backed_off_and_then_refused(request_of, bench):
    bench.damages = {"head": 0.4, "blocks.1": 0.4}
    bench.held_back_factor = 2.0
    result = search(request_of())
    assert len(result.confirmations) == 2
    assert not lowered_by(result) & {"head", "blocks.1"}
    bench.damages = dict.fromkeys([*PATHS, REST], 0.1)
    bench.held_back_factor = 100.0
    result = search(request_of(seed=1))
    assert result.precision_map is None
    assert len(result.confirmations) == search_module.CONFIRMATIONS
    assert "breaks the bound of +1 points of CER on the held-back lines" in result.reason


def test_a_plan_that_saves_no_time_is_no_plan(request_of, bench):
    bench.saving = -0.1
    result = search(request_of())
    assert result.precision_map is None
    assert "nothing can be lowered with gain" in result.reason
    assert not result.confirmations


def test_the_aim_may_be_a_smaller_file(request_of, bench):
    bench.saving = -0.1
    result = search(request_of(aim="size"))
    assert lowered_by(result) == {*PATHS, REST}


def test_when_every_group_breaks_the_bound_the_reason_says_so(request_of, bench):
    bench.damages = dict.fromkeys([*PATHS, REST], 3.0)
    result = search(request_of())
    assert result.precision_map is None
    assert "every group alone breaks the bound of +1 points" in result.reason


def test_a_stopped_search_goes_on_where_it_was(request_of, bench):
    request = request_of()
    whole = search(replace(request, output=request.output.with_name("other.toml")))
    needed = bench.last.tried
    bench.stop_after = 4
    with pytest.raises(KeyboardInterrupt):
        search(request)
    assert len(request.journal.read_bytes().splitlines()) == 4
    with request.journal.open("ab") as file:
        file.write(b'{"schema_version": 1, "key": "torn')  # by a power cut
    bench.stop_after = 1000
    result = search(request)
    assert (bench.last.tried, result.reused) == (needed - 4, 4)
    assert result.precision_map == whole.precision_map
    assert search(request).reused == needed
    assert bench.last.tried == 0


@pytest.mark.usefixtures("bench")
def test_the_journal_is_of_one_model_on_some_lines(request_of, onnx_file, tmp_path):
    request = request_of()
    search(request)
    for other in (replace(request, seed=request.seed + 1), replace(request, threads=2), replace(request, limit=6)):
        assert search(other).reused == 0
    assert search(replace(request, max_cer_increase=5.0)).reused > 0, "a bound changes no measurement"
    changed = tmp_path / "changed.onnx"
    model = onnx.load(str(onnx_file))
    model.doc_string = "another"
    onnx.save(model, str(changed))
    assert search(replace(request, model=changed)).reused == 0


@given(st.binary(max_size=60))
def test_no_rubbish_in_a_journal_is_taken_for_a_trial(tmp_path_factory, rubbish):
    path = tmp_path_factory.mktemp("journal") / "MAP.search.jsonl"
    trial = Trial({"head": "int8"}, "measuring", outcome(0.7, Interval(0.1, -0.1, 0.3)))
    path.write_bytes(rubbish)
    Journal(path, "key").add(trial)
    read = Journal(path, "key")
    assert len(read) == 1
    assert read.find({"head": "int8"}, "measuring") == trial
    assert read.find({"head": "int8"}, "held back") is None
    assert len(Journal(path, "other")) == 0


def test_a_failed_trial_is_remembered_too(tmp_path):
    journal = Journal(tmp_path / "j.jsonl", "key")
    journal.add(Trial({"a": "bf16", "b": "bf16"}, "measuring", None, "no such kernel"))
    found = Journal(tmp_path / "j.jsonl", "key").find({"b": "bf16", "a": "bf16"}, "measuring")
    assert (found.outcome, found.failure) == (None, "no such kernel")


def test_held_back_lines_neither_measure_nor_calibrate(request_of, workspace):
    request = request_of(limit=6)
    lines = choose_lines(request)
    measuring, held_back = ({line.name for line in lines.parts[part]} for part in ("measuring", "held back"))
    assert (len(measuring), len(held_back)) == (3, 3)
    assert not measuring & held_back
    assert not {line.name for line in lines.drawn} & held_back
    assert (len(lines.drawn), lines.calibration.lines) == (4, 4)
    assert search_key(request, lines) == search_key(request, choose_lines(request))
    with pytest.raises(DataError, match="too few"):
        choose_lines(replace(request, limit=3))
    with pytest.raises(DataError, match="leaves 0 of the 8 lines to prove a precision map on"):
        choose_lines(replace(request, calibration_list=workspace / "all.ln"))


def test_a_calibration_list_is_drawn_from_whole(request_of, workspace, lines_dir):
    (workspace / "two.ln").write_text("line-1.png\nline-5.png\n", encoding="utf-8")
    lines = choose_lines(request_of(calibration_list=workspace / "two.ln"))
    assert {line.name for line in lines.drawn} == {"line-1.png", "line-5.png"}
    assert lines.calibration.draw(read_lines(lines_dir, workspace / "two.ln")) == lines.drawn


def test_a_change_of_the_code_or_a_library_is_another_search(request_of, monkeypatch):
    request = request_of()
    lines = choose_lines(request)
    keys = {search_key(request, lines)}
    monkeypatch.setattr(inputs, "_code_sha256", lambda: "other code")
    keys.add(search_key(request, lines))
    monkeypatch.setattr(inputs, "describe_environment", lambda: {"libraries": {"onnxruntime": "0"}})
    keys.add(search_key(request, lines))
    assert len(keys) == 3


def test_an_engine_is_asked_once_for_a_batch():
    class Counting:
        calls = 0

        def infer(self, image_N1HW):
            self.calls += 1
            return image_N1HW.sum((1, 2))

    engine = Counting()
    remembering = CachingEngine(engine)
    ones, zeros = np.ones((2, 1, 4, 4), np.float32), np.zeros((2, 1, 4, 4), np.float32)
    for image_N1HW in (ones, zeros, ones, ones.copy(), ones.reshape(1, 1, 8, 4)):
        assert np.array_equal(remembering.infer(image_N1HW), image_N1HW.sum((1, 2)))
    assert engine.calls == 3


def run(request, *options):
    arguments = [
        request.model,
        "-o",
        request.output,
        "--lines",
        request.lines_dir,
        "--threads",
        1,
        "--groups",
        len(PATHS) + 1,
        *options,
    ]
    return CliRunner().invoke(search_command, [str(value) for value in arguments])


@pytest.fixture(scope="module")
def reading_model(tmp_path_factory, onnx_file):
    """A network that reads something, if only rubbish: every change of its logits then shows."""
    path = tmp_path_factory.mktemp("reading") / "model.onnx"
    change_weights(onnx_file, path, "head.bias", lambda values: np.where(np.arange(len(values)) == 0, -1.0, values))
    return path


def change_weights(source, target, name, change):
    model = onnx.load(str(source))
    (tensor,) = (tensor for tensor in model.graph.initializer if tensor.name == name)
    tensor.CopyFrom(onnx.numpy_helper.from_array(change(onnx.numpy_helper.to_array(tensor)).astype(np.float32), name))
    onnx.save(model, str(target))


def test_a_safetensors_is_exported_first(safetensors, onnx_file, tmp_path, monkeypatch):
    asked = []

    def write_none(_model, path, options):
        asked.append(options.opset)
        shutil.copyfile(onnx_file, path)

    monkeypatch.setattr("htr_export.onnx.export.write_graph", write_none)
    exported = prepare_source(safetensors, tmp_path, ("fp16",))
    given = prepare_source(onnx_file, tmp_path, ("fp16",))
    assert exported.graphs.keys() == given.graphs.keys() == {20}
    assert replace(exported, graphs=given.graphs) == given
    both = prepare_source(safetensors, tmp_path, ("bf16", "int8"))
    assert asked == [20, 20, 22], "bfloat16 convolutions need a later opset"
    bf16, int8 = both.graph_for(PrecisionMap("bf16")), both.graph_for(PrecisionMap("int8"))
    assert (bf16, int8) == (both.graphs[22], both.graphs[20])


def test_the_graph_that_is_proven_is_the_one_that_onnx_builds(
    request_of, safetensors, lines_dir, tmp_path, monkeypatch
):
    proven = {}

    class Proof(FakeBench):
        savings: ClassVar[dict] = {"int8": 0.12}

        def __init__(self, _graph, _reader, groups, _lines, lower, calibration):
            super().__init__()
            self.groups, self.lower, self.calibration = groups, lower, calibration

        def try_lowered(self, lowered, part):
            if part == "held back":
                found = map_of(lowered, self.groups, self.calibration)
                self.lower(found, tmp_path / "proven.onnx")
                proven[part] = (tmp_path / "proven.onnx").read_bytes()
            return super().try_lowered(lowered, part)

    monkeypatch.setattr(search_module, "Bench", Proof)
    request = replace(request_of(precisions=("fp16", "int8")), model=safetensors)
    result = search(request)
    write_outputs(result, to_document(result))
    monkeypatch.setattr("htr_export.onnx.export.write_graph", write_graph)  # a second export gives the same bytes
    monkeypatch.setattr("htr_export.onnx.checks.WIDTHS", (256,))
    command = ["onnx", safetensors, "-o", tmp_path / "built.onnx", "--precision", request.output, "--lines", lines_dir]
    built = CliRunner().invoke(main, [str(word) for word in command])
    assert built.exit_code == 0, built.output
    assert (tmp_path / "built.onnx").read_bytes() == proven["held back"]
    assert result.precision_map.precisions == {"fp16", "int8"}
    (tmp_path / "few.ln").write_text("line-1.png\nline-2.png\n", encoding="utf-8")
    for words in (["--list", str(tmp_path / "few.ln")], ["--calibration", "minmax"]):
        refused = CliRunner().invoke(main, [*map(str, command), *words])
        assert refused.exit_code in {1, 2}
        assert "cannot be drawn from the 2 given" in refused.output or "leave --calibration out" in refused.output


def test_from_a_model_to_a_precision_map(request_of, reading_model):
    request = replace(request_of(), model=reading_model)
    result = run(request, "--for", "tensorrt", "--precision", "fp16", "--max-cer-increase", 50)
    assert result.exit_code == 0, result.output
    assert "PASSED: " in result.stdout
    assert "time not measured" in result.stdout
    assert "…" not in result.stdout, "no cell is cut"
    found = read_map(request.output)
    assert "fp16" in found.precisions
    assert "# Found by: " in request.output.read_text(encoding="utf-8")
    page = request.page.read_text(encoding="utf-8")
    assert page.count("<circle") >= len(PATHS) + 2
    assert "a stand-in for time" in page
    again = run(request, "--for", "tensorrt", "--precision", "fp16", "--max-cer-increase", 50, "--json")
    document = json.loads(again.stdout)
    assert document["passed"]
    assert document["precision_map"]["modules"] == dict(found.modules)
    assert not set(document["inputs"]["measuring"]) & set(document["inputs"]["held_back"])
    assert {trial["outcome"]["latency"]["rounds"] for trial in document["alone"]} == {0}


def test_a_group_that_ruins_the_readings_is_found(request_of, reading_model, lines_dir, tmp_path, monkeypatch):
    def blank(values):
        return np.where(np.arange(len(values)) == 0, 1000.0, values)

    def lower_badly(self, plan, target):
        if plan.precision_of("head") == "fp32":
            shutil.copyfile(self.source.float32, target)
        else:
            change_weights(self.source.float32, target, "head.bias", blank)

    monkeypatch.setattr(search_module.SearchLowering, "__call__", lower_badly)
    without_transcripts = tmp_path / "lines"
    without_transcripts.mkdir()
    for image in lines_dir.glob("*.png"):
        shutil.copy(image, without_transcripts)
    result = search(replace(request_of(), model=reading_model, lines_dir=without_transcripts))
    assert lowered_by(result) == {*PATHS, REST} - {"head"}
    ruined = next(trial.outcome for trial in result.single_trials if "head" in trial.lowered)
    assert ruined.max_abs > 900
    assert ruined.changed == ruined.lines
    assert ruined.cer_increase.estimate == 100.0


def test_time_is_measured_in_turns(request_of, monkeypatch):
    monkeypatch.setattr("htr_export.search.timing.ROUNDS", 3)
    monkeypatch.setattr("htr_export.search.timing.FEWEST", 3)
    request = replace(request_of(), target="onnxruntime")
    result = run(request, "--precision", "fp16", "--json", "--max-cer-increase", 50)
    document = json.loads(result.stdout)
    times = [trial["outcome"]["latency"] for trial in document["alone"]]
    assert all(time["rounds"] == 3 and time["low"] <= time["ratio"] <= time["high"] for time in times)
    assert all(time["cpu_ratio"] > 0 for time in times)
    assert result.exit_code == (0 if document["passed"] else 3)
    assert request.output.exists() == document["passed"]


def test_a_graph_that_the_engine_refuses_costs_its_trial_only(request_of, monkeypatch):
    def refuse(_self, _plan, _target):
        raise EngineError("no such kernel")

    monkeypatch.setattr(search_module.SearchLowering, "__call__", refuse)
    result = search(request_of())
    assert result.precision_map is None
    assert "no lowered graph runs, the first because no such kernel" in result.reason


def test_failure_leaves_a_page_and_no_plan(request_of, bench):
    bench.damages = dict.fromkeys([*PATHS, REST], 3.0)
    request = request_of()
    result = run(request, "--precision", "fp16")
    assert result.exit_code == 3
    assert "FAILED: nothing can be lowered" in result.stdout
    assert request.page.is_file()
    assert not request.output.exists()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--groups", "3"], 1, "3 groups are too few for the 7 top-level modules and the rest; give --groups 8"),
        (["--precision", "int4"], 2, "'int4' is none of fp16, bf16, int8"),
        (["--list", "missing.ln"], 1, "missing.ln does not exist"),
        (["--limit", "2"], 1, "2 lines are too few"),
        (["-o", "map.json"], 2, "should be a file that ends in .toml"),
    ],
)
def test_wrong_options_end_in_a_sentence(request_of, options, code, message):
    result = run(request_of(), *options)
    assert result.exit_code == code
    assert message in result.output


def test_wrong_models_end_in_a_sentence(request_of, onnx_file, tmp_path):
    lowered = onnx.load(str(onnx_file))
    for entry in lowered.metadata_props:
        if entry.key == "precision":
            entry.value = "fp16"
    onnx.save(lowered, str(tmp_path / "fp16.onnx"))
    (tmp_path / "empty.onnx").write_bytes(b"")
    (tmp_path / "torn.onnx").write_bytes(onnx_file.read_bytes()[:5000])
    (tmp_path / "model.pth").write_bytes(b"x")
    for name, message in {
        "fp16.onnx": "is fp16 already",
        "empty.onnx": "not a whole ONNX file",
        "torn.onnx": "not a whole ONNX file",
        "missing.onnx": "does not exist",
        "model.pth": "strip the checkpoint first",
    }.items():
        result = run(replace(request_of(), model=tmp_path / name))
        assert result.exit_code == 1, name
        assert message in result.output, name
