"""The decoder of a bundle: greedy, or a beam search with a language model and the weights that were tuned for it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from htr_engines.beam import BeamDecoder, BeamOptions
from htr_engines.ctc import decode_greedy
from htr_engines.decoder import describe
from htr_engines.documents import Sha256, load_json
from htr_engines.errors import DataError
from htr_engines.files import is_file
from htr_engines.language_model import LanguageModel, read_content

if TYPE_CHECKING:
    from pathlib import Path

    from htr_engines.charset import Charset
    from htr_engines.decoder import Decode

CURE = "tune the decoder again with 'htr-export tune-decoder'"


@dataclass(frozen=True)
class Decoding:
    """How logits become text."""

    language_model: Path | None = None  # None: greedy
    sha256: str | None = None  # of the language model
    options: BeamOptions = field(default_factory=BeamOptions)
    content: bytes = field(default=b"", repr=False)  # of the language model: the bytes that were hashed

    def decoder(self, charset: Charset) -> Decode:
        """Return the decoder for a network's characters."""
        if self.language_model is None:
            return partial(decode_greedy, charset=charset)
        return BeamDecoder(charset, self.options, LanguageModel(self.content, str(self.language_model)))

    def copy_to(self, folder: Path) -> None:
        """Write the language model into a folder, if there is one."""
        if self.language_model is not None:
            (folder / self.language_model.name).write_bytes(self.content)

    def __str__(self) -> str:
        return describe(self.options, self.language_model.name) if self.language_model else "greedy"

    def to_dict(self) -> dict[str, Any]:
        """Return it for reports: what has to be equal for two decoders to read the same."""
        if self.language_model is None:
            return {"method": "ctc-greedy"}
        return {"method": "ctc-beam", "beam": self.weights(), "language_model_sha256": self.sha256}

    def weights(self) -> dict[str, Any]:
        """Return the options that change which text is the best."""
        return {name: value for name, value in asdict(self.options).items() if name != "n_best"}


GREEDY = Decoding()


@dataclass(frozen=True)
class _Tuned:
    """What is read of the file that ``htr-export tune-decoder`` writes."""

    language_model_sha256: Sha256
    options: BeamOptions


def tuned_path(language_model: Path) -> Path:
    """Return the file of the weights that were tuned for a language model, beside it."""
    return language_model.with_name(f"{language_model.name}.json")


def read_decoding(language_model: Path | None) -> Decoding:
    """Return the decoder with a language model and the weights beside it, or else the default ones.

    Raises:
        DataError: if the language model is damaged, or the weights belong to another one.
    """
    if language_model is None:
        return GREEDY
    content = read_content(language_model)
    LanguageModel(content, str(language_model))  # says what is wrong with it
    sha256, weights = hashlib.sha256(content).hexdigest(), tuned_path(language_model)
    if not is_file(weights):
        return Decoding(language_model, sha256, content=content)
    tuned = load_json(weights, _Tuned, CURE)
    if tuned.language_model_sha256 != sha256:
        raise DataError(f"{weights} was tuned for another language model than {language_model}; {CURE}")
    return Decoding(language_model, sha256, tuned.options, content)
