"""Golden vectors of a bundle: lines, with what preprocessing and each model make of them."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from htr_engines.backends import open_engine
from htr_engines.backends.base import infer_lines
from htr_engines.charset import Charset
from htr_engines.ctc import decode_greedy
from htr_engines.errors import BundleError, EngineError, HtrError
from htr_engines.files import is_file
from htr_engines.preprocess import Preprocessing, fit_line, load_page
from htr_export.decoding import GREEDY, Decoding
from htr_export.validation.report import load_report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SAMPLE_TEXTS = ("The quick brown fox", "0123456789", "Handwriting")
PRECISE_FIRST = ("fp32", "bf16", "fp16", "mixed", "int8")


def sample_lines(reports: Sequence[Path]) -> list[NDArray[np.uint8]]:
    """Return the sample lines that validation saved, or drawn ones, as grey uint8 [H,W]."""
    for report in reports:
        files = [report / "samples" / PurePath(sample["file"]).name for sample in load_report(report)["samples"]]
        if found := [load_page(file) for file in files if is_file(file)]:
            return found
    return [_drawn_line(text) for text in SAMPLE_TEXTS]


def _drawn_line(text: str) -> NDArray[np.uint8]:
    font = ImageFont.load_default(40)
    image = Image.new("L", (int(font.getlength(text)) + 20, 64), 255)
    ImageDraw.Draw(image).text((10, 8), text, fill=0, font=font)
    return np.asarray(image)


def write_golden(
    folder: Path, models: Sequence[dict[str, Any]], lines: Sequence[NDArray[np.uint8]], decoding: Decoding = GREEDY
) -> list[dict[str, Any]]:
    """Write the golden lines and return their entries.

    Args:
        folder: of the bundle, with the models in it.
        models: their entries. Those that this machine cannot run, such as plans for other GPUs, are later compared
            with the most precise one.
        lines: grey uint8 [H,W].
        decoding: of the bundle; its texts stand beside those of greedy decoding.

    Raises:
        BundleError: if this machine can run none of the models.
    """
    (folder / "golden").mkdir()
    metadata = models[0]["metadata"]
    spec, charset = Preprocessing.from_json(metadata["preprocessing"], "the model"), Charset(metadata["charset"])
    entries = [_write_line(folder, number, grey_HW, spec) for number, grey_HW in enumerate(lines)]
    image_N1HW = np.stack([fit_line(grey_HW, spec) for grey_HW in lines])
    failures = []
    decode = decoding.decoder(charset)
    for model in sorted(models, key=_precision):
        try:
            logits_NTC = _run(folder, model, image_N1HW)
        except HtrError as error:
            failures.append(str(error))
            continue
        for number, (entry, logits_TC) in enumerate(zip(entries, logits_NTC, strict=True)):
            file = f"golden/line-{number}.{model['file']}.npy"
            np.save(folder / file, logits_TC)
            expected = {"logits": file, "text": decode_greedy(logits_TC[None], charset)[0].text}
            if decoding != GREEDY:
                expected["decoded"] = decode(logits_TC[None])[0].text
            entry.setdefault("reference", expected)
            entry["models"][model["file"]] = expected
    if len(failures) == len(models):
        raise BundleError(f"golden lines need a model that runs here, so add the ONNX file ({failures[0]})")
    return entries


def _precision(model: dict[str, Any]) -> int:
    precision = model["precision"]
    return PRECISE_FIRST.index(precision) if precision in PRECISE_FIRST else len(PRECISE_FIRST)


def _run(folder: Path, model: dict[str, Any], image_N1HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the logits [N,T,C], one line at a time as :mod:`htr_engines.self_test` runs them."""
    with open_engine(folder / model["file"], model["engines"][0]) as engine:
        logits_NTC = np.concatenate([infer_lines(engine, image_N1HW[row : row + 1]) for row in range(len(image_N1HW))])
    if not np.isfinite(logits_NTC).all():
        raise EngineError(f"{model['file']} gives logits that are not finite; export it again")
    return logits_NTC


def _write_line(folder: Path, number: int, grey_HW: NDArray[np.uint8], spec: Preprocessing) -> dict[str, Any]:
    names = {"image": f"golden/line-{number}.png", "tensor": f"golden/line-{number}.image.npy"}
    Image.fromarray(grey_HW).save(folder / names["image"])
    np.save(folder / names["tensor"], fit_line(grey_HW, spec))
    return {**names, "models": {}}
