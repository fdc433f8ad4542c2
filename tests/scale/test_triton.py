"""The repository of ``htr-export triton`` on the real tritonserver, over HTTP and gRPC."""

from __future__ import annotations

import json
import threading
import urllib.request

import numpy as np
import pytest
from helpers.servers import tritonserver

pytest.importorskip("pytriton", reason="needs nvidia-pytriton; run: make test-scale")

import tritonclient.grpc
import tritonclient.http
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2
from tritonclient.utils import InferenceServerException

from htr_engines.bundle import open_bundle
from htr_export.triton.repository import TritonOptions, write_repository

CLIENTS, SECONDS_TO_JOIN = 64, 300


@pytest.fixture(scope="module")
def triton(demo_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("triton")
    write_repository(demo_bundle, folder / "written", TritonOptions(python=True))
    with tritonserver(folder / "written" / "models", folder) as running:
        yield running


@pytest.fixture(scope="module", params=["http", "grpc"])
def client(request, triton):
    module = {"http": tritonclient.http, "grpc": tritonclient.grpc}[request.param]
    port = triton[1 if request.param == "http" else 2]
    return module, module.InferenceServerClient(f"127.0.0.1:{port}")


def ask(client, contents):
    module, connection = client
    image = module.InferInput("image", [len(contents), 1], "BYTES")
    image.set_data_from_numpy(np.array([[content] for content in contents], object))
    return connection.infer("htr", [image])


def test_lines_read_as_htr_read_reads_them(client, demo_lines, expected):
    answer = ask(client, [path.read_bytes() for path in demo_lines[:16]])
    assert [text.decode() for (text,) in answer.as_numpy("text")] == [reading.text for reading in expected[:16]]
    assert [json.loads(row) for (row,) in answer.as_numpy("json")] == [reading.to_dict() for reading in expected[:16]]


def test_golden_lines_through_the_network_alone(client, demo_bundle):
    module, connection = client
    line = open_bundle(demo_bundle).golden[0]
    tensor = module.InferInput("lines", [1, *np.load(line.tensor).shape], "FP32")
    tensor.set_data_from_numpy(np.load(line.tensor)[None])
    logits_1TC = connection.infer("htr_network", [tensor]).as_numpy("logits")
    assert np.abs(logits_1TC[0] - np.load(line.reference.logits)).max() < 1e-3


def test_a_broken_image_is_refused_in_our_words(client):
    with pytest.raises(InferenceServerException, match="is not an image") as refused:
        ask(client, [b"broken"])
    assert refused.value.status() in {"400", "StatusCode.INVALID_ARGUMENT"}


def test_many_clients_lose_and_mix_nothing(triton, demo_lines, expected):
    images = [path.read_bytes() for path in demo_lines]
    wrong, done = [], []

    def work(number):
        own = tritonclient.grpc, tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{triton[2]}")
        for turn in range(10):
            line = (7 * number + turn) % len(images)
            text = ask(own, [images[line]]).as_numpy("text")[0][0].decode()
            (done if text == expected[line].text else wrong).append((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SECONDS_TO_JOIN)
    assert wrong == []
    assert len(done) == 10 * CLIENTS
    connection = tritonclient.grpc.InferenceServerClient(f"127.0.0.1:{triton[2]}")
    (statistics,) = connection.get_inference_statistics("htr_network", as_json=True)["model_stats"]
    assert max(int(batch["batch_size"]) for batch in statistics["batch_stats"]) > 1


def test_the_metrics_count(triton):
    with urllib.request.urlopen(f"http://127.0.0.1:{triton[3]}/metrics") as answer:
        assert b'nv_inference_request_success{model="htr",version="1"}' in answer.read()


@pytest.mark.parametrize("options", [TritonOptions(), TritonOptions(python=True, batch=4, instances=3)])
def test_configurations_are_valid(demo_bundle, tmp_path, options):
    write_repository(demo_bundle, tmp_path / "written", options)
    configs = {}
    for path in (tmp_path / "written" / "models").glob("*/config.pbtxt"):
        config = text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())
        assert config.name == path.parent.name
        configs[config.name] = config
    steps = configs["htr"].ensemble_scheduling.step
    assert [step.model_name for step in steps] == ["htr_preprocess", "htr_network", "htr_decode"]
    for step in steps:
        model = configs[step.model_name]
        assert set(step.input_map) == {tensor.name for tensor in model.input}
        assert set(step.output_map) <= {tensor.name for tensor in model.output}
    assert configs["htr_network"].max_batch_size == options.batch
    assert (
        tmp_path / "written" / "models" / "htr_network" / "1" / ("model.py" if options.python else "model.onnx")
    ).is_file()


def test_requests_in_flight_are_answered_at_the_end(demo_bundle, demo_lines, expected, tmp_path):
    write_repository(demo_bundle, tmp_path / "written", TritonOptions(python=True))
    answers = []
    with tritonserver(tmp_path / "written" / "models", tmp_path) as (server, port, *_):
        connection = (
            tritonclient.http,
            tritonclient.http.InferenceServerClient(f"127.0.0.1:{port}", network_timeout=120),
        )
        contents = [path.read_bytes() for path in demo_lines[:16]]
        thread = threading.Thread(target=lambda: answers.append(ask(connection, contents)))
        thread.start()
        while not _began(port):
            pass
        server.terminate()
        thread.join(SECONDS_TO_JOIN)
    assert [text.decode() for (text,) in answers[0].as_numpy("text")] == [reading.text for reading in expected[:16]]


def _began(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/models/htr_preprocess/stats") as answer:
        return json.load(answer)["model_stats"][0]["inference_stats"]["queue"]["count"] > 0
