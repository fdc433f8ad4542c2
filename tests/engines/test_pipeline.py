"""Reading in threads gives what reading one after the other gives."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
from helpers.drawn import CHARSET
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from htr_engines import Recognizer
from htr_engines.errors import EngineError, ImageError
from htr_engines.pipeline import in_chunks, map_in_threads


@given(st.lists(st.integers()), st.integers(1, 4), st.integers(0, 5))
@settings(max_examples=50, deadline=None)
def test_results_come_in_order(items, workers, ahead):
    assert list(map_in_threads(lambda item: item * 2, items, workers, ahead)) == [item * 2 for item in items]


@given(st.lists(st.integers()), st.integers(1, 7))
@settings(deadline=None)
def test_chunks_hold_every_item_once(items, size):
    chunks = list(in_chunks(items, size))
    assert [item for chunk in chunks for item in chunk] == items
    assert all(len(chunk) == size for chunk in chunks[:-1])


def test_an_error_comes_in_its_place_and_ends_the_threads():
    before = threading.active_count()
    results = map_in_threads(lambda item: 1 // item, [1, 1, 0, 1], workers=2, ahead=4)
    assert [next(results), next(results)] == [1, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert threading.active_count() == before


@pytest.mark.parametrize(("workers", "ahead"), [(1, 0), (2, 3)])
def test_no_more_is_taken_than_may_wait(workers, ahead):
    taken = 0

    def items():
        nonlocal taken
        for number in range(100):
            taken += 1
            yield number

    results = map_in_threads(lambda item: item, items(), workers, ahead)
    for number in range(20):
        assert next(results) == number
        assert taken <= number + 1 + workers + ahead
    results.close()
    assert taken < 40


class Brightness:
    """An engine that reads the mean brightness of a line, from as many threads as it is asked to."""

    def __init__(self, info, barrier=None):
        self.info = info
        self._barrier = barrier

    def infer(self, image_N1HW):
        if self._barrier:
            self._barrier.wait(timeout=30)
        classes = 1 + np.rint(image_N1HW[:, 0, :, 0].mean(-1) * (CHARSET.num_classes - 2)).astype(int)
        return 9 * np.eye(CHARSET.num_classes, dtype=np.float32)[np.repeat(classes[:, None], 2, axis=1)]

    def close(self):
        pass


def line(number):
    return np.full((64, 80), number % 256, np.uint8)


def recognizer(bundle, streams=1, barrier=None):
    reader = Recognizer(bundle, engine="onnxruntime")
    reader.engine.close()
    reader.engine = Brightness(replace(reader.engine.info, streams=streams), barrier)
    return reader


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 7])
def test_thousands_of_lines_with_broken_ones_among_them(bundle, streams, batch_size):
    sources = [(str(number), b"broken" if number % 100 == 50 else line(number)) for number in range(2000)]
    with recognizer(bundle, streams) as reader:
        results = list(reader.read_all(sources, batch_size))
        expected = {value: reader.read(line(value)).text for value in range(256)}
    assert [result.source for result in results] == [name for name, _ in sources]
    for number, result in enumerate(results):
        if number % 100 == 50:
            assert result.reading is None
            assert "not an image" in result.error
        else:
            assert result.reading.text == expected[number % 256]


def test_streams_run_at_the_same_time(bundle):
    barrier = threading.Barrier(3)
    with recognizer(bundle, 3, barrier) as reader:  # each batch waits until two others run
        assert len(list(reader.read_many([line(number) for number in range(9)]))) == 9


def test_an_engine_that_fails_ends_the_reading(bundle):
    with recognizer(bundle) as reader:
        results = reader.read_many([line(0)] * 50)
        next(results)
        reader.close()
        with pytest.raises(EngineError, match="closed"):
            list(results)


def test_reading_many_stops_at_the_first_bad_image(bundle):
    with recognizer(bundle) as reader:
        results = reader.read_many([line(1), b"broken", line(2)])
        next(results)
        with pytest.raises(ImageError, match="not an image"):
            next(results)


@pytest.mark.parametrize("engine_name", ["onnxruntime", "openvino"])
def test_streams_of_real_engines_read_the_same(bundle, engine_name):
    pytest.importorskip(engine_name)
    lines = [Image.fromarray(line(number)) for number in range(12)]
    with Recognizer(bundle, engine_name) as one, Recognizer(bundle, engine_name, threads=2, streams=2) as two:
        assert two.engine.info.streams == 2
        assert [reading.text for reading in one.read_many(lines)] == [reading.text for reading in two.read_many(lines)]
