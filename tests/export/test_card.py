"""The model card of a bundle, as the Hub reads it."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from helpers.drawn import CHARSET

from htr_engines.bundle import open_bundle
from htr_engines.cli import main as htr_read
from htr_export.bundle.card import CARD
from htr_export.cli import main

hub = pytest.importorskip("huggingface_hub")


def run(*arguments):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def shipped(checkpoint, lines_dir, workspace, tmp_path_factory):
    target = tmp_path_factory.mktemp("card") / "streets.htr"
    lines = ["--lines", lines_dir, "--list", workspace / "all.ln", "--accept-few"]
    card = ["--licence", "cc-by-4.0", "--language", "de", "--language", "fr", "--data", "8 lines: drawn\nby a test"]
    run("ship", checkpoint, "-o", target, *lines, *card, "--batch", "2", "--width", "128")
    return target


def test_the_hub_reads_what_was_measured(shipped):
    card = hub.ModelCard.load(shipped / CARD)
    data = card.data.to_dict()
    assert (data["license"], data["language"], data["pipeline_tag"]) == ("cc-by-4.0", ["de", "fr"], "image-to-text")
    assert data["library_name"] == "htr-export"
    results = card.data.eval_results
    assert all(isinstance(result, hub.EvalResult) for result in results)
    assert {result.metric_type for result in results} == {"cer", "wer"}
    (model,) = open_bundle(shipped).manifest["models"]
    measured = {
        (rate, f"{rate.upper()} in per cent, model.onnx on {engine}"): round(one["candidate_rates"][rate], 3)
        for engine, one in model["validations"].items()
        for rate in ("cer", "wer")
    }
    assert {(one.metric_type, one.metric_name): one.metric_value for one in results} == measured


def test_people_read_what_the_network_is(shipped):
    text = (shipped / CARD).read_text(encoding="utf-8")
    assert f"```text\n{CHARSET.characters}\n```" in text
    assert "| trained on | 8 lines: drawn by a test |" in text
    assert "| model.onnx | onnxruntime | 8 |" in text
    assert "htr-read hf://OWNER/NAME" in text


def test_a_card_may_be_edited(shipped):
    (shipped / CARD).write_text("mine", encoding="utf-8")
    assert open_bundle(shipped).changed_files() == []
    assert CliRunner().invoke(htr_read, ["--self-test", str(shipped)]).exit_code == 0


def test_a_bundle_without_proof_claims_no_error_rates(bundle):
    card = hub.ModelCard.load(bundle / CARD)
    assert card.data.eval_results is None
    assert "license" not in card.data.to_dict()
    assert "**Not validated**" in card.text
