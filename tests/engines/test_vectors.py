"""The preprocessing vectors of every bundle catch readers that resample or decode in another way."""

from __future__ import annotations

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from htr_engines import bundle as bundles
from htr_engines import self_test
from htr_engines.charset import Charset
from htr_engines.documents import convert
from htr_engines.errors import BundleError
from htr_engines.files import sha256_of
from htr_engines.manifest import VectorsEntry
from htr_engines.preprocess import Preprocessing, fit_line, load_page, scaled_width
from htr_export.bundle.preprocessing import write_preprocessing_vectors

BICUBIC = Image.Resampling.BICUBIC


@pytest.fixture(scope="module")
def vectors(tmp_path_factory):
    """A bundle that holds nothing but the vectors."""
    folder = tmp_path_factory.mktemp("vectors")
    entry = write_preprocessing_vectors(folder)
    digests = {path: sha256_of(path) for path in folder.rglob("*") if path.is_file()}
    listed = bundles._vectors(folder, convert(entry, VectorsEntry, "vectors", "", BundleError))
    return bundles.Bundle(folder, {}, Charset("a"), Preprocessing(), (), (), digests, listed)


def read_by(monkeypatch, fit=fit_line, load=load_page):
    """Let the self-test preprocess in another way."""
    monkeypatch.setattr(self_test, "load_line", lambda content, spec: fit(load(content, spec.alpha), spec))


def failed(vectors):
    *each, overall = self_test.check_preprocessing(vectors)
    assert overall.passed == (not each)
    return {check.detail.split(",")[0] for check in each}


def test_this_pillow_passes_every_vector(vectors):
    assert failed(vectors) == set()


def resized_by(resize):
    """Return ``fit_line`` with another way to resize a grey array to (width, height)."""

    def fit(grey_HW, spec):
        width = scaled_width(grey_HW.shape, spec)
        image_1HW = np.ones((1, spec.height, spec.width), np.float32)
        image_1HW[0, :, :width] = np.asarray(resize(grey_HW, width, spec.height), np.float32) / 255
        return image_1HW

    return fit


def in_float(grey_HW, width, height, rounding):
    image = Image.fromarray(grey_HW.astype(np.float32))
    resized = image.resize((width, image.height), BICUBIC).resize((width, height), BICUBIC)
    return rounding(np.clip(np.asarray(resized), 0, 255))


RESIZES = {
    "box": lambda grey, width, height: Image.fromarray(grey).resize((width, height), Image.Resampling.BOX),
    "bilinear": lambda grey, width, height: Image.fromarray(grey).resize((width, height), Image.Resampling.BILINEAR),
    "lanczos": lambda grey, width, height: Image.fromarray(grey).resize((width, height), Image.Resampling.LANCZOS),
    "nearest": lambda grey, width, height: Image.fromarray(grey).resize((width, height), Image.Resampling.NEAREST),
    "height first": lambda grey, width, height: (
        Image.fromarray(grey).resize((grey.shape[1], height), BICUBIC).resize((width, height), BICUBIC)
    ),
    "rounded once": lambda grey, width, height: in_float(grey, width, height, np.rint),
    "cut off": lambda grey, width, height: in_float(grey, width, height, np.floor),
    "no rounding": lambda grey, width, height: in_float(grey, width, height, lambda values: values),
    "reducing gap": lambda grey, width, height: Image.fromarray(grey).resize(
        (width, height), BICUBIC, reducing_gap=1.0
    ),
}


@pytest.mark.parametrize("name", RESIZES)
def test_another_resampling_is_caught(vectors, monkeypatch, name):
    read_by(monkeypatch, fit=resized_by(RESIZES[name]))
    assert failed(vectors)


def test_another_width_rule_is_caught(vectors, monkeypatch):
    def rounded_width(grey_HW, spec):
        height, width = grey_HW.shape
        target = max(1, min(round(width * spec.height / height), spec.width))
        image_1HW = np.ones((1, spec.height, spec.width), np.float32)
        resized = Image.fromarray(grey_HW).resize((target, height), BICUBIC).resize((target, spec.height), BICUBIC)
        image_1HW[0, :, :target] = np.asarray(resized, np.float32) / 255
        return image_1HW

    read_by(monkeypatch, fit=rounded_width)
    assert "size-larger.png" in failed(vectors)


def decoded_by(change):
    """Return ``load_page`` with a decoder that gives another 8-bit image."""

    def load(content, alpha):
        with Image.open(io.BytesIO(content)) as image:
            changed = change(image, alpha)
        return load_page(content, alpha) if changed is None else np.asarray(changed.convert("L"))

    return load


def with_gamma(image, _):
    gamma = image.info.get("gamma")
    return None if gamma is None else image.convert("L").point(lambda value: 255 * (value / 255) ** (0.4545 / gamma))


def with_alpha(image, alpha, harden):
    if alpha != "white" or not image.has_transparency_data:
        return None
    rgba = image.convert("RGBA")
    rgba.putalpha(rgba.getchannel("A").point(harden))
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)


def without_key(image, alpha):
    keyed = image.mode in {"L", "RGB", "1"} and "transparency" in image.info
    return image.convert("L") if keyed and alpha == "white" else None


def other_luma(image, _):
    if image.mode != "RGB":
        return None
    red, green, blue = (np.asarray(band, np.float64) for band in image.split())
    return Image.fromarray((0.2126 * red + 0.7152 * green + 0.0722 * blue).astype(np.uint8))


DECODERS = {
    "gAMA applied": (with_gamma, {"rgb-linear.png", "grey-gamma.png"}),
    "nearest alpha": (
        lambda image, alpha: with_alpha(image, alpha, lambda value: 255 * (value >= 128)),
        {"rgba.png", "la.png", "palette-trns.png"},
    ),
    "alpha over black": (
        lambda image, alpha: (
            image.convert("RGBA").convert("RGBa").convert("L")
            if alpha == "white" and image.mode in {"RGBA", "LA"}
            else None
        ),
        {"rgba.png", "la.png"},
    ),
    "alpha ignored": (lambda image, _: image.convert("L"), {"rgba.png", "la.png", "palette-trns.png", "rgb-trns.png"}),
    "tRNS of grey and RGB ignored": (without_key, {"grey-trns.png", "rgb-trns.png"}),
    "luma of BT.709": (other_luma, {"rgb.png", "jpeg-444.jpg"}),
    "EXIF ignored": (lambda image, _: image.copy() if image.getexif() else None, {"exif-6.png", "jpeg-exif-3.jpg"}),
    "16 bits cut off": (
        lambda image, _: (
            Image.fromarray((np.asarray(image) // 512).astype(np.uint8)) if image.mode.startswith("I") else None
        ),
        {"grey-16-bit.png"},
    ),
    "CMYK not inverted": (
        lambda image, _: image.convert("RGB").point(lambda value: 255 - value) if image.mode == "CMYK" else None,
        {"jpeg-cmyk.jpg"},
    ),
}


@pytest.mark.parametrize("name", DECODERS)
def test_another_decoding_is_caught(vectors, monkeypatch, name):
    change, kinds = DECODERS[name]
    read_by(monkeypatch, load=decoded_by(change))
    assert kinds <= failed(vectors)


def test_chroma_without_interpolation_is_caught(vectors, monkeypatch):
    def blocky(image, _):
        if image.format != "JPEG" or image.mode != "RGB":
            return None
        luma, *chroma = image.convert("YCbCr").split()
        halves = [band.resize((band.width // 2, band.height // 2)).resize(band.size, 0) for band in chroma]
        return Image.merge("YCbCr", [luma, *halves]).convert("RGB")

    read_by(monkeypatch, load=decoded_by(blocky))
    assert {"jpeg-420.jpg", "jpeg-422.jpg"} & failed(vectors)


def test_bundles_without_vectors_still_open(bundle, tmp_path):
    """Schema version 2 had none."""
    copy = tmp_path / "old.htr"
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    del manifest["preprocessing_vectors"]
    (copy / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 2}), encoding="utf-8")
    opened = bundles.open_bundle(copy)
    assert opened.vectors is None
    assert list(self_test.check_preprocessing(opened)) == []
