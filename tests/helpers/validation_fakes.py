"""Engines that need no model: each column of an image, as its brightness says, is a character."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from htr_engines.backends.base import Closeable, EngineInfo, TensorInfo
from htr_engines.charset import Charset
from htr_engines.lines import Line
from htr_engines.preprocess import Preprocessing

if TYPE_CHECKING:
    from pathlib import Path

CHARSET = Charset("abcdefg")
PREPROCESSING = Preprocessing(width=64)
CLASSES = CHARSET.num_classes


class FakeEngine(Closeable):
    """Reads 16 frames a line: a frame's class is its column's brightness in steps of 1/8, white the blank.

    Args:
        noise: added to the logits, the same at every call.
        shift: classes by which the first ``shifted_frames`` frames of each line are misread.
        leak: how much of the batch's mean goes into each line.
    """

    def __init__(
        self,
        *,
        noise: float = 0.0,
        shift: int = 0,
        shifted_frames: int = 99,
        leak: float = 0.0,
        nan: bool = False,
    ) -> None:
        self.noise, self.shift, self.shifted_frames, self.leak, self.nan = (
            noise,
            shift,
            shifted_frames,
            leak,
            nan,
        )
        shape = ("batch", 1, 64, "width")
        self.info = EngineInfo(
            engine="fake",
            device="cpu",
            version="1",
            threads=1,
            input=TensorInfo("image", "float32", shape),
            output=TensorInfo("logits", "float32", ("batch", "frames", CLASSES)),
            memory_bytes=0,
        )

    def with_batch(self, batch: int) -> FakeEngine:
        self.info = replace(self.info, input=TensorInfo("image", "float32", (batch, 1, 64, 64)))
        return self

    def infer(self, image_N1HW: np.ndarray) -> np.ndarray:
        batch = self.info.input.shape[0]
        assert batch == "batch" or batch == len(image_N1HW)
        columns_NT = image_N1HW[:, 0, 32, 2::4]
        classes_NT = np.rint((1 - columns_NT) * 8).astype(int) % CLASSES
        classes_NT[:, : self.shifted_frames] += self.shift
        logits_NTC = 10.0 * np.eye(CLASSES, dtype=np.float32)[classes_NT % CLASSES]
        logits_NTC += self.noise * np.random.default_rng(0).normal(size=logits_NTC.shape[1:]).astype(np.float32)
        logits_NTC += self.leak * logits_NTC.mean(0)
        if self.nan:
            logits_NTC[0, 0, 0] = np.nan
        return logits_NTC


def draw_line(path: Path, text: str) -> None:
    """Draw a text as the fake engines read it: 8 columns a character, half of them white."""
    grey_HW = np.full((64, 64), 255, np.uint8)
    for index, character in enumerate(text):
        brightness = 255 - (CHARSET.characters.index(character) + 1) * 255 / 8
        grey_HW[:, 8 * index : 8 * index + 4] = round(brightness)
    Image.fromarray(grey_HW).save(path)


def make_lines(folder: Path, texts: list[str], *, transcripts: bool = True) -> list[Line]:
    folder.mkdir(exist_ok=True)
    lines = []
    for number, text in enumerate(texts):
        image = folder / f"line-{number:02}.png"
        draw_line(image, text)
        if transcripts:
            image.with_suffix(".txt").write_text(text, encoding="utf-8")
        lines.append(Line(image.name, image, text if transcripts else None))
    return lines
