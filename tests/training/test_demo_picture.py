"""The README's picture: drawn from a reading and a report."""

from __future__ import annotations

import base64
import importlib.util
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from htr_engines.ctc import Reading

TRAINING = Path(__file__).parents[2] / "training"
IMAGE = TRAINING / "demo" / "lines" / "demo-000014.png"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def picture():
    specification = importlib.util.spec_from_file_location("demo_picture", TRAINING / "demo_picture.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def parse(text):
    """Return the letters, all texts, and the image of a picture."""
    root = ET.fromstring(text)  # noqa: S314 - written by the script
    texts = [(item.get("class"), item.text) for item in root.iter(f"{SVG}text")]
    pixels = next(root.iter(f"{SVG}image")).get("href").partition("base64,")[2]
    return "".join(text for kind, text in texts if kind == "letter"), dict(texts), base64.b64decode(pixels)


@pytest.mark.parametrize(("passed", "kind", "mark"), [(True, "passed", "✓"), (False, "failed", "✗")])
def test_the_picture_shows_the_reading_and_the_verdict(picture, passed, kind, mark):
    report = {
        "passed": passed,
        "verdict": "a > b",
        "inputs": {"candidate": {"engine": "openvino"}},
        "result": {
            "reference_rates": {"cer": 5.0},
            "candidate_rates": {"cer": 5.25},
            "cer_increase": {"low": 0.1, "high": 0.4},
        },
    }
    letters, texts, pixels = parse(
        picture.draw(IMAGE, Reading("<&", 0.85, (-0.1, -0.2), (0.0, 8.0), (8.0, 16.0)), report)
    )
    assert letters == "<&"
    assert texts[kind] == f"{mark} a > b"
    assert texts[None] == (
        "CER 5.00 % in PyTorch, 5.25 % in openvino; 95 % interval of the increase +0.100 to +0.400 points"
    )
    assert pixels == IMAGE.read_bytes()


def test_the_committed_picture_is_of_the_shipped_line():
    letters, _, pixels = parse((TRAINING / "demo" / "picture.svg").read_text(encoding="utf-8"))
    assert pixels == IMAGE.read_bytes()
    assert letters == IMAGE.with_suffix(".txt").read_text(encoding="utf-8").strip()
