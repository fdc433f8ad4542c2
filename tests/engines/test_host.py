"""Facts of a machine, from texts as real machines have them."""

from __future__ import annotations

import json
import sys

import pytest

from htr_engines import host
from htr_engines.backends.tensorrt.cuda_memory import CudaDevice
from htr_engines.backends.tensorrt.rtx_cache import cache_path
from htr_engines.host import Answer, Host, describe_environment, run_program
from htr_engines.versions import release, short

PROPRIETARY = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12 19:39:15 UTC 2024\n"
    "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n"
)
OPEN = (
    "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@U22-I3-AM02)  "
    "Tue Sep 23 09:55:41 UTC 2025\nGCC version:  gcc version 13.3.0 (Ubuntu 13.3.0-6ubuntu2~24.04)\n"
)
OPEN_ARM = OPEN.replace("x86_64", "aarch64")
TEGRA = "NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build  (buildbrain@mobile)\n"


@pytest.mark.parametrize(
    ("text", "driver"),
    [
        (PROPRIETARY, "535.183.01"),
        (OPEN, "580.95.05"),
        (OPEN_ARM, "580.95.05"),
        (TEGRA, "540.4.0"),
        ("NVRM version: something else for x86_64\n", None),
        (None, None),
    ],
)
def test_the_driver_of_proprietary_and_open_kernel_modules(tmp_path, text, driver):
    if text is not None:
        file = tmp_path / "proc/driver/nvidia/version"
        file.parent.mkdir(parents=True)
        file.write_text(text, encoding="utf-8")
    assert Host(tmp_path).kernel_driver() == driver
    gpu = CudaDevice("NVIDIA L4", "8.9", "13.0", 1)
    expected = f"driver{driver}" if driver else "cuda13.0"
    name = cache_path("a" * 64, "1.7.1", gpu, Host(tmp_path)).name
    assert name == f"aaaaaaaaaaaaaaaa-rtx1.7.1-NVIDIA_L4-sm8.9-{expected}.rtxcache"


def test_gpus_by_field():
    fields = ("name", "memory.total")
    rows = "NVIDIA L4, 23034 MiB\nNVIDIA A10, [N/A]\n"
    found, error = Host(run=lambda _: Answer(0, rows)).query_gpus(fields)
    assert (found[0], error) == ({"name": "NVIDIA L4", "memory.total": "23034 MiB"}, None)
    assert Host(run=lambda _: None).query_gpus(fields) == ([], None)
    assert Host(run=lambda _: Answer(9, "It failed.\nMore.\n")).query_gpus(fields) == ([], "It failed.")


def test_the_environment_is_fit_for_json():
    environment = describe_environment()
    assert json.loads(json.dumps(environment))["physical_cores"] >= 1
    assert environment["cpu"]
    assert "numpy" in environment["libraries"]


def test_a_program_that_hangs_or_is_missing_costs_only_its_time(monkeypatch):
    assert run_program([sys.executable, "-c", "import sys; sys.stdout.buffer.write(b'\\xff'); sys.exit(3)"]).code == 3
    monkeypatch.setattr(host, "PROGRAM_TIMEOUT_S", 0.2)
    assert run_program([sys.executable, "-c", "import time; time.sleep(60)"]) is None
    assert run_program(["no-such-program"]) is None


@pytest.mark.parametrize(
    ("version", "numbers", "three"),
    [
        ("10.3.0.26", (10, 3, 0, 26), "10.3.0"),
        ("2.13.0+cpu", (2, 13, 0), "2.13.0"),
        ("1.24.0rc1", (1, 24, 0), "1.24.0"),
        ("[N/A]", (), "[N/A]"),
        ("", (), ""),
    ],
)
def test_numbers_of_versions(version, numbers, three):
    assert release(version) == numbers
    assert short(version) == three


@pytest.mark.parametrize(
    ("cpuinfo", "saturates"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni\n", False),
        ("flags\t\t: fpu avx2 avx_vnni\n", False),
        ("flags\t\t: fpu avx2 avx512f\n", True),
        ("Features\t: fp asimd\n", False),
        ("", False),
    ],
)
def test_where_sums_of_int8_saturate(tmp_path, cpuinfo, saturates):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(cpuinfo, encoding="utf-8")
    assert Host(tmp_path).saturates_int8() is saturates
