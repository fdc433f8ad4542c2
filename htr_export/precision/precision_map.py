"""Which precision each module of the network gets, and the TOML file that says so.

::

    schema_version = 1
    default = "fp16"

    [modules]
    "blocks.3.attn" = "fp32"
    "patch_embed" = "int8"

    [calibration]  # optional; `htr-export search` writes it, so that `onnx` builds the graph that was proven
    method = "percentile"
    lines = 223
    seed = 2512
    sha256 = "..."
"""

from __future__ import annotations

import difflib
import json
import random
import re
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from htr_engines.documents import MAX_TOML_BYTES, parse_toml
from htr_engines.errors import FileError, HtrError
from htr_engines.files import read_file, write_text
from htr_engines.limits import CALIBRATION_LINES, DEFAULT_OPSET

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from htr_engines.lines import Line

Precision = Literal["fp32", "fp16", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Method = Literal["minmax", "percentile", "entropy"]  # how int8 chooses where to clip
METHODS: tuple[Method, ...] = get_args(Method)
DEFAULT_METHOD: Method = "percentile"  # within 0.2 points on both CPU engines, benchmarks/results/precision-dhsd.json
SCHEMA_VERSION = 1
KEYS = ("schema_version", "default", "modules", "calibration")
MIXED = "mixed"  # the precision of a graph whose map names more than one


class PrecisionMapError(HtrError, ValueError):
    """A precision map that cannot be read, or that does not fit its network or its lines."""


@dataclass(frozen=True)
class Calibration:
    """On which of the lines given a graph is measured, and how int8 chooses where to clip.

    Raises:
        PrecisionMapError: if a value is of another kind or out of range.
    """

    method: Method = DEFAULT_METHOD
    lines: int = CALIBRATION_LINES  # drawn from those given, or all of fewer
    seed: int = 0
    sha256: str | None = None  # fingerprint of the drawn lines' names and images; None: any lines

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise PrecisionMapError(f"no calibration is called {self.method!r}; choose one of {', '.join(METHODS)}")
        if type(self.lines) is not int or self.lines < 1:
            raise PrecisionMapError(f"the number of calibration lines should be at least 1, not {self.lines!r}")
        if type(self.seed) is not int:
            raise PrecisionMapError(f"the seed of the calibration should be a whole number, not {self.seed!r}")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", str(self.sha256)):
            raise PrecisionMapError("the sha256 of the calibration should be 64 hexadecimal digits")

    def draw(self, lines: Sequence[Line]) -> list[Line]:
        """Draw lines in random order, so that the first of them are a sample as well.

        Raises:
            PrecisionMapError: if they are not the lines that :attr:`sha256` is of.
        """
        drawn = random.Random(self.seed).sample(list(lines), min(self.lines, len(lines)))  # noqa: S311
        if self.sha256 is not None and fingerprint_of(drawn) != self.sha256:
            raise PrecisionMapError(
                f"the precision map was found with measurements on {self.lines} lines that cannot be drawn from the "
                f"{len(lines)} given; give the --lines and the list that the search was calibrated on"
            )
        return drawn

    def fix(self, drawn: Sequence[Line]) -> Calibration:
        """Return the calibration that accepts no other lines than those drawn."""
        return replace(self, lines=len(drawn), sha256=fingerprint_of(drawn))


def fingerprint_of(lines: Iterable[Line]) -> str:
    """Return the SHA-256 of lines without their transcripts, which have no say in a calibration."""
    from htr_engines.lines import fingerprint

    return fingerprint(replace(line, text=None).identity for line in lines)


@dataclass(frozen=True)
class PrecisionMap:
    """A precision for the whole network, and others for some of its modules.

    ``int8`` applies to convolutions and linear layers; whatever else its modules hold is computed in the default, or in
    float32 where the default is ``int8`` too.

    Raises:
        PrecisionMapError: if a precision or the path of a module is invalid.
    """

    default: Precision = "fp32"
    modules: Mapping[str, Precision] = field(default_factory=dict)  # by path; the longest that fits counts
    calibration: Calibration = field(default_factory=Calibration)

    def __post_init__(self) -> None:
        for precision in (self.default, *self.modules.values()):
            if precision not in PRECISIONS:
                raise PrecisionMapError(f"no precision is called {precision!r}; choose one of {', '.join(PRECISIONS)}")
        for path in self.modules:
            if not re.fullmatch(r"\w+(\.\w+)*", path):
                raise PrecisionMapError(f"{path!r} is no module; give a path such as 'blocks.3.attn'")

    @property
    def name(self) -> str:
        """The map in a word: its one precision, or ``mixed``."""
        used = self.precisions
        return next(iter(used)) if len(used) == 1 else MIXED

    @property
    def precisions(self) -> frozenset[Precision]:
        """Every precision that the map names."""
        return frozenset({self.default, *self.modules.values()})

    @property
    def float_precision(self) -> Precision:
        """The precision of nodes in ``int8`` modules that have no int8 form."""
        return "fp32" if self.default == "int8" else self.default

    @property
    def lowest_opset(self) -> int:
        """The first ONNX opset that supports the precisions."""
        if "bf16" in self.precisions:
            return 22  # convolutions know bfloat16 from here on
        return 19 if self.name == MIXED else 18  # QuantizeLinear knows half precision from 19 on

    @property
    def opset(self) -> int:
        """The ONNX opset of a graph in these precisions where the user asks for no other."""
        return max(DEFAULT_OPSET, self.lowest_opset)

    def precision_of(self, module: str) -> Precision:
        """Return the precision of a module by its path, such as ``blocks.3.attn.qkv``."""
        parts = module.split(".")
        for length in range(len(parts), 0, -1):
            if (precision := self.modules.get(".".join(parts[:length]))) is not None:
                return precision
        return self.default

    def check_fits(self, modules: Iterable[str]) -> None:
        """Check that every path of the map leads to a module of the network.

        Raises:
            PrecisionMapError: if one does not; its message gives the nearest path that does.
        """
        known = {".".join(module.split(".")[:length]) for module in modules for length in _lengths(module)}
        for path in self.modules:
            if path not in known:
                near = difflib.get_close_matches(path, sorted(known), 1, 0.0)
                advice = f"; did you mean {near[0]!r}?" if near else ""
                raise PrecisionMapError(f"the network has no module {path!r}{advice}")


def read_map(path: Path) -> PrecisionMap:
    """Read a precision map from a TOML file.

    Raises:
        PrecisionMapError: if the file is missing, is no TOML, or holds anything but a precision map.
    """
    try:
        return parse_map(read_file(path, MAX_TOML_BYTES).decode("utf-8"))
    except FileError as error:
        raise PrecisionMapError(str(error)) from None
    except (PrecisionMapError, UnicodeDecodeError) as error:
        raise PrecisionMapError(f"{path}: {error}") from None


def write_map(precision_map: PrecisionMap, path: Path, comment: str = "") -> None:
    """Write a precision map as a TOML file, atomically, with a comment before it."""
    write_text(path, format_map(precision_map, comment))


def format_map(precision_map: PrecisionMap, comment: str = "") -> str:
    """Return a precision map as TOML.

    Args:
        precision_map: the map.
        comment: lines to put before it, without their ``#``.
    """
    printable = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in comment)
    calibration = precision_map.calibration
    known = {entry.name: getattr(calibration, entry.name) for entry in fields(calibration)}
    return "\n".join(
        [
            *(f"# {line}".rstrip() for line in printable.splitlines()),
            f"schema_version = {SCHEMA_VERSION}",
            f'default = "{precision_map.default}"',
            "\n[modules]",
            *(f'"{module}" = "{precision}"' for module, precision in precision_map.modules.items()),
            "\n[calibration]",
            *(f"{name} = {json.dumps(value)}" for name, value in known.items() if value is not None),
            "",
        ]
    )


def parse_map(text: str) -> PrecisionMap:
    """Read a precision map from TOML.

    Raises:
        PrecisionMapError: if it is no TOML, or anything but a precision map.
    """
    table = parse_toml(text, dict[str, Any], "this", "write it as 'htr-export search' does", PrecisionMapError)
    _check_keys(table, KEYS)
    version = table.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise PrecisionMapError(f"schema_version is {version!r}, this release knows {SCHEMA_VERSION}")
    default, modules, calibration = table.get("default"), table.get("modules", {}), table.get("calibration", {})
    if default is None:
        raise PrecisionMapError(f"default is missing; choose one of {', '.join(PRECISIONS)}")
    if not isinstance(modules, dict):
        raise PrecisionMapError('modules should be a table such as "blocks.3.attn" = "fp32"')
    for module, precision in modules.items():
        if isinstance(precision, dict):
            raise PrecisionMapError(f"the path in modules that begins with {module!r} should be in quotation marks")
    if not isinstance(calibration, dict):
        raise PrecisionMapError("calibration should be a table")
    _check_keys(calibration, tuple(entry.name for entry in fields(Calibration)))
    return PrecisionMap(default, modules, Calibration(**calibration))


def _check_keys(table: Mapping[str, Any], known: tuple[str, ...]) -> None:
    if unknown := [key for key in table if key not in known]:
        near = difflib.get_close_matches(unknown[0], known, 1, 0.0)
        raise PrecisionMapError(f"there is no entry {unknown[0]!r}; did you mean {near[0]!r}?")


def _lengths(module: str) -> range:
    return range(1, module.count(".") + 2)
