"""The service answers as the recognizer reads, refuses what it cannot read, and goes on."""

from __future__ import annotations

import base64
import json
import struct
import threading
import time

import numpy as np
import pytest
from helpers.cut_fakes import LINE_A, page_xml, save_page
from helpers.drawn import draw_line
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("starlette", reason="needs the extra 'serve'")
pytest.importorskip("httpx")
pytest.importorskip("jsonschema")

from importlib.resources import files

import jsonschema
from starlette.testclient import TestClient

from htr_engines import Recognizer
from htr_engines.errors import DataError
from htr_engines.serve.app import ServeOptions, Service
from htr_engines.serve.kserve import HEADER_LENGTH, parse_inference

MODEL = "/v2/models/model"
SCHEMAS = json.loads(files("htr_engines.schemas").joinpath("openapi.json").read_bytes())["components"]["schemas"]


@pytest.fixture(scope="module")
def recognizer(bundle):
    with Recognizer(bundle, "onnxruntime") as opened:
        yield opened


@pytest.fixture
def client(recognizer):
    with serving(recognizer) as opened:
        yield opened


def serving(recognizer, **options):
    return TestClient(Service(recognizer, ServeOptions(**options)).application())


def png(text="zeile"):
    from io import BytesIO

    stream = BytesIO()
    draw_line(text).save(stream, "PNG")
    return stream.getvalue()


def test_a_line_reads_as_the_recognizer_reads_it(client, recognizer):
    response = client.post("/read", content=png())
    assert response.status_code == 200
    jsonschema.validate(response.json(), {**SCHEMAS["Readings"], "components": {"schemas": SCHEMAS}})
    assert response.json()["readings"] == [{"page": 0, **recognizer.read(png()).to_dict()}]
    assert client.post("/read?format=text", content=png()).text == recognizer.read(png()).text + "\n"


@pytest.mark.parametrize("content", [b"", b"no image", png()[:60]])
def test_what_is_no_image_is_refused_in_one_sentence(client, content):
    response = client.post("/read", content=content)
    assert response.status_code == 400
    assert "\n" not in response.json()["error"]
    assert client.post("/read", content=png()).status_code == 200


def test_a_page_comes_back_with_its_text(client, tmp_path):
    save_page(tmp_path, "p.png")
    form = {"page": ("p.xml", page_xml(LINE_A)), "image": ("p.png", (tmp_path / "p.png").read_bytes())}
    response = client.post("/read", files=form)
    assert response.status_code == 200, response.text
    assert response.headers["htr-lines"] == "1"
    assert "PcGts" in response.text
    records = [json.loads(row) for row in client.post("/read?format=jsonl", files=form).text.splitlines()]
    assert f"<Unicode>{records[0]['text']}</Unicode>" in response.text


@pytest.mark.parametrize(
    ("form", "reason"),
    [
        ({"page": ("p.xml", b"<a/>"), "image": ("p.png", b"x")}, "neither PAGE nor ALTO"),
        ({"page": ("p.xml", b"<a/>")}, "should hold"),
        ({"page": ("p.xml", b"<a/>"), "image": ("../../p.exe", b"x")}, "file name"),
        ({"page": ("p.xml", b"<a"), "image": ("p.png", b"x")}, "page.xml"),
    ],
)
def test_pages_that_cannot_be_used_are_refused(client, form, reason):
    response = client.post("/read", files=form)
    assert response.status_code == 400
    assert reason in response.json()["error"]
    assert "htr-serve-" not in response.json()["error"]  # the name of a folder here


def test_kserve_in_json(client, recognizer):
    image = {
        "name": "image",
        "shape": [2],
        "datatype": "BYTES",
        "data": [base64.b64encode(png(text)).decode() for text in "ab"],
    }
    response = client.post(f"{MODEL}/infer", json={"id": "7", "inputs": [image], "outputs": [{"name": "text"}]})
    assert response.status_code == 200
    assert response.json()["id"] == "7"
    (output,) = response.json()["outputs"]
    assert output["data"] == [recognizer.read(png(text)).text for text in "ab"]


def test_kserve_in_binary(client, recognizer):
    tensor = struct.pack("<I", len(png())) + png()
    image = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(tensor)}}
    header = json.dumps({"inputs": [image], "parameters": {"binary_data_output": True}}).encode()
    response = client.post(f"{MODEL}/infer", content=header + tensor, headers={HEADER_LENGTH: str(len(header))})
    length = int(response.headers[HEADER_LENGTH])
    sizes = [output["parameters"]["binary_data_size"] for output in json.loads(response.content[:length])["outputs"]]
    text, confidence, reading = np.split(np.frombuffer(response.content[length:], np.uint8), np.cumsum(sizes)[:-1])
    expected = recognizer.read(png())
    assert text.tobytes()[4:].decode() == expected.text
    assert struct.unpack("<f", confidence.tobytes())[0] == pytest.approx(expected.confidence)
    assert json.loads(reading.tobytes()[4:]) == expected.to_dict()


@given(st.binary(max_size=200), st.one_of(st.none(), st.text("0123456789-x", max_size=15)))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_a_request_or_refused(body, length):
    with pytest.raises(DataError):
        parse_inference(body, length)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "picture"},
        {"datatype": "FP32"},
        {"shape": [2]},
        {"shape": []},
        {"data": ["?"]},
        {"data": [1]},
        {"data": []},
        {"parameters": {"binary_data_size": 3}},
    ],
)
def test_wrong_requests_are_refused(client, change):
    image = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(png()).decode()], **change}
    response = client.post(f"{MODEL}/infer", json={"inputs": [image]})
    assert response.status_code == 400
    assert response.json()["error"]


@pytest.mark.parametrize(
    "path", ["/v2", "/v2/health/live", "/v2/health/ready", MODEL, f"{MODEL}/ready", "/openapi.json"]
)
def test_paths_that_ask_for_nothing(client, path):
    assert client.get(path).status_code == 200


def test_unknown_paths_and_methods(client):
    assert client.get("/elsewhere").status_code == 404
    assert client.post("/v2/models/other/infer").status_code == 404
    assert client.get("/read").status_code == 405


def test_the_metrics_count(client):
    client.post("/read", content=png())
    client.post("/read", content=b"x")
    text = client.get("/metrics").text
    assert "htr_lines_total 1.0" in text
    assert 'htr_requests_total{path="/read",status="400"} 1.0' in text


def test_a_token_is_asked_for(recognizer):
    with serving(recognizer, token="geheim") as client:  # noqa: S106
        assert client.post("/read", content=png()).status_code == 401
        assert client.post("/read", content=png(), headers={"Authorization": "Bearer geheim"}).status_code == 200
        assert client.get("/v2/health/ready").status_code == 200


def test_requests_that_are_too_large(recognizer):
    def chunks():
        yield b"x" * 600
        yield b"x" * 600

    with serving(recognizer, max_bytes=1000) as client:
        assert client.post("/read", content=b"x" * 1001).status_code == 413
        assert client.post("/read", content=chunks()).status_code == 413
        assert client.get("/v2/health/ready").status_code == 200


class Held:
    """A recognizer whose engine waits until it is let go."""

    def __init__(self, recognizer):
        self._recognizer = recognizer
        self.began, self.go = threading.Event(), threading.Event()
        self.batches = []

    def __getattr__(self, name):
        return getattr(self._recognizer, name)

    def read_grey(self, lines):
        self.batches.append(len(lines))
        self.began.set()
        assert self.go.wait(30)
        return self._recognizer.read_grey(lines)


def in_threads(client, count):
    answers = []
    threads = [
        threading.Thread(target=lambda: answers.append(client.post("/read", content=png()))) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    return threads, answers


def test_what_waits_is_read_in_batches_and_what_is_too_much_refused(recognizer):
    held = Held(recognizer)
    with serving(held, batch_size=4, waiting=6) as client:
        first, answers = in_threads(client, 1)
        assert held.began.wait(30)
        threads, more = in_threads(client, 11)  # six of them wait
        for _ in range(3000):
            if len(more) == 5:
                break
            time.sleep(0.01)
        assert [(answer.status_code, answer.headers["retry-after"]) for answer in more] == [(429, "1")] * 5
        held.go.set()
        for thread in first + threads:
            thread.join()
    answers += more
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [429] * 5
    assert held.batches == [1, 4, 2]


def test_a_request_that_takes_too_long_is_given_up(recognizer):
    held = Held(recognizer)
    with serving(held, timeout_s=0.2) as client:
        assert client.post("/read", content=png()).status_code == 503
        held.go.set()
        assert client.post("/read", content=png()).status_code == 200
