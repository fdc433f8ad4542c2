"""The doctor on machines that nobody here has: a Jetson, PCs and servers with GPUs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from helpers.doctor_machines import (
    EXPORT,
    able,
    answering,
    install,
    install_cuda_libraries,
    install_onnxruntime_gpu,
    install_rtx,
    install_tensorrt,
    make_machine,
    make_orin,
    of,
    put,
    status,
    with_gpu,
)

from htr_engines.host import Answer
from htr_export.doctor.examine import examine


def test_a_jetson_on_jetpack_6(tmp_path):
    diagnosis = examine(make_orin(tmp_path))
    assert "Jetson Linux 36.4.3, JetPack 6.2" in of(diagnosis, "Jetson")[0][0][1]
    assert "compute capability 8.7" in of(diagnosis, "GPU")[0][0][1]
    assert of(diagnosis, "power mode")[0] == [("ok", "MAXN_SUPER, which limits nothing")]
    assert of(diagnosis, "clocks")[1] == ["sudo jetson_clocks"]
    assert "ONNX up to opset 20" in of(diagnosis, "TensorRT")[0][0][1]
    assert able(diagnosis.engines) == ["tensorrt", "onnxruntime"]
    assert diagnosis.choice == "tensorrt"


def test_a_jetson_can_build_what_it_has_packages_for(tmp_path):
    machine = make_orin(tmp_path)
    assert able(examine(machine).builds) == []
    install(machine, EXPORT)
    assert able(examine(machine).builds) == ["onnx", "tensorrt plan"]


@pytest.mark.parametrize(
    ("options", "topic", "said", "cure"),
    [
        ({"mode": "15W"}, "power mode", "15W limits the clocks", "sudo nvpmodel -m 2"),
        ({"revision": "3.0"}, "Jetson", "older than 10.3", "install JetPack 6.1 or later"),
        ({"highest": 306000000}, "clocks", "held at their highest", None),
    ],
)
def test_settings_of_a_jetson(tmp_path, options, topic, said, cure):
    texts, cures = of(examine(make_orin(tmp_path, **options)), topic)
    assert said in texts[0][1]
    assert cures == [cure]


def test_tensorrt_11_on_jetpack_6(tmp_path):
    machine = make_orin(tmp_path)
    install_tensorrt(machine, "11.4.0.106")
    diagnosis = examine(machine)
    texts, cures = of(diagnosis, "TensorRT")
    assert texts[1] == ("problem", "TensorRT 11.4.0 needs JetPack 7.2 or later, this is JetPack 6.2")
    assert cures[1] == "pip uninstall -y tensorrt-cu13-bindings, and use the TensorRT of JetPack"
    assert diagnosis.choice == "onnxruntime"


def test_an_environment_that_does_not_see_the_jetsons_tensorrt(tmp_path):
    machine = make_orin(tmp_path)
    diagnosis = examine(replace(machine, packages=(str(tmp_path / "empty"),)))
    texts, cures = of(diagnosis, "TensorRT")
    assert texts == [("not there", "the system has TensorRT, but this Python environment does not see it")]
    assert cures == ["python3 -m venv --system-site-packages ENVIRONMENT"]
    assert diagnosis.choice is None


def test_an_old_driver_on_a_pc(tmp_path):
    machine = with_gpu(make_machine(tmp_path), "NVIDIA GeForce RTX 4090", "550.54.14", "8.9", 24564)
    install(machine, EXPORT)
    install_onnxruntime_gpu(machine)
    install_cuda_libraries(machine)
    install_tensorrt(machine, "11.4.0.106")
    install_rtx(machine)
    install(machine, {"cuda-python": "13.4.4"})
    put(tmp_path, "packages/torch/version.py", "cuda: Optional[str] = '13.0'\n")
    diagnosis = examine(machine)
    assert of(diagnosis, "driver")[0] == [("ok", "550.54.14, which runs programs of CUDA 12")]
    cures = {finding.topic: finding.cure for finding in diagnosis.findings if "CUDA 13" in finding.text}
    newer = "install a driver of version 580 or later, or: "
    assert cures == {
        "PyTorch": "install the build of PyTorch for CUDA 12, or a newer driver",
        "onnxruntime-cuda": f"{newer}pip install 'onnxruntime-gpu[cuda,cudnn]<1.27'",
        "onnxruntime-tensorrt": f"{newer}pip install 'onnxruntime-gpu[cuda,cudnn]<1.27'",
        "TensorRT": f"{newer}pip uninstall -y tensorrt-cu13-bindings && pip install tensorrt-cu12 'cuda-python<13'",
        "TensorRT-RTX": f"{newer}pip uninstall -y tensorrt-rtx-cu13-bindings && "
        "pip install tensorrt-rtx-cu12 'cuda-python<13'",
        "CUDA memory": f"{newer}pip install 'cuda-python<13'",
    }
    assert (able(diagnosis.builds), able(diagnosis.engines)) == (["onnx", "tensorrt-rtx plan"], ["onnxruntime"])
    modern = examine(with_gpu(machine, "NVIDIA GeForce RTX 4090", "580.65.06", "8.9", 24564))
    assert able(modern.builds) == ["onnx", "tensorrt plan", "tensorrt-rtx plan"]
    assert able(modern.engines) == ["tensorrt", "tensorrt-rtx", "onnxruntime-cuda", "onnxruntime"]


def test_a_server_whose_gpu_tensorrt_rtx_does_not_know(tmp_path):
    machine = with_gpu(make_machine(tmp_path, gib=1000), "NVIDIA H100 80GB HBM3", "580.95.05", "9.0", 81559)
    install_tensorrt(machine, "11.4.0.106")
    install_rtx(machine)
    install(machine, {"cuda-bindings": "13.4.4"})
    diagnosis = examine(machine)
    texts, _ = of(diagnosis, "TensorRT-RTX")
    assert texts[1] == ("not there", "TensorRT-RTX 1.7.1 has no code for compute capability 9.0; TensorRT has")
    assert able(diagnosis.engines) == ["tensorrt"]


def test_tensorrt_whose_libraries_were_never_fetched(tmp_path):
    machine = with_gpu(make_machine(tmp_path), "NVIDIA L4", "580.65.06", "8.9", 23034)
    install_tensorrt(machine, "11.4.0.106", whole=False)
    diagnosis = examine(machine)
    (text,), (cure,) = of(diagnosis, "TensorRT")
    assert text[0] == "problem"
    assert "without libnvinfer.so.11, which tensorrt-cu13-libs fetches" in text[1]
    assert cure.startswith("pip install --force-reinstall --no-cache-dir tensorrt-cu13-libs")
    assert status(diagnosis, "CUDA memory") == ["problem"]


def test_tensorrt_that_is_not_whole_is_judged_once(tmp_path):
    machine = make_machine(tmp_path)
    install_tensorrt(machine, "11.4.0.106", whole=False)
    assert status(examine(machine), "TensorRT") == ["problem"]


def test_a_gpu_that_tensorrt_left_behind(tmp_path):
    machine = with_gpu(make_machine(tmp_path), "Tesla V100-SXM2-16GB", "580.65.06", "7.0", 16160)
    install_tensorrt(machine, "10.16.1.11", cuda=12)
    texts, _ = of(examine(machine), "TensorRT")
    assert texts[1] == ("problem", "TensorRT 10.16.1 needs compute capability 7.5 or more, this GPU has 7.0")


def test_libraries_are_found_where_the_linker_looks(tmp_path):
    machine = with_gpu(make_machine(tmp_path), "NVIDIA L4", "580.65.06", "8.9", 23034)
    install_tensorrt(machine, "11.4.0.106", whole=False)
    install(machine, {"cuda-python": "13.0.0"})
    assert "tensorrt" not in able(examine(machine).engines)
    put(tmp_path, "opt/trt/libnvinfer.so.11")
    assert "tensorrt" in able(examine(replace(machine, environ={"LD_LIBRARY_PATH": f":{tmp_path}/opt/trt"})).engines)


def test_two_onnx_runtimes_overwrite_each_other(tmp_path):
    machine = with_gpu(make_machine(tmp_path), "NVIDIA L4", "580.65.06", "8.9", 23034)
    install_onnxruntime_gpu(machine)
    install(machine, {"onnxruntime": "1.32.0"})
    install_cuda_libraries(machine)
    diagnosis = examine(machine)
    (text,), (cure,) = of(diagnosis, "onnxruntime")
    assert text == (
        "warning",
        "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 are installed together and overwrite each other's files",
    )
    assert cure == "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'htr-export[gpu]'"
    assert status(diagnosis, "onnxruntime-cuda") == ["problem"]


def test_providers_need_their_libraries(tmp_path):
    machine = with_gpu(make_machine(tmp_path), "NVIDIA L4", "580.65.06", "8.9", 23034)
    install_onnxruntime_gpu(machine)
    (text,), (cure,) = of(examine(machine), "onnxruntime-cuda")
    assert "libcudart.so.13, libcublasLt.so.13, libcudnn.so.9" in text[1]
    assert cure == "pip install 'onnxruntime-gpu[cuda,cudnn]'"
    install_cuda_libraries(machine)
    diagnosis = examine(machine)
    assert able(diagnosis.engines) == ["onnxruntime-cuda", "onnxruntime"]
    assert "libnvinfer.so.10" in of(diagnosis, "onnxruntime-tensorrt")[0][0][1]
    install(machine, {}, "tensorrt_libs/libnvinfer.so.10")
    assert able(examine(machine).engines) == ["onnxruntime-cuda", "onnxruntime", "onnxruntime-tensorrt"]


def test_a_gpu_without_a_driver(tmp_path):
    machine = make_machine(tmp_path)
    put(tmp_path, "sys/bus/pci/devices/0000:00:02.0/vendor", "0x8086\n")
    put(tmp_path, "sys/bus/pci/devices/0000:00:02.0/class", "0x030000\n")
    assert status(examine(machine), "GPU") == ["not there"]
    put(tmp_path, "sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n")
    put(tmp_path, "sys/bus/pci/devices/0000:01:00.0/class", "0x030000\n")
    texts, cures = of(examine(machine), "GPU")
    assert texts == [("problem", "an NVIDIA GPU is here, but no driver for it")]
    assert cures == ["install a driver of version 580 or later"]


def test_a_driver_without_nvidia_smi(tmp_path):
    machine = make_machine(tmp_path)
    version = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  575.57.08  Release Build\nGCC version: 13\n"
    put(tmp_path, "proc/driver/nvidia/version", version)
    assert of(examine(machine), "GPU")[0] == [("problem", "driver 575.57.08, but no GPU is visible")]
    put(tmp_path, "proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA A10\nIRQ: 5\n")
    diagnosis = examine(machine)
    assert of(diagnosis, "GPU")[0] == [("ok", "NVIDIA A10")]
    assert of(diagnosis, "driver")[0] == [("ok", "575.57.08, which runs programs of CUDA 12")]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(9, "NVIDIA-SMI has failed because it couldn't communicate with the driver.\nMore.\n"), "couldn't comm"),
        (Answer(0, "No devices were found\n"), "No devices were found"),
        (Answer(1, ""), "ended with code 1"),
    ],
)
def test_nvidia_smi_that_fails(tmp_path, answer, said):
    diagnosis = examine(replace(make_machine(tmp_path), run=answering({"nvidia-smi": answer})))
    (text,), (cure,) = of(diagnosis, "GPU")
    assert text[0] == "problem"
    assert said in text[1]
    assert cure.startswith("reboot")


def test_an_old_nvidia_smi_that_knows_no_compute_capability(tmp_path):
    def run(command):
        if "compute_cap" in command[1]:
            return Answer(2, 'Field "compute_cap" is not a valid field to query.\n')
        return Answer(0, "Tesla T4, 470.82.01, 15109, 15000\n")

    diagnosis = examine(replace(make_machine(tmp_path), run=run))
    assert of(diagnosis, "GPU")[0] == [("ok", "Tesla T4, 14.8 GiB (14.6 free)")]
    assert "CUDA 11" in of(diagnosis, "driver")[0][0][1]


def test_hidden_gpus(tmp_path):
    machine = with_gpu(make_machine(tmp_path), "NVIDIA L4", "580.65.06", "8.9", 23034)
    install_tensorrt(machine, "11.4.0.106")
    install(machine, {"cuda-python": "13.4.4"})
    diagnosis = examine(replace(machine, environ={"CUDA_VISIBLE_DEVICES": ""}))
    assert of(diagnosis, "GPU")[1][-1] == "unset CUDA_VISIBLE_DEVICES"
    assert able(diagnosis.engines) == []
