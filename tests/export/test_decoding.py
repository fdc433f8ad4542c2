"""A language model on its way: tuned, validated, bundled, read with."""

from __future__ import annotations

import json
import pickle
import shutil

import helpers.needs_export  # noqa: F401
import pytest
from click.testing import CliRunner
from helpers.cut_exports import ESCRIPTORIUM_PAGE
from helpers.cut_fakes import paper, save_page

from htr_engines import Recognizer
from htr_engines.beam import BeamOptions
from htr_engines.bundle import open_bundle
from htr_engines.cli import main as htr_read
from htr_engines.decoder import DecoderOptions
from htr_engines.errors import BundleError, DataError, DecoderError
from htr_engines.files import sha256_of
from htr_export.cli import main as htr_export
from htr_export.decoding import GREEDY, read_decoding, tuned_path
from htr_export.tuning.tune import LENGTH_BONUSES, LM_WEIGHTS
from htr_export.validation.report import load_report
from htr_training.language_model import build_language_model

LOOSE = ("--accept-few", "--max-cer-increase", "500")  # the network reads nonsense


def run(command, *arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def lm(workspace, onnx_file, lines_dir):
    """A language model with its weights; what tuning printed stands beside it."""
    path = workspace / "lm.htrlm"
    build_language_model([f"zeile {letter}" for letter in "abcdefgh"], path, 3)
    result = run(htr_export, "tune-decoder", onnx_file, "--lm", path, "--lines", lines_dir, "--beam", 4)
    assert result.exit_code == 0, result.output
    path.with_suffix(".txt").write_text(result.stdout, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def beam_bundle(workspace, lm, safetensors, onnx_file, lines_dir):
    """A bundle that was validated with its beam search."""
    report, output = workspace / "beam-report", workspace / "beam.htr"
    files = ["--reference", safetensors, "--candidate", onnx_file, "--lines", lines_dir, "--report", report]
    result = run(htr_export, "validate", *files, "--lm", lm, *LOOSE)
    assert result.exit_code == 0, result.output
    assert "Note: Both were decoded as the bundle will: beam 4, lm.htrlm x" in result.stdout
    assert "decoder: CER over greedy decoding" in result.stdout
    result = run(htr_export, "bundle", onnx_file, "-o", output, "--report", report, "--lm", lm)
    assert result.exit_code == 0, result.output
    return output


@pytest.fixture
def copy(beam_bundle, tmp_path):
    shutil.copytree(beam_bundle, tmp_path / "copy.htr")
    return tmp_path / "copy.htr"


def edit_manifest(folder, edit):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    edit(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


def test_tuning_writes_the_best_weights_beside_the_model(lm):
    document = json.loads(tuned_path(lm).read_text(encoding="utf-8"))
    assert document["kind"] == "htr-export tune-decoder"
    assert len(document["trials"]) == len(LM_WEIGHTS) * len(LENGTH_BONUSES)
    assert document["cer"]["beam"] == min(trial["cer"] for trial in document["trials"])
    decoding = read_decoding(lm)
    assert decoding.options == BeamOptions(**document["options"])
    assert decoding.options.beam == 4
    assert f"CER {document['cer']['greedy']:.2f} % on 8 lines" in lm.with_suffix(".txt").read_text(encoding="utf-8")


def test_weights_of_another_language_model_are_refused(tmp_path, lm):
    other = tmp_path / "other.htrlm"
    build_language_model(["etwas anderes"], other, 3)
    assert read_decoding(other).options == BeamOptions()
    shutil.copyfile(tuned_path(lm), tuned_path(other))
    with pytest.raises(DataError, match="another language model"):
        read_decoding(other)
    assert read_decoding(None) == GREEDY


@pytest.mark.usefixtures("beam_bundle")
def test_the_report_says_how_it_was_decoded(workspace, lm):
    report = load_report(workspace / "beam-report")
    assert report["inputs"]["decoding"]["language_model_sha256"] == sha256_of(lm)
    assert report["result"]["cer_increase_of_decoder"] is not None
    for name in ("report.html", "report.md"):
        assert "beam 4" in (workspace / "beam-report" / name).read_text(encoding="utf-8")


def test_the_manifest_holds_the_decoder_and_the_schema_describes_it(beam_bundle, lm):
    from importlib.resources import files

    jsonschema = pytest.importorskip("jsonschema")
    manifest = json.loads((beam_bundle / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["schema_version"] == 4
    assert manifest["decoding"]["method"] == "ctc-beam"
    assert manifest["files"]["lm.htrlm"]["sha256"] == sha256_of(lm)
    assert manifest["models"][0]["validation"]["passed"]
    schema = json.loads((files("htr_engines") / "schemas" / "manifest.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(manifest)
    assert "beam search with the character language model" in (beam_bundle / "README.md").read_text(encoding="utf-8")
    assert open_bundle(beam_bundle).beam == read_decoding(lm).options


@pytest.mark.usefixtures("beam_bundle")
def test_a_report_on_another_decoder_is_refused(workspace, tmp_path, onnx_file):
    result = run(htr_export, "bundle", onnx_file, "-o", tmp_path / "a.htr", "--report", workspace / "beam-report")
    assert result.exit_code == 1
    assert "another decoder than the bundle's (greedy); validate again without --lm" in result.output


def test_htr_read_uses_the_decoder_of_the_bundle(beam_bundle, lines_dir):
    own = run(htr_read, beam_bundle, lines_dir, "--json", "--n-best", 3)
    assert own.exit_code == 0, own.output
    assert "decoder: beam 4, lm.htrlm x" in own.stderr
    rows = [json.loads(row) for row in own.stdout.splitlines()]
    for row in rows:
        assert 1 <= len(row["alternatives"]) <= 3
        assert row["alternatives"][0]["text"] == row["text"]
    greedy = run(htr_read, beam_bundle, lines_dir, "--decoder", "greedy")
    assert greedy.exit_code == 0
    assert "decoder: greedy (not the one that was proven)" in greedy.stderr
    assert greedy.stdout.splitlines() != [row["text"] for row in rows]
    heavy = run(htr_read, beam_bundle, lines_dir, "--lm-weight", 5, "--beam", 8)
    assert "beam 8, lm.htrlm x 5" in heavy.stderr
    assert "not the one that was proven" in heavy.stderr


def test_readings_with_alternatives_are_as_the_schema_describes(beam_bundle, lines_dir):
    from importlib.resources import files

    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((files("htr_engines") / "schemas" / "readings.schema.json").read_text(encoding="utf-8"))
    for row in run(htr_read, beam_bundle, lines_dir, "--json", "--n-best", 2).stdout.splitlines():
        jsonschema.Draft202012Validator(schema).validate(json.loads(row))


def test_pages_are_read_with_the_same_decoder(beam_bundle, tmp_path):
    pytest.importorskip("lxml")
    page = paper()
    page[30:50, 40:300:8] = page[110:130, 40:200:6] = 40
    save_page(tmp_path / "pages", "0001_p001.jpg", page)
    (tmp_path / "pages" / "0001_p001.xml").write_text(ESCRIPTORIUM_PAGE, encoding="utf-8")
    arguments = [beam_bundle, tmp_path / "pages", "-o", tmp_path / "out", "--format", "jsonl"]
    result = run(htr_read, *arguments, "--n-best", 2)
    assert result.exit_code == 0, result.output
    written = (tmp_path / "out" / "0001_p001.jsonl").read_text(encoding="utf-8")
    several = [json.loads(row) for row in written.splitlines()]
    assert several
    assert all(row["alternatives"][0]["text"] == row["text"] for row in several)
    assert "skipped" in run(htr_read, *arguments, "--n-best", 2).stderr
    assert "skipped" not in run(htr_read, *arguments, "--decoder", "greedy").stderr  # another reading


def test_a_cluster_reads_with_the_decoder_of_the_bundle(beam_bundle, lines_dir, tmp_path):
    for change in (("--decoder", "greedy"), ("--beam", 2), ("--lm-weight", 0), ("--n-best", 2)):
        result = run(htr_read, beam_bundle, lines_dir, "--ray", "local", "-o", tmp_path / "out", *change)
        assert result.exit_code == 2
        assert "the bundle's own decoder" in result.output


def test_a_bundle_without_a_language_model(bundle, lines_dir):
    plain = run(htr_read, bundle, lines_dir)
    assert "decoder" not in plain.stderr
    beam = run(htr_read, bundle, lines_dir, "--decoder", "beam", "--n-best", 2, "--json")
    assert beam.exit_code == 0, beam.output
    assert all("alternatives" in json.loads(row) for row in beam.stdout.splitlines())
    for options, said in (
        (("--n-best", 2), "greedy decoding weighs nothing"),
        (("--decoder", "greedy", "--lm-weight", 1), "greedy decoding weighs nothing"),
        (("--decoder", "beam", "--lm-weight", 1), "no language model"),
    ):
        result = run(htr_read, bundle, lines_dir, *options)
        assert (result.exit_code, result.stdout) == (1, "")
        assert said in result.stderr


def test_the_self_test_covers_both_decoders(copy):
    result = run(htr_read, "--self-test", copy)
    assert result.exit_code == 0, result.output
    assert "line-0.png, beam 4, lm.htrlm x" in result.output

    def other_text(manifest):
        manifest["golden"][0]["models"]["model.onnx"]["decoded"] = "zzz"

    edit_manifest(copy, other_text)
    result = run(htr_read, "--self-test", copy)
    assert result.exit_code == 3
    assert "not 'zzz'" in result.output


def test_a_changed_language_model_is_refused(copy):
    content = bytearray((copy / "lm.htrlm").read_bytes())
    content[-1] ^= 1
    (copy / "lm.htrlm").write_bytes(content)
    with pytest.raises(BundleError, match=r"lm\.htrlm; copy it again"):
        Recognizer(copy)

    def as_if_meant(manifest):
        manifest["files"]["lm.htrlm"]["sha256"] = sha256_of(copy / "lm.htrlm")

    edit_manifest(copy, as_if_meant)
    with pytest.raises(BundleError, match="is damaged"):
        Recognizer(copy)


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "ctc-magic"},
        {"beam": {"beam": 0}},
        {"beam": {"lm_weight": -1}},
        {"language_model": "../lm.htrlm"},
        {"language_model": "none.htrlm"},
    ],
)
def test_damaged_decoders_are_refused(copy, wrong):
    edit_manifest(copy, lambda manifest: manifest["decoding"].update(wrong))
    with pytest.raises(BundleError):
        open_bundle(copy)


def test_the_recognizer_takes_a_decoder(beam_bundle, lines_dir):
    image = lines_dir / "line-0.png"
    with Recognizer(beam_bundle) as own, Recognizer(beam_bundle, decoder="greedy") as greedy:
        assert own.decoder.is_own
        assert not own.read(image).alternatives
        assert greedy.read(image).text != own.read(image).text
    options = DecoderOptions(beam=2, n_best=2)
    with Recognizer(beam_bundle, decoder=options) as first, pickle.loads(pickle.dumps(first)) as second:  # noqa: S301
        assert first.read(image) == second.read(image)
        assert len(second.read(image).alternatives) == 2
    with pytest.raises(DecoderError, match="at least one"):
        Recognizer(beam_bundle, decoder=DecoderOptions(beam=0))


def test_ship_takes_a_language_model(checkpoint, lines_dir, workspace, tmp_path, lm):
    arguments = ["ship", checkpoint, "-o", tmp_path / "a.htr", "--lines", lines_dir, "--list", workspace / "all.ln"]
    arguments += ["--batch", "2", "--width", "128", "--lm", lm, *LOOSE]
    first = run(htr_export, *arguments)
    assert first.exit_code == 0, first.output
    assert run(htr_export, *arguments).stdout.count("unchanged") == 4
    assert run(htr_read, "--self-test", tmp_path / "a.htr").exit_code == 0
    tuned_path(lm).with_suffix(".bak").write_bytes(tuned_path(lm).read_bytes())
    document = json.loads(tuned_path(lm).read_text(encoding="utf-8"))
    document["options"]["lm_weight"] += 0.25
    try:
        tuned_path(lm).write_text(json.dumps(document), encoding="utf-8")
        assert run(htr_export, *arguments).stdout.count("unchanged") == 2  # strip and onnx
    finally:
        tuned_path(lm).with_suffix(".bak").replace(tuned_path(lm))
