"""pyproject's extras, the registry of backends and the doctor's cures name the same things."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.doctor_machines import install, make_machine, make_orin, with_gpu
from packaging.requirements import Requirement

from htr_engines.backends import backends
from htr_engines.console import EXTRAS as EXTRAS_OF_PACKAGES
from htr_export.doctor.examine import examine
from htr_export.open_model import all_backends

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"
IN_NO_CURE = {"dev"}


@pytest.fixture(scope="module")
def extras():
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    return {
        extra: {Requirement(line).name for line in lines} for extra, lines in project["optional-dependencies"].items()
    }


def test_the_extra_of_a_backend_brings_its_package(extras):
    for backend in all_backends().values():
        assert extras[backend.extra] & set(backend.distributions), backend.name


def test_commands_name_extras_that_exist(extras):
    assert set(EXTRAS_OF_PACKAGES.values()) <= set(extras)


def test_every_extra_is_the_cure_of_a_machine(extras, tmp_path):
    bare = make_machine(tmp_path / "bare")
    pc = with_gpu(make_machine(tmp_path / "pc"), "NVIDIA L4", "580.65.06", "8.9", 23034)
    orin = make_orin(tmp_path / "orin")
    packages = make_machine(tmp_path / "packages")  # of an environment without pycuda
    install(packages, {"tensorrt": "10.3.0"})
    machines = [bare, pc, replace(orin, packages=packages.packages)]
    cures = [finding.cure or "" for machine in machines for finding in examine(machine).findings]
    named = {extra for cure in cures for extra in re.findall(r"htr-export\[(\w+)\]", cure)}
    assert named == set(extras) - IN_NO_CURE


def test_a_generic_backend_is_judged_by_what_it_states(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "htr_export.doctor.examine.backends",
        lambda: {
            **backends(),
            "toy": replace(backends()["openvino"], name="toy", device="cuda:0", distributions=("toy",)),
        },
    )
    machine = make_machine(tmp_path)
    assert ("toy", "not there") in [(finding.topic, finding.status) for finding in examine(machine).findings]
    install(machine, {"toy": "1.0"})
    (text,) = [finding.text for finding in examine(machine).findings if finding.topic == "toy"]
    assert text == "openvino 1.0 has no NVIDIA GPU to run on"
