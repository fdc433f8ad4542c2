"""Machines made of a folder and a few answers, for the doctor to look at."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from htr_engines.host import Answer
from htr_export.doctor.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

GIB = 1 << 30
EXPORT = {
    "torch": "2.13.0",
    "onnx": "1.23.2",
    "onnxscript": "0.7.2",
    "safetensors": "0.8.0",
    "rapidfuzz": "3.14.6",
    "jinja2": "3.1.6",
}
XEON = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)\nflags\t\t: fpu avx2 avx512f avx512_vnni\n"
CORTEX = "processor\t: 0\nFeatures\t: fp asimd asimdhp asimddp\n"
MODES = "".join(
    f"< POWER_MODEL ID={number} NAME={name} >\n" for number, name in enumerate(("15W", "25W", "MAXN_SUPER", "MAXN"))
)


def make_machine(folder: Path, *, cpuinfo: str = XEON, gib: float = 32, free_disk: int | None = 50 * GIB) -> Machine:
    """Return a bare PC: a processor and memory, no package, no GPU, no program that answers."""
    put(folder, "proc/cpuinfo", cpuinfo)
    kilobytes = int(gib * GIB / 1024)
    put(folder, "proc/meminfo", f"MemTotal: {kilobytes} kB\nMemAvailable: {kilobytes * 9 // 10} kB\nSwapFree: 0 kB\n")
    (folder / "packages").mkdir()
    return Machine(
        root=folder,
        run=answering({}),
        free=lambda _: free_disk,
        packages=(str(folder / "packages"),),
        environ={},
        python="3.12.3",
        system="Linux",
        architecture="x86_64",
        cores=8,
        in_environment=True,
        temporary=folder / "tmp",
        current=folder,
    )


def answering(answers: Mapping[str, str | Answer]):
    """Return a runner in which these programs answer, and no others are installed."""

    def run(command: Sequence[str]) -> Answer | None:
        answer = answers.get(command[0])
        return Answer(0, answer) if isinstance(answer, str) else answer

    return run


def of(diagnosis, topic):
    """Return the findings of a topic as pairs of status and text, and their cures."""
    found = [finding for finding in diagnosis.findings if finding.topic == topic]
    return [(finding.status, finding.text) for finding in found], [finding.cure for finding in found]


def status(diagnosis, topic):
    return [finding.status for finding in diagnosis.findings if finding.topic == topic]


def able(abilities):
    return [ability.name for ability in abilities if ability.possible]


def put(folder: Path, path: str, content: str = "") -> None:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(content, encoding="utf-8")


def install(machine: Machine, packages: Mapping[str, str], *files: str) -> None:
    """Put distributions, and files of theirs, where the machine's Python looks."""
    for name, version in packages.items():
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        put(machine.root, f"packages/{name.replace('-', '_')}-{version}.dist-info/METADATA", metadata)
    for file in files:
        put(machine.root, f"packages/{file}")


def with_gpu(machine: Machine, name: str, driver: str, capability: str, mib: int) -> Machine:
    row = f"{name}, {driver}, {mib}, {mib - 500}, {capability}\n"
    return replace(machine, run=answering({"nvidia-smi": row}))


def install_onnxruntime_gpu(machine: Machine, *, cuda: str = "13.0") -> None:
    install(machine, {"onnxruntime-gpu": "1.31.1"})
    for provider in ("shared", "cuda", "tensorrt"):
        install(machine, {}, f"onnxruntime/capi/libonnxruntime_providers_{provider}.so")
    put(machine.root, "packages/onnxruntime/capi/build_and_package_info.py", f"cuda_version = '{cuda}'\n")


def install_cuda_libraries(machine: Machine, cuda: int = 13) -> None:
    folder = f"nvidia/cu{cuda}/lib"
    install(machine, {}, *(f"{folder}/lib{name}" for name in (f"cudart.so.{cuda}", f"cublasLt.so.{cuda}")))
    install(machine, {}, "nvidia/cudnn/lib/libcudnn.so.9")


def install_tensorrt(machine: Machine, version: str, *, cuda: int = 13, whole: bool = True) -> None:
    install(machine, {f"tensorrt-cu{cuda}-bindings": version, f"tensorrt-cu{cuda}": version})
    if whole:
        install(machine, {}, f"tensorrt_libs/libnvinfer.so.{version.partition('.')[0]}")


def install_rtx(machine: Machine) -> None:
    install(machine, {"tensorrt-rtx-cu13-bindings": "1.7.1.116"}, "tensorrt_rtx_libs/libtensorrt_rtx.so.1")


def make_orin(folder: Path, *, revision: str = "4.3", mode: str = "MAXN_SUPER", highest: int = 1020000000) -> Machine:
    """Return a Jetson Orin Nano on JetPack 6, whose TensorRT and pycuda the environment sees."""
    machine = make_machine(folder, cpuinfo=CORTEX, gib=7.4)
    put(folder, "etc/nv_tegra_release", f"# R36 (release), REVISION: {revision}, GCID: 38968081, BOARD: generic")
    put(
        folder,
        "proc/device-tree/compatible",
        "nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
    )
    put(folder, "proc/device-tree/model", "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0")
    put(folder, "etc/nvpmodel.conf", MODES)
    put(folder, "sys/class/devfreq/17000000.gpu/min_freq", "306000000\n")
    put(folder, "sys/class/devfreq/17000000.gpu/max_freq", f"{highest}\n")
    install(machine, {"tensorrt": "10.3.0", "pycuda": "2024.1", "onnxruntime": "1.31.0"})
    answers = {
        "nvpmodel": f"NV Power Mode: {mode}\n2\n",
        "nvidia-smi": "Orin (nvgpu), 540.4.0, [N/A], [N/A], [N/A]\n",
        "ldconfig": "\tlibnvinfer.so.10 (libc6,AArch64) => /usr/lib/aarch64-linux-gnu/libnvinfer.so.10\n",
    }
    return replace(machine, architecture="aarch64", cores=6, run=answering(answers))
