"""Bundles of several models: which one reads here, by which engine, and why."""

from __future__ import annotations

import json
import shutil
import sys

import helpers.needs_export  # noqa: F401
import pytest
from click.testing import CliRunner
from helpers.bench_fakes import make_onnx
from helpers.cuda_fakes import Gpu
from helpers.drawn import draw_line
from helpers.trt_fakes import install, profile, write_plan

from htr_engines import Recognizer
from htr_engines.backends import open_engine
from htr_engines.bundle import open_bundle
from htr_engines.checks import Check
from htr_engines.cli import main as htr_read
from htr_engines.errors import BundleError, DataError, EngineError, ParityError
from htr_engines.files import sha256_of
from htr_engines.host import Host, describe_environment, hardware_of
from htr_engines.limits import tolerance_of
from htr_engines.selection import candidates, select
from htr_export.bundle.writer import write_bundle
from htr_export.cli import main as htr_export
from htr_export.validation.run import ValidationRequest, validate_files


def make_report(folder, model, engine="onnxruntime", *, passed=True):
    """Write the part of a validation report that a bundle uses."""
    folder.mkdir()
    rates = {"cer": 5.0, "wer": 20.0}
    result = {
        "mode": "transcripts",
        "lines": 100,
        "changed": 0,
        "reference_rates": rates,
        "candidate_rates": rates,
        "cer_increase": {"estimate": 0.0, "low": 0.0, "high": 0.0},
        "wer_increase": {"estimate": 0.0, "low": 0.0, "high": 0.0},
        "options": {"max_cer_increase": 0.1},
    }
    document = {
        "schema_version": 1,
        "passed": passed,
        "verdict": "PASSED on 100 lines" if passed else "FAILED",
        "created": "2026-11-22T12:00:00+00:00",
        "inputs": {
            "candidate": {"file": model.name, "sha256": sha256_of(model), "engine": engine},
            "lines_sha256": "0" * 64,
        },
        "samples": [],
        "result": result,
    }
    (folder / "report.json").write_text(json.dumps(document), encoding="utf-8")
    return folder


def make_latency(path, figures, hardware=None):
    """Write the part of a latency report that a bundle uses: seconds by model and engine."""
    environment = describe_environment() if hardware is None else {"cpu": hardware, "physical_cores": 4, "gpus": []}
    targets = [
        {
            "sha256": sha256_of(model),
            "engine": {"engine": engine},
            "measurements": [
                {"batch": 1, "scope": "engine", "stable": True, "timing": {"percentiles": {"p50": seconds}}}
            ],
        }
        for (model, engine), seconds in figures.items()
    ]
    document = {"kind": "htr-bench latency", "environment": environment, "targets": targets}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def read(*arguments):
    return CliRunner().invoke(htr_read, [str(argument) for argument in arguments])


def selected(bundle, engine=None):
    """Return engine and file of what a bundle is read with, and the whole line about it."""
    found = select(open_bundle(bundle), engine)
    with found.engine as opened:
        return opened.info.engine, found.candidate.model.file.name, str(found)


@pytest.fixture(autouse=True)
def _cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def _processor(monkeypatch):
    """A processor with the dot products of INT8, whatever this one has."""
    monkeypatch.setattr(Host, "saturates_int8", lambda _host: False)


@pytest.fixture
def gpu(monkeypatch):
    gpu = Gpu()
    install(monkeypatch, gpu)
    return gpu


@pytest.fixture
def fp32(tmp_path):
    return make_onnx(tmp_path / "model.onnx")


@pytest.fixture
def int8(tmp_path):
    return make_onnx(tmp_path / "model.int8.onnx", "int8")


@pytest.fixture
def plans(tmp_path, fp32):
    """A plan for this GPU and one for a Jetson, both in FP16."""
    here = write_plan(tmp_path / "model.sm86.plan", fp32, [profile(1, 4, 8)])
    return here, write_plan(tmp_path / "model.sm87.plan", fp32, [profile(1, 4, 8)], compute_capability="8.7")


@pytest.fixture
def image(tmp_path):
    draw_line("abc", (64, 64)).save(tmp_path / "line.png")
    return tmp_path / "line.png"


def test_on_a_cpu_the_fastest_is_int8_if_it_is_as_well_proven(tmp_path, fp32, int8):
    write_bundle([fp32, int8], tmp_path / "a.htr")
    assert selected(tmp_path / "a.htr")[:2] == ("openvino", "model.int8.onnx")
    reports = [make_report(tmp_path / "r1", fp32), make_report(tmp_path / "r2", int8)]
    write_bundle([fp32, int8], tmp_path / "b.htr", reports)
    assert selected(tmp_path / "b.htr")[:2] == ("onnxruntime", "model.int8.onnx")
    reports.append(make_report(tmp_path / "r3", int8, "openvino"))
    write_bundle([fp32, int8], tmp_path / "c.htr", reports)
    assert selected(tmp_path / "c.htr")[:2] == ("openvino", "model.int8.onnx")


def test_openvino_does_not_read_int8_where_its_sums_saturate(tmp_path, fp32, int8, monkeypatch):
    reports = [make_report(tmp_path / engine, int8, engine) for engine in ("onnxruntime", "openvino")]
    write_bundle([fp32, int8], tmp_path / "a.htr", reports)
    assert selected(tmp_path / "a.htr")[:2] == ("openvino", "model.int8.onnx")
    monkeypatch.setattr(Host, "saturates_int8", lambda _host: True)
    engine, file, why = selected(tmp_path / "a.htr")
    assert (engine, file) == ("onnxruntime", "model.int8.onnx")
    assert "openvino with model.int8.onnx (it is INT8, and OpenVINO's sums saturate on this processor" in why
    assert selected(tmp_path / "a.htr", "openvino")[:2] == ("openvino", "model.onnx")
    mixed = make_onnx(tmp_path / "m.onnx", "mixed", precision_map='{"default": "fp32", "modules": {"head": "int8"}}')
    with pytest.raises(EngineError, match="give an FP32 file"):
        open_engine(mixed, "openvino")


def test_a_verdict_belongs_to_a_file_and_an_engine(tmp_path, fp32, int8):
    reports = [
        make_report(tmp_path / "r", fp32),
        make_report(tmp_path / "s", fp32, "openvino"),
        make_report(tmp_path / "t", int8),
        make_report(tmp_path / "u", int8, "openvino", passed=False),
    ]
    manifest = write_bundle([int8, fp32], tmp_path / "a.htr", reports)
    assert [list(entry["validations"]) for entry in manifest["models"]] == [
        ["onnxruntime"],
        ["onnxruntime", "openvino"],
    ]
    assert "openvino" not in manifest["models"][0]["engines"]  # on which the model failed
    assert selected(tmp_path / "a.htr")[:2] == ("onnxruntime", "model.int8.onnx")
    engine, file, why = selected(tmp_path / "a.htr", "openvino")
    assert (engine, file) == ("openvino", "model.onnx")
    assert "PASSED on 100 lines with openvino" in why


def test_manifests_of_one_verdict_still_open(tmp_path, fp32):
    write_bundle([fp32], tmp_path / "a.htr", [make_report(tmp_path / "r", fp32)])
    path = tmp_path / "a.htr" / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    del manifest["models"][0]["validations"]
    path.write_text(json.dumps(manifest), encoding="utf-8")
    (model,) = open_bundle(tmp_path / "a.htr").models
    assert model.verdicts == {"onnxruntime": "PASSED on 100 lines"}
    assert "not validated with openvino, but with onnxruntime" in selected(tmp_path / "a.htr", "openvino")[2]


def test_an_engine_that_fails_the_self_test_is_not_used(tmp_path, fp32, monkeypatch):
    from htr_export.bundle import proof

    def fail_on(engines):
        def self_test(_bundle, _model, engine):
            yield Check(engine.info.engine not in engines, "line-0.png: reads 'b', not 'a'")

        monkeypatch.setattr(proof, "self_test", self_test)

    fail_on({"openvino"})
    manifest = write_bundle([fp32], tmp_path / "a.htr")
    assert manifest["models"][0]["self_test_failed"] == ["openvino"]
    assert selected(tmp_path / "a.htr")[0] == "onnxruntime"
    fail_on({"openvino", "onnxruntime"})
    with pytest.raises(ParityError, match="does not pass its self-test"):
        write_bundle([fp32], tmp_path / "b.htr")
    assert not (tmp_path / "b.htr").exists()


def test_a_faster_model_without_proof_is_not_taken_and_that_is_said(tmp_path, fp32, int8):
    manifest = write_bundle([int8, fp32], tmp_path / "a.htr", [make_report(tmp_path / "r", fp32)])
    assert [entry["validation"]["passed"] for entry in manifest["models"]] == [False, True]
    engine, file, why = selected(tmp_path / "a.htr")
    assert (engine, file) == ("onnxruntime", "model.onnx")
    assert "(fp32; PASSED on 100 lines with onnxruntime)" in why
    assert "openvino with model.int8.onnx, model.onnx (not validated)" in why
    assert "\n" not in why


def test_the_proof_of_one_model_says_nothing_of_another(tmp_path, fp32, int8):
    report = make_report(tmp_path / "r", fp32)
    with pytest.raises(BundleError, match="about another file"):
        write_bundle([int8], tmp_path / "a.htr", [report])
    with pytest.raises(BundleError, match=r"two of the reports are about model\.onnx"):
        write_bundle([fp32, int8], tmp_path / "a.htr", [report, make_report(tmp_path / "s", fp32)])
    with pytest.raises(ParityError, match="FAILED"):
        write_bundle([fp32, int8], tmp_path / "a.htr", [report, make_report(tmp_path / "t", int8, passed=False)])
    assert not (tmp_path / "a.htr").exists()


def test_of_several_plans_the_one_for_this_gpu_is_taken(gpu, tmp_path, fp32, plans, image):
    reports = [make_report(tmp_path / "r0", fp32)]
    reports += [make_report(tmp_path / f"r{path.name}", path, "tensorrt") for path in plans]
    write_bundle([fp32, *reversed(plans)], tmp_path / "a.htr", reports)
    result = read(tmp_path / "a.htr", image, "-v")
    assert result.exit_code == 0, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("tensorrt reads model.sm86.plan (fp16; PASSED on 100 lines with tensorrt)")
    assert "model.sm87.plan (it was built for compute capability 8.7, this GPU has compute capability 8.6)" in line
    assert result.stdout == read(tmp_path / "a.htr", image, "--engine", "onnxruntime").stdout
    assert gpu.leaks() == {}


def test_without_its_gpu_a_bundle_of_plans_is_read_on_the_cpu(monkeypatch, tmp_path, fp32, plans, image):
    gpu = Gpu()
    gpu.devices = 0
    install(monkeypatch, gpu)
    write_bundle([fp32, *plans], tmp_path / "a.htr")  # needs no GPU either
    result = read(tmp_path / "a.htr", image, "-v")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("openvino reads model.onnx")
    assert "tensorrt with model.sm86.plan, model.sm87.plan (there is no NVIDIA GPU here)" in result.stderr
    forced = read(tmp_path / "a.htr", image, "--engine", "tensorrt")
    assert forced.exit_code == 1
    assert "no NVIDIA GPU here; check it with nvidia-smi" in forced.stderr


def test_a_plan_is_validated_and_bundled_like_any_other_file(gpu, tmp_path, fp32, plans, image):
    (tmp_path / "lines").mkdir()
    for name in ("a.png", "b.png", "c.png"):
        shutil.copyfile(image, tmp_path / "lines" / name)
    request = ValidationRequest(fp32, plans[0], tmp_path / "lines", report=tmp_path / "report")
    document = validate_files(request).document
    assert document["passed"] is True
    candidate = document["inputs"]["candidate"]
    assert (candidate["engine"], candidate["precision"]) == ("tensorrt", "fp16")
    write_bundle([fp32, *plans], tmp_path / "a.htr", [tmp_path / "report"])
    engine, file, why = selected(tmp_path / "a.htr")
    assert (engine, file) == ("tensorrt", "model.sm86.plan")
    assert "with tensorrt)" in why
    assert gpu.leaks() == {}


def test_int8_engines_may_differ_more_than_others():
    limits = [
        tolerance_of(*what).machine for what in (("fp32", "cpu"), ("fp32", "cuda:0"), ("fp16", "cpu"), ("int8", "cpu"))
    ]
    assert limits == [0.01, 0.5, 0.5, 2.0]


def test_figures_measured_on_this_machine_decide(tmp_path, fp32, int8):
    figures = {(fp32, "onnxruntime"): 0.1, (int8, "openvino"): 0.3, (fp32, "openvino"): 0.2}
    latency = make_latency(tmp_path / "l.json", figures)
    write_bundle([fp32, int8], tmp_path / "a.htr", latencies=[latency])
    order = [(candidate.engine, candidate.model.precision) for candidate in candidates(open_bundle(tmp_path / "a.htr"))]
    assert order == [
        ("onnxruntime-cuda", "fp32"),
        ("onnxruntime-cuda", "int8"),
        ("onnxruntime", "fp32"),
        ("onnxruntime", "int8"),  # was not measured and keeps its place
        ("openvino", "fp32"),
        ("openvino", "int8"),
    ]
    assert selected(tmp_path / "a.htr")[:2] == ("onnxruntime", "model.onnx")
    elsewhere = make_latency(tmp_path / "m.json", figures, "another CPU")
    write_bundle([fp32, int8], tmp_path / "b.htr", latencies=[elsewhere])
    assert selected(tmp_path / "b.htr")[:2] == ("openvino", "model.int8.onnx")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"kind": "htr-bench latency"}', '{"kind": "x"}'])
def test_what_is_no_latency_report_is_refused(tmp_path, fp32, content):
    (tmp_path / "l.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="htr-bench latency"):
        write_bundle([fp32], tmp_path / "a.htr", latencies=[tmp_path / "l.json"])


def test_the_hardware_of_a_measurement_is_its_cpu_its_cores_and_its_gpus():
    environment = {"cpu": "X", "physical_cores": 8, "gpus": [{"name": "NVIDIA H100"}]}
    assert hardware_of(environment) == "X x 8, NVIDIA H100"


def test_slow_starters_are_taken_only_by_name(tmp_path, fp32):
    write_bundle([fp32], tmp_path / "a.htr")
    bundle = open_bundle(tmp_path / "a.htr")
    assert {candidate.engine for candidate in candidates(bundle)} == {"onnxruntime-cuda", "openvino", "onnxruntime"}
    assert [candidate.engine for candidate in candidates(bundle, "onnxruntime-tensorrt")] == ["onnxruntime-tensorrt"]


def test_nothing_that_fits_is_said_with_every_reason(gpu, tmp_path, fp32, plans):
    gpu.capability = (7, 5)
    write_bundle([fp32, *plans], tmp_path / "a.htr")
    manifest = json.loads((tmp_path / "a.htr" / "manifest.json").read_text(encoding="utf-8"))
    manifest["models"] = manifest["models"][1:]
    (tmp_path / "a.htr" / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(EngineError, match=r"nothing on this machine runs .*8\.6, this GPU .* 7\.5.*8\.7, this GPU"):
        Recognizer(tmp_path / "a.htr")


def test_self_test_runs_every_engine_that_fits(gpu, tmp_path, fp32, int8, plans):
    write_bundle([fp32, int8, *plans], tmp_path / "a.htr")
    result = read("--self-test", tmp_path / "a.htr")
    assert result.exit_code == 0, result.output
    verdicts = [line for line in result.stdout.splitlines() if not line.startswith("-[")]
    assert verdicts == [
        "tensorrt with model.sm86.plan reads as expected",
        "openvino with model.int8.onnx reads as expected",
        "onnxruntime with model.int8.onnx reads as expected",
        "openvino with model.onnx reads as expected",
        "onnxruntime with model.onnx reads as expected",
    ]
    assert "left out: tensorrt with model.sm87.plan (it was built for compute capability 8.7" in result.stderr
    assert gpu.leaks() == {}


def test_each_model_is_compared_with_what_it_read_itself(gpu, tmp_path, fp32, plans):
    """A plan for another GPU is compared with the most precise model."""
    manifest = write_bundle([*plans, fp32], tmp_path / "a.htr")
    line = manifest["golden"][0]
    assert set(line["models"]) == {"model.onnx", "model.sm86.plan"}
    assert line["reference"] == line["models"]["model.onnx"]
    golden, bundle = open_bundle(tmp_path / "a.htr").golden[0], open_bundle(tmp_path / "a.htr")
    assert [golden.expected(model).logits.name for model in bundle.models] == [
        "line-0.model.sm86.plan.npy",
        "line-0.model.onnx.npy",
        "line-0.model.onnx.npy",
    ]
    assert gpu.leaks() == {}


def test_plans_alone_need_a_machine_that_runs_one(gpu, tmp_path, plans):
    write_bundle([plans[0]], tmp_path / "a.htr")
    assert selected(tmp_path / "a.htr")[:2] == ("tensorrt", "model.sm86.plan")
    gpu.devices = 0
    with pytest.raises(BundleError, match=r"add the ONNX file \(there is no NVIDIA GPU"):
        write_bundle(list(plans), tmp_path / "b.htr")


def test_a_plan_travels_with_its_sidecar_and_both_are_checked(gpu, tmp_path, fp32, plans):
    write_bundle([fp32, plans[0]], tmp_path / "a.htr")
    bundle = open_bundle(tmp_path / "a.htr")
    assert {"model.sm86.plan", "model.sm86.plan.json"} <= set(bundle.manifest["files"])
    assert bundle.manifest["models"][1]["gpus"] == "compute capability 8.6"
    (tmp_path / "a.htr" / "model.sm86.plan.json").write_text("{}", encoding="utf-8")
    assert bundle.changed_files() == ["model.sm86.plan.json"]
    bundle.manifest["files"].pop("model.sm86.plan.json")
    (tmp_path / "a.htr" / "manifest.json").write_text(json.dumps(bundle.manifest), encoding="utf-8")
    with pytest.raises(BundleError, match=r"model\.sm86\.plan\.json has no SHA-256"):
        open_bundle(tmp_path / "a.htr")
    assert gpu.leaks() == {}


def test_what_does_not_belong_together_is_not_bundled(tmp_path, fp32, plans):
    other = make_onnx(tmp_path / "other.onnx", source_sha256="6" * 64)
    with pytest.raises(BundleError, match="different characters or networks"):
        write_bundle([other, plans[0]], tmp_path / "a.htr")
    with plans[0].open("ab") as file:
        file.write(b" ")
    with pytest.raises(BundleError, match="is not what was built: it has"):
        write_bundle([fp32, plans[0]], tmp_path / "a.htr")
    plans[1].with_name("model.sm87.plan.json").unlink()
    with pytest.raises(EngineError, match=r"has no model\.sm87\.plan\.json"):
        write_bundle([fp32, plans[1]], tmp_path / "a.htr")
    with pytest.raises(BundleError, match="does not exist"):
        write_bundle([fp32, tmp_path / "none.plan"], tmp_path / "a.htr")
    with pytest.raises(BundleError, match=r"no \.onnx file and no \.plan"):
        write_bundle([fp32, shutil.copyfile(fp32, tmp_path / "model.xml")], tmp_path / "a.htr")
    assert not (tmp_path / "a.htr").exists()


def test_the_command_says_what_is_proven(tmp_path, fp32, int8):
    report = make_report(tmp_path / "r", fp32)
    arguments = ["bundle", fp32, int8, "-o", tmp_path / "a.htr", "--report", report]
    result = CliRunner().invoke(htr_export, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    assert "model  model.onnx (fp32): PASSED on 100 lines" in result.stdout
    assert "model  model.int8.onnx (int8): not validated" in result.stdout


def test_an_engine_that_is_not_installed_is_rejected(monkeypatch, tmp_path, fp32, image):
    write_bundle([fp32], tmp_path / "a.htr")
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert read(tmp_path / "a.htr", image).stderr == "onnxruntime reads model.onnx (fp32; not validated)\n"
    assert read(tmp_path / "a.htr", image, "-q").stderr == ""
    result = read(tmp_path / "a.htr", image, "-v")
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith("onnxruntime reads model.onnx (fp32; not validated); rejected: ")
    assert "openvino with model.onnx (not installed)" in result.stderr
