"""``htr-serve`` as a process: Triton's client reads from it, anything may be sent to it, it ends when it is told to."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import httpx
import numpy as np
import pytest

tritonclient = pytest.importorskip("tritonclient.http", reason="needs tritonclient; run: make test-scale")


def post(port, path, content):
    return httpx.post(f"http://127.0.0.1:{port}{path}", content=content, timeout=120).raise_for_status().json()


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_reads(start_service, demo_lines, expected, binary):
    port, running = start_service()
    with running:
        client = tritonclient.InferenceServerClient(f"127.0.0.1:{port}")
        name = "demo"
        assert client.is_server_live()
        assert client.is_model_ready(name)
        assert client.get_model_metadata(name)["inputs"][0]["datatype"] == "BYTES"
        image = tritonclient.InferInput("image", [8], "BYTES")
        image.set_data_from_numpy(np.array([path.read_bytes() for path in demo_lines[:8]], object))
        outputs = [tritonclient.InferRequestedOutput(output, binary_data=binary) for output in ("text", "confidence")]
        answer = client.infer(name, [image], outputs=outputs)
        texts = [text.decode() if isinstance(text, bytes) else text for text in answer.as_numpy("text")]
        assert texts == [reading.text for reading in expected[:8]]
        assert answer.as_numpy("confidence") == pytest.approx([reading.confidence for reading in expected[:8]])


def test_many_clients_lose_and_mix_nothing(start_service, demo_lines, expected):
    port, running = start_service("--waiting", "4096")
    images = [path.read_bytes() for path in demo_lines]
    wrong, done = [], []

    def work(number):
        for turn in range(10):
            line = (7 * number + turn) % len(images)
            text = post(port, "/read", images[line])["readings"][0]["text"]
            (done if text == expected[line].text else wrong).append((number, turn))

    with running:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
    assert wrong == []
    assert len(done) == 640


def test_it_ends_when_it_has_answered(start_service, demo_lines, expected):
    port, running = start_service()
    answers = []
    with running as server:
        content = demo_lines[0].read_bytes()
        threads = [threading.Thread(target=lambda: answers.append(post(port, "/read", content))) for _ in range(8)]
        for thread in threads:
            thread.start()
        while not answers:
            pass
        server.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join(60)
        assert server.wait(60) in {0, -signal.SIGTERM}
    assert {answer["readings"][0]["text"] for answer in answers} == {expected[0].text}


def test_whatever_is_sent_gets_an_answer_that_the_description_names(start_service):
    pytest.importorskip("schemathesis")
    port, running = start_service()
    with running:
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json", "--url", url]
        checks = "not_a_server_error,status_code_conformance,response_schema_conformance"
        command += ["--checks", checks, "--max-examples", "30", "--seed", "1"]
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
        assert httpx.get(f"{url}/v2/health/ready").status_code == 200
