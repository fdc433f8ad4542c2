"""Plans of precisions: what they mean, what the file may hold, and how a mistake in it is told."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from htr_export.precision.precision_map import (
    PRECISIONS,
    PrecisionPlan,
    PrecisionPlanError,
    format_plan,
    parse_plan,
    read_plan,
    write_plan,
)

HEAD = 'schema_version = 1\ndefault = "fp16"\n'
paths = st.lists(st.from_regex(r"[a-z_0-9]{1,8}", fullmatch=True), min_size=1, max_size=4).map(".".join)
plans = st.builds(
    PrecisionPlan, st.sampled_from(PRECISIONS), st.dictionaries(paths, st.sampled_from(PRECISIONS), max_size=5)
)


@given(plans, st.text(max_size=40))
def test_a_plan_is_read_as_it_was_written(plan, comment):
    assert parse_plan(format_plan(plan, comment)) == plan


@given(st.one_of(st.text(max_size=60), st.text(max_size=60).map(lambda text: HEAD + text)))
def test_any_text_is_a_plan_or_an_error(text):
    with contextlib.suppress(PrecisionPlanError):
        assert parse_plan(text).default in PRECISIONS


def test_a_plan_survives_its_file(tmp_path):
    plan = PrecisionPlan("fp16", {"head": "fp32"})
    write_plan(plan, tmp_path / "plan.toml", "CER 25.8 %\nof 447 lines")
    assert (tmp_path / "plan.toml").read_text(encoding="utf-8").startswith("# CER 25.8 %\n# of 447 lines\n")
    assert read_plan(tmp_path / "plan.toml") == plan


def test_the_longest_path_counts_and_only_whole_names():
    plan = PrecisionPlan("fp16", {"blocks.1": "int8", "blocks.1.attn": "fp32"})
    said = {module: plan.precision_of(module) for module in ("blocks.1.attn.qkv", "blocks.1.ffn1", "blocks.10", "head")}
    assert said == {"blocks.1.attn.qkv": "fp32", "blocks.1.ffn1": "int8", "blocks.10": "fp16", "head": "fp16"}


def test_a_plan_in_a_word_and_what_it_needs():
    assert (PrecisionPlan("int8").name, PrecisionPlan("int8").float_precision) == ("int8", "fp32")
    assert PrecisionPlan("fp16", {"head": "fp16"}).name == "fp16"
    mixed = PrecisionPlan("fp16", {"head": "int8"})
    assert (mixed.name, mixed.float_precision, mixed.lowest_opset) == ("mixed", "fp16", 19)
    assert PrecisionPlan("fp32", {"head": "bf16"}).lowest_opset == 22


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + '[modules]\n"head" = "fp8"', "no precision is called 'fp8'; choose one of fp32, fp16, bf16, int8"),
        (HEAD + "[modules]\nblocks.1 = 'fp32'", "begins with 'blocks' should be in quotation marks"),
        (HEAD + "[modules]\n'blocks..1' = 'fp32'", "'blocks..1' is no module"),
        (HEAD + "modules = 3", "modules should be a table"),
        (HEAD + "[module]", "there is no entry 'module'; did you mean 'modules'?"),
        ('default = "fp16"', "schema_version is None, this release knows 1"),
        ('schema_version = 2\ndefault = "fp16"', "schema_version is 2, this release knows 1"),
        ("schema_version = 1", "default is missing"),
        ("schema_version = 1\ndefault = ['fp16']", "no precision is called"),
        (HEAD + "[modules", "is not TOML"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    path = tmp_path / "plan.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PrecisionPlanError) as caught:
        read_plan(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_missing_file_and_a_folder(tmp_path):
    for path in (tmp_path, tmp_path / "none.toml"):
        with pytest.raises(PrecisionPlanError, match="cannot be read"):
            read_plan(path)


def test_a_path_that_leads_nowhere_gets_the_nearest_that_does():
    modules = ["blocks.0.attn.qkv", "blocks.0.ffn1", "head"]
    PrecisionPlan("fp16", {"blocks": "int8", "blocks.0.attn": "fp32", "head": "fp32"}).check_fits(modules)
    with pytest.raises(PrecisionPlanError, match=r"no module 'block.0.attn'; did you mean 'blocks.0.attn'\?"):
        PrecisionPlan("fp16", {"block.0.attn": "fp32"}).check_fits(modules)
