from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from helpers.recorded_progress import RecordedProgress
from helpers.validation_fakes import CHARSET, PREPROCESSING, FakeEngine, make_lines

from htr_engines.beam import BeamDecoder, BeamOptions
from htr_engines.ctc import decode_greedy
from htr_engines.errors import DataError, ParityError
from htr_engines.limits import tolerance_of
from htr_engines.lines import Line
from htr_export.validation.batching import check_batching
from htr_export.validation.parity import ValidationOptions, validate
from htr_export.validation.tensors import TensorTally

TEXTS = ["abc", "ga", "fedc", "b", "", "gfedcba"]


def run(candidate, lines, **options):
    return validate(
        FakeEngine(),
        candidate,
        lines,
        charset=CHARSET,
        preprocessing=PREPROCESSING,
        options=ValidationOptions(resamples=500, batch_size=4, **options),
    )


def failed(result) -> set[str]:
    return {check.name for check in result.checks if not check.passed}


@pytest.fixture
def lines(tmp_path):
    return make_lines(tmp_path / "lines", TEXTS)


def test_the_fakes_read_what_is_drawn(lines):
    result = run(FakeEngine(), lines)
    assert [record.reference for record in result.records] == TEXTS
    assert result.reference_rates.cer == 0


def test_an_equal_candidate_passes(lines):
    result = run(FakeEngine(), lines)
    assert result.passed
    assert result.mode == "transcripts"
    assert (result.changed, result.tensors.max_abs, result.tensors.argmax_agreement) == (0, 0, 1)
    assert result.tensors.cosine == pytest.approx(1)
    assert (result.cer_increase.low, result.cer_increase.high) == (0, 0)
    assert result.tensors.frames == 16 * len(TEXTS)


def test_noise_without_consequence_passes(lines):
    result = run(FakeEngine(noise=0.1), lines)
    assert result.passed
    assert 0.1 < result.tensors.max_abs < 1
    assert result.tensors.cosine < 1


def test_a_candidate_that_misreads_fails(lines):
    result = run(FakeEngine(shift=1, shifted_frames=1), lines)
    assert failed(result) == {"accuracy"}
    assert result.cer_increase.high > 0.1
    assert result.candidate_rates.cer > result.reference_rates.cer == 0
    assert result.changed == len(TEXTS)  # the empty line too: its first frame becomes a character


def test_the_bound_decides(lines):
    misreading = FakeEngine(shift=1, shifted_frames=1)
    high = run(misreading, lines).cer_increase.high
    assert run(misreading, lines, max_cer_increase=high).passed
    assert not run(misreading, lines, max_cer_increase=high - 1e-6).passed


def test_a_better_candidate_passes(lines):
    result = validate(
        FakeEngine(shift=1, shifted_frames=1),
        FakeEngine(),
        lines,
        charset=CHARSET,
        preprocessing=PREPROCESSING,
        options=ValidationOptions(resamples=100),
    )
    assert result.passed
    assert result.cer_increase.high < 0


def test_a_candidate_as_wrong_as_its_reference_passes(lines):
    result = run(FakeEngine(), [dataclasses.replace(line, text="gggg") for line in lines])
    assert result.passed
    assert result.candidate_rates.cer == result.reference_rates.cer > 0


def test_logits_that_are_not_finite_fail(lines):
    result = run(FakeEngine(nan=True), lines)
    assert {"finite", "equal rows", "order", "batch size"} <= failed(result)
    assert result.tensors.candidate_not_finite == 2  # one in each of two batches
    assert result.tensors.max_abs == 0  # over the finite ones


def test_lines_that_leak_into_each_other_fail(lines):
    result = run(FakeEngine(leak=0.01), lines)
    assert failed(result) == {"batch size"}
    assert result.batching.single > result.batching.tolerance


def test_a_model_of_fixed_batch_is_consistent(lines):
    assert run(FakeEngine().with_batch(1), lines).passed
    assert run(FakeEngine().with_batch(3), lines).passed


def test_order_that_matters_is_found():
    class Positional(FakeEngine):
        def infer(self, image_N1HW):
            return super().infer(image_N1HW) + np.arange(len(image_N1HW), dtype=np.float32)[:, None, None]

    image_N1HW = np.random.default_rng(0).random((4, 1, 64, 64), np.float32)
    result = check_batching(Positional(), image_N1HW, 1e-3)
    assert (result.equal_rows, result.order, result.single) == (3, 3, 3)


def test_a_single_line_is_tried_with_its_mirror_image(tmp_path):
    result = run(FakeEngine(), make_lines(tmp_path, ["ab"]))
    assert result.batching.batch == 2
    assert result.passed


def test_without_transcripts_agreement_is_judged(tmp_path):
    lines = make_lines(tmp_path, TEXTS, transcripts=False)
    same = run(FakeEngine(), lines)
    assert same.passed
    assert (same.mode, same.reference_rates, same.candidate_rates.cer) == ("agreement", None, 0)
    other = run(FakeEngine(shift=1, shifted_frames=1), lines)
    assert failed(other) == {"accuracy"}
    assert other.cer_increase.estimate == pytest.approx(other.candidate_rates.cer)


def test_lines_without_transcript_count_for_the_logits_only(lines):
    lines[1] = dataclasses.replace(lines[1], text=None)
    result = run(FakeEngine(), lines)
    assert (result.lines, result.lines_with_transcript) == (6, 5)
    assert result.records[1].reference_errors is None
    assert result.tensors.frames == 6 * 16


@pytest.mark.parametrize("position", [0, 3, 5])
def test_images_that_cannot_be_read_are_left_out_by_name(lines, position):
    lines[position].image.write_bytes(b"no image")
    progress = RecordedProgress()
    result = validate(
        FakeEngine(),
        FakeEngine(),
        lines,
        charset=CHARSET,
        preprocessing=PREPROCESSING,
        options=ValidationOptions(resamples=100, batch_size=4),
        progress=progress,
    )
    assert [line.name for line in result.skipped] == [lines[position].name]
    assert lines[position].name in result.skipped[0].reason
    assert result.lines == 5
    assert progress.done == 6


def test_no_readable_image_is_an_error(tmp_path):
    missing = Line("gone.png", tmp_path / "gone.png", "a")
    with pytest.raises(DataError, match=r"gone\.png"):
        run(FakeEngine(), [missing])
    with pytest.raises(DataError, match="no line"):
        run(FakeEngine(), [])


def test_logits_of_another_shape_are_a_parity_error(lines):
    class Narrow(FakeEngine):
        def infer(self, image_N1HW):
            return super().infer(image_N1HW)[:, :, :-1]

    with pytest.raises(ParityError, match=r"\[4, 16, 7\] where the reference gives \[4, 16, 8\]"):
        run(Narrow(), lines)


def test_tensor_tally_against_plain_numpy():
    random = np.random.default_rng(3)
    was = random.normal(size=(6, 5, 4)).astype(np.float32)
    now = was + random.normal(size=was.shape).astype(np.float32) / 10
    tally = TensorTally()
    max_N = np.concatenate([tally.add(was[:2], now[:2]), tally.add(was[2:], now[2:])])
    found = tally.result()
    np.testing.assert_allclose(max_N, np.abs(was - now).max((1, 2)), rtol=1e-6)
    assert found.max_abs == pytest.approx(np.abs(was - now).max())
    assert found.mean_abs == pytest.approx(np.abs(was - now).mean(), rel=1e-5)
    assert found.cosine == pytest.approx(np.vdot(was, now) / np.linalg.norm(was) / np.linalg.norm(now), rel=1e-5)
    assert found.argmax_agreement == (was.argmax(-1) == now.argmax(-1)).mean()


def test_huge_logits_do_not_overflow():
    tally = TensorTally()
    tally.add(np.full((1, 1, 2), 3e38, np.float32), np.full((1, 1, 2), -3e38, np.float32))
    assert tally.result().max_abs == pytest.approx(6e38)
    assert tally.result().cosine == pytest.approx(-1)


@pytest.mark.parametrize(
    ("precision", "device", "like"),
    [
        ("fp32", "cpu", "fp32"),
        ("fp32", "cuda:0", "tf32"),
        ("fp16", "cuda:0", "fp16"),
        ("mixed", "cpu", "int8"),
        ("fp8", "cpu", "fp16"),
    ],
)
def test_tolerance_goes_by_precision(precision, device, like):
    assert tolerance_of(precision, device) == tolerance_of(like, "cpu")


def decoded(lines, decode, **options):
    return validate(
        FakeEngine(),
        FakeEngine(),
        lines,
        charset=CHARSET,
        preprocessing=PREPROCESSING,
        options=ValidationOptions(resamples=500, batch_size=4, **options),
        decode=decode,
    )


def test_a_decoder_that_reads_worse_than_greedy_decoding_fails(lines):
    def forgetful(logits_NTC):
        return [dataclasses.replace(one, text=one.text[1:]) for one in decode_greedy(logits_NTC, CHARSET)]

    result = decoded(lines, forgetful)
    assert failed(result) == {"decoder"}  # the candidate reads what its reference reads
    assert result.cer_increase.high == 0 < result.cer_increase_of_decoder.high
    assert result.records[0].candidate == "bc"
    assert decoded(lines, forgetful, max_cer_increase=100.0).passed


def test_a_decoder_as_good_as_greedy_decoding_passes(lines):
    result = decoded(lines, BeamDecoder(CHARSET, BeamOptions()))
    assert result.passed
    assert result.cer_increase_of_decoder.estimate == 0
    assert run(FakeEngine(), lines).cer_increase_of_decoder is None
