"""The golden vectors of a bundle, run on this machine."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from htr_engines.backends.base import infer_lines
from htr_engines.checks import Check
from htr_engines.ctc import decode_greedy
from htr_engines.decoder import open_decoder
from htr_engines.errors import BundleError, one_line
from htr_engines.limits import tolerance_of
from htr_engines.preprocess import Preprocessing, load_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from htr_engines.backends.base import Engine
    from htr_engines.bundle import Bundle, BundledModel


def check_preprocessing(bundle: Bundle) -> Iterator[Check]:
    """Check what preprocessing makes of the bundle's images of every kind, which needs no engine.

    Yields:
        A check for each image that failed, then one for all.

    Raises:
        BundleError: if the vectors are damaged.
    """
    vectors = bundle.vectors
    if vectors is None:
        return
    expected_KHW, passed = _load(bundle, vectors.tensors), 0
    if expected_KHW.shape != (len(vectors.images), vectors.height, vectors.width):
        raise BundleError(f"{vectors.tensors} does not hold a tensor for each image; bundle the model again")
    for (image, alpha, tolerance), expected_HW in zip(vectors.images, expected_KHW, strict=True):
        image_1HW = load_line(bundle.read(image), Preprocessing(vectors.width, vectors.height, alpha))
        difference = int(np.abs(np.rint(image_1HW[0] * 255) - expected_HW).max())
        passed += difference <= tolerance
        if difference > tolerance:
            yield Check(False, f"{image.name}, alpha {alpha}: preprocessing is off by {difference} grey levels")
    yield Check(passed == len(vectors.images), f"preprocessing: {passed} of {len(vectors.images)} images match")


def self_test(bundle: Bundle, model: BundledModel, engine: Engine) -> Iterator[Check]:
    """Check preprocessing, logits and texts, greedy and by the bundle's decoder, of every golden line, in order.

    Yields:
        The checks.

    Raises:
        BundleError: if the bundle has no golden lines, or they are damaged.
    """
    if not bundle.golden:
        raise BundleError(f"{bundle.folder} has no golden lines; bundle the model again")
    decoder = open_decoder(bundle)
    tolerance = tolerance_of(model.precision, engine.info.device).machine
    for line in bundle.golden:
        name, expected = line.image.name, line.expected(model)
        image_1HW = load_line(bundle.read(line.image), bundle.preprocessing)
        same = np.array_equal(image_1HW, _load(bundle, line.tensor))
        yield Check(same, f"{name}: preprocessing {'matches to the last bit' if same else 'differs'}")
        logits_1TC = infer_lines(engine, image_1HW[None])
        expected_TC = _load(bundle, expected.logits)
        difference = (
            float(np.abs(logits_1TC[0] - expected_TC).max()) if logits_1TC[0].shape == expected_TC.shape else np.inf
        )
        yield Check(difference <= tolerance, f"{name}: logits, max diff {difference:.1e} (atol {tolerance:g})")
        yield _check_text(name, decode_greedy(logits_1TC, bundle.charset)[0].text, expected.text)
        if expected.decoded is not None:
            yield _check_text(f"{name}, {decoder.description}", decoder.decode(logits_1TC)[0].text, expected.decoded)


def _check_text(name: str, text: str, expected: str) -> Check:
    return Check(text == expected, f"{name}: reads {text!r}" + ("" if text == expected else f", not {expected!r}"))


def _load(bundle: Bundle, path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(io.BytesIO(bundle.read(path)), allow_pickle=False)
    except (OSError, ValueError, MemoryError) as error:
        raise BundleError(f"{path} is damaged ({one_line(error)}); copy the bundle again") from None
    return array
