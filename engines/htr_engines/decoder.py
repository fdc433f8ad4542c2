"""Which decoder reads a bundle's lines: the bundle's own, or what a user makes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Literal

from htr_engines.beam import BeamDecoder, BeamOptions
from htr_engines.ctc import Reading, decode_greedy
from htr_engines.errors import BundleError, DataError, DecoderError
from htr_engines.language_model import LanguageModel
from htr_engines.preprocess import scaled_width

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from htr_engines.bundle import Bundle
    from htr_engines.preprocess import Preprocessing

Method = Literal["greedy", "beam"]
Decode = Callable[["NDArray[Any]"], list[Reading]]  # logits float [N,T,C], class 0 the blank, to N readings


@dataclass(frozen=True)
class DecoderOptions:
    """What a user wants; None stands for what the bundle says."""

    method: Method | None = None
    beam: int | None = None  # as in BeamOptions, the rest too
    lm_weight: float | None = None
    length_bonus: float | None = None
    n_best: int = 1


@dataclass(frozen=True)
class Decoder:
    """A decoder and what it is."""

    decode: Decode
    description: str
    is_own: bool  # the one that the bundle's validations used

    @property
    def remark(self) -> str | None:
        """What a user should know of it; None of greedy decoding where that was proven."""
        if self.is_own:
            return None if self.description == "greedy" else self.description
        return f"{self.description} (not the one that was proven)"


def open_decoder(bundle: Bundle, options: DecoderOptions | None = None) -> Decoder:
    """Return the decoder for a bundle's logits.

    Raises:
        BundleError: if the bundle's language model was changed or is damaged.
        DecoderError: if the options do not go together, or with the bundle.
    """
    options = options or DecoderOptions()
    own = bundle.beam
    names = ("beam", "lm_weight", "length_bonus")
    changes = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.method == "greedy" or (options.method is None and own is None):
        if changes or options.n_best > 1:
            raise DecoderError("greedy decoding weighs nothing and finds one text; choose the decoder beam as well")
        return Decoder(partial(decode_greedy, charset=bundle.charset), "greedy", own is None)
    if bundle.language_model is None and changes.keys() - {"beam"}:
        raise DecoderError(f"{bundle.folder} holds no language model to weigh; add one with 'htr-export bundle --lm'")
    beam = replace(own or BeamOptions(), **changes)
    if min(beam.beam, options.n_best) < 1:
        raise DecoderError("a beam search keeps at least one text; give beam and n_best of 1 or more")
    decode = BeamDecoder(bundle.charset, replace(beam, n_best=options.n_best), _language_model(bundle))
    name = bundle.language_model.name if bundle.language_model else None
    several = f", {options.n_best} texts a line" if options.n_best > 1 else ""
    return Decoder(decode, describe(beam, name) + several, beam == own)


def decode_lines(
    decode: Decode, logits_NTC: NDArray[Any], shapes: Sequence[Sequence[int]], spec: Preprocessing
) -> list[Reading]:
    """Decode lines, with places in pixels of their images.

    Args:
        decode: of a decoder.
        logits_NTC: float [N,T,C], class 0 the blank.
        shapes: height and width of each image, as it was before it was fitted.
        spec: by which it was.
    """
    columns_per_frame = spec.width / logits_NTC.shape[1]
    return [
        reading.scaled(columns_per_frame * shape[1] / scaled_width(shape, spec), float(shape[1]))
        for reading, shape in zip(decode(logits_NTC), shapes, strict=True)
    ]


def describe(options: BeamOptions, language_model: str | None) -> str:
    """Return a beam search in a few words."""
    weights = f", {language_model} x {options.lm_weight:g}, {options.length_bonus:+g} a character"
    return f"beam {options.beam}{weights if language_model else ''}"


def _language_model(bundle: Bundle) -> LanguageModel | None:
    if bundle.language_model is None:
        return None
    try:
        return LanguageModel(bundle.read(bundle.language_model), str(bundle.language_model))
    except DataError as error:
        raise BundleError(str(error)) from None
