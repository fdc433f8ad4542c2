"""A few mutated files of every kind, always the same ones; ``python tests/fuzz.py --seconds 3600`` tries more."""

from __future__ import annotations

import pytest
from fuzz import KINDS, run_kind

CASES = 15
SEED = 1

pytestmark = pytest.mark.export


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def kinds(folder):
    from helpers.fuzz_kinds import make_kinds

    return make_kinds(folder)


@pytest.mark.parametrize("name", KINDS)
def test_mutated_files_cost_one_sentence(kinds, folder, name):
    found = [f"{one.case}: {one.what}" for one in run_kind(kinds[name], name, SEED, range(CASES), folder)]
    assert not found, "\n".join(found)


def test_the_names_are_those_of_the_kinds(kinds):
    assert tuple(kinds) == KINDS
