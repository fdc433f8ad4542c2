"""The doctor on a small container and on this machine; its report and its command."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace

import pytest
from click.testing import CliRunner
from helpers.doctor_machines import (
    EXPORT,
    GIB,
    able,
    install,
    install_onnxruntime_gpu,
    install_tensorrt,
    make_machine,
    make_orin,
    of,
    put,
    status,
    with_gpu,
)

from htr_engines.host import run_program
from htr_export.cli import main
from htr_export.doctor import machine as machine_module
from htr_export.doctor.command import to_json, to_lines
from htr_export.doctor.examine import examine
from htr_export.doctor.machine import Machine


def test_a_bare_container_of_two_gibibytes(tmp_path):
    machine = make_machine(tmp_path)
    install(machine, {"onnxruntime": "1.32.0"})
    put(tmp_path, "proc/self/cgroup", "0::/docker/abc\n")  # the host's path, which the container does not see
    put(tmp_path, "sys/fs/cgroup/memory.max", f"{2 * GIB}\n")
    put(tmp_path, "sys/fs/cgroup/memory.current", f"{GIB}\n")
    put(tmp_path, "sys/fs/cgroup/memory.stat", f"anon 5\ninactive_file {GIB // 2}\n")
    put(tmp_path, "sys/fs/cgroup/cpu.max", "150000 100000\n")
    diagnosis = examine(machine)
    (memory,), (cure,) = of(diagnosis, "memory")
    assert memory[0] == "warning"
    assert "1.6 GB free of 34.4 GB, 2.1 GB allowed to this container" in memory[1]
    assert cure.startswith("give the container more memory, such as docker run --memory")
    processor = of(diagnosis, "processor")
    assert ("1.5 cores of 8" in processor[0][1][1], processor[1][1]) == (True, "--threads 1")
    assert (able(diagnosis.builds), able(diagnosis.engines), diagnosis.choice) == ([], ["onnxruntime"], "onnxruntime")
    assert of(diagnosis, "export") == (
        [("not there", "not installed: jinja2, onnx, onnxscript, rapidfuzz, safetensors, torch")],
        ["pip install 'htr-export[export]'"],
    )
    assert of(diagnosis, "GPU")[0] == [("not there", "no NVIDIA GPU")]


def test_control_groups_of_version_1_and_of_outer_groups_bind(tmp_path):
    machine = make_machine(tmp_path)
    put(tmp_path, "proc/self/cgroup", "9:name=systemd:/\n4:cpu,memory:/outer/inner\n")
    put(tmp_path, "sys/fs/cgroup/memory/outer/inner/memory.limit_in_bytes", str((1 << 63) - 4096))
    put(tmp_path, "sys/fs/cgroup/memory/outer/memory.limit_in_bytes", str(8 * GIB))
    put(tmp_path, "sys/fs/cgroup/memory/outer/memory.usage_in_bytes", str(GIB))
    (memory,), _ = of(examine(machine), "memory")
    assert memory[0] == "ok"
    assert "7.5 GB free of 34.4 GB, 8.6 GB allowed" in memory[1]


def test_versions_out_of_range(tmp_path):
    machine = make_machine(tmp_path)
    install(machine, {**EXPORT, "torch": "2.14.0", "onnxruntime": "1.18.0"})
    diagnosis = examine(machine)
    (text,), (cure,) = of(diagnosis, "export")
    assert text == ("problem", "torch 2.14.0 is installed, but htr-export works with <2.14,>=2.9")
    assert cure == "pip install --upgrade 'htr-export[export]'"
    assert (able(diagnosis.builds), diagnosis.choice) == ([], None)


@pytest.mark.parametrize(
    ("gib", "swap_gib", "expected", "cure"),
    [(16, 0, "ok", None), (3, 4, "warning", "close other programs"), (2, 0, "warning", "sudo fallocate")],
)
def test_memory_and_swap(tmp_path, gib, swap_gib, expected, cure):
    machine = make_machine(tmp_path, gib=gib)
    meminfo = (tmp_path / "proc/meminfo").read_text(encoding="utf-8")
    put(tmp_path, "proc/meminfo", meminfo.replace("SwapFree: 0", f"SwapFree: {swap_gib << 20}"))
    (text,), (advice,) = of(examine(machine), "memory")
    assert text[0] == expected
    assert (advice or "").startswith(cure or "")


def test_a_control_group_without_a_limit_allows_all(tmp_path):
    machine = make_machine(tmp_path)
    put(tmp_path, "proc/self/cgroup", "4:memory:/\n")
    put(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", str((1 << 63) - 4096))
    assert "allowed" not in of(examine(machine), "memory")[0][0][1]


def test_a_processor_without_eight_bit_products(tmp_path):
    machine = make_machine(tmp_path, cpuinfo="model name : Old\nflags : sse4_2 avx avx2\n")
    assert "hardly faster" in of(examine(machine), "processor")[0][0][1]
    assert status(examine(machine), "processor") == ["ok"]
    install(machine, {"openvino": "2026.1.0"})
    assert status(examine(machine), "processor") == ["warning"]
    assert "OpenVINO, whose sums would saturate, refuses it" in of(examine(machine), "processor")[0][0][1]
    older = make_machine(tmp_path / "older", cpuinfo="model name : Older\nflags : sse4_2 avx\n")
    assert status(examine(older), "processor") == ["warning"]


def test_a_machine_that_tells_nothing(tmp_path):
    diagnosis = examine(replace(make_machine(tmp_path, free_disk=None), root=tmp_path / "nowhere", python="3.99.0"))
    assert status(diagnosis, "memory") == ["not there"]
    assert status(diagnosis, "disk") == ["warning", "warning"]
    assert status(diagnosis, "Python") == ["warning"]


def test_every_problem_has_a_cure(tmp_path):
    orin = make_orin(tmp_path / "orin", revision="3.0", mode="7W")
    install_tensorrt(orin, "11.4.0.106")
    broken = with_gpu(make_machine(tmp_path / "pc", gib=1, free_disk=5), "GPU", "390.1", "6.1", 4096)
    install_onnxruntime_gpu(broken)
    install_tensorrt(broken, "10.16.0")
    for machine in (orin, broken):
        wrong = [finding for finding in examine(machine).findings if finding.status in {"warning", "problem"}]
        assert wrong
        assert all(finding.cure for finding in wrong)


def test_the_report_for_people_and_for_programs(tmp_path):
    machine = make_orin(tmp_path, mode="15W")
    lines = [text for _, text in to_lines(examine(machine))]
    assert "-[!] power mode: 15W limits the clocks; MAXN_SUPER does not" in lines
    assert lines[lines.index("-[!] power mode: 15W limits the clocks; MAXN_SUPER does not") + 1].strip() == (
        "sudo nvpmodel -m 2"
    )
    assert lines[-2:] == [
        "can run    tensorrt, onnxruntime",
        "htr-read   takes tensorrt of a bundle that has a model for each of them",
    ]
    document = json.loads(to_json(examine(machine), {"os": "Linux"}))
    assert (document["schema_version"], document["kind"]) == (1, "htr-export doctor")
    assert document["choice"] == "tensorrt"
    assert {"topic", "status", "text", "cure"} == set(document["findings"][0])


def run(*arguments):
    return CliRunner().invoke(main, ["doctor", *arguments])


def test_the_command_on_this_machine():
    result = run()
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1].startswith("htr-read   takes ")
    document = json.loads(run("--json").stdout)
    assert "onnx" in able_names(document["builds"])
    assert document["environment"]["python"]


def able_names(abilities):
    return [ability["name"] for ability in abilities if ability["possible"]]


def test_exit_code_1_where_nothing_can_run(tmp_path, monkeypatch):
    monkeypatch.setattr(machine_module, "Machine", lambda: make_machine(tmp_path / str(time.monotonic_ns())))
    result = run()
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].endswith("install one with: pip install 'htr-export[cpu]'")
    document = run("--json")
    assert document.exit_code == 1
    assert json.loads(document.stdout)["choice"] is None


def test_nothing_heavy_is_imported_to_look_at_it():
    code = (
        "import sys\nfrom htr_export.doctor.examine import examine\nfrom htr_export.doctor.machine import Machine\n"
        "examine(Machine())\n"
        "print([name for name in ('torch', 'onnx', 'onnxruntime', 'openvino', 'tensorrt') if name in sys.modules])"
    )
    answer = run_program([sys.executable, "-c", code])
    assert answer.text.splitlines()[-1] == "[]"


def test_this_machine_is_the_default():
    machine = Machine()
    assert machine.version("numpy")
    assert machine.read("proc/no-such-file") is None
