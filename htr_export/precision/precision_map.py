"""Which precision each module of the network gets, and the TOML file that says so.

::

    schema_version = 1
    default = "fp16"

    [modules]
    "blocks.3.attn" = "fp32"
    "patch_embed" = "int8"
"""

from __future__ import annotations

import difflib
import re
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from htr_engines.errors import HtrError
from htr_engines.files import write_text

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

Precision = Literal["fp32", "fp16", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
Method = Literal["minmax", "percentile", "entropy"]  # how int8 chooses where to clip
METHODS: tuple[Method, ...] = get_args(Method)
DEFAULT_METHOD: Method = "percentile"  # within 0.2 points on both CPU engines, benchmarks/results/precision-dhsd.json
SCHEMA_VERSION = 1
KEYS = ("schema_version", "default", "modules")
MIXED = "mixed"  # the precision of a graph by a plan that names more than one


class PrecisionPlanError(HtrError, ValueError):
    """A plan of precisions that cannot be read, or that does not fit its network."""


@dataclass(frozen=True)
class PrecisionPlan:
    """A precision for the whole network, and others for some of its modules.

    ``int8`` is of convolutions and linear layers; what else its modules hold is computed in the plan's default, or in
    float32 where that is ``int8`` too.

    Raises:
        PrecisionPlanError: if a precision or a module's path is none.
    """

    default: Precision = "fp32"
    modules: Mapping[str, Precision] = field(default_factory=dict)  # by path; the longest that fits counts

    def __post_init__(self) -> None:
        for precision in (self.default, *self.modules.values()):
            if precision not in PRECISIONS:
                raise PrecisionPlanError(f"no precision is called {precision!r}; choose one of {', '.join(PRECISIONS)}")
        for path in self.modules:
            if not re.fullmatch(r"\w+(\.\w+)*", path):
                raise PrecisionPlanError(f"{path!r} is no module; give a path such as 'blocks.3.attn'")

    @property
    def name(self) -> str:
        """The plan in a word: its one precision, or ``mixed``."""
        used = self.precisions
        return next(iter(used)) if len(used) == 1 else MIXED

    @property
    def precisions(self) -> frozenset[Precision]:
        """Every precision that the plan names."""
        return frozenset({self.default, *self.modules.values()})

    @property
    def float_precision(self) -> Precision:
        """In what the nodes of ``int8`` modules are computed that have no int8 form."""
        return "fp32" if self.default == "int8" else self.default

    @property
    def lowest_opset(self) -> int:
        """The first ONNX opset that knows the plan's precisions."""
        if "bf16" in self.precisions:
            return 22  # convolutions know bfloat16 from here on
        return 19 if self.name == MIXED else 18  # QuantizeLinear knows half precision from 19 on

    def precision_of(self, module: str) -> Precision:
        """Return the precision of a module by its path, such as ``blocks.3.attn.qkv``."""
        parts = module.split(".")
        for length in range(len(parts), 0, -1):
            if (precision := self.modules.get(".".join(parts[:length]))) is not None:
                return precision
        return self.default

    def check_fits(self, modules: Iterable[str]) -> None:
        """Check that every path of the plan leads to a module of the network.

        Raises:
            PrecisionPlanError: if one does not; its message gives the nearest path that does.
        """
        known = {".".join(module.split(".")[:length]) for module in modules for length in _lengths(module)}
        for path in self.modules:
            if path not in known:
                near = difflib.get_close_matches(path, sorted(known), 1, 0.0)
                advice = f"; did you mean {near[0]!r}?" if near else ""
                raise PrecisionPlanError(f"the network has no module {path!r}{advice}")


def read_plan(path: Path) -> PrecisionPlan:
    """Read a plan from a TOML file.

    Raises:
        PrecisionPlanError: if the file is missing, is no TOML, or holds anything but a plan.
    """
    try:
        return parse_plan(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PrecisionPlanError(f"{path} cannot be read ({error.strerror}); give a plan in TOML") from None
    except (PrecisionPlanError, UnicodeDecodeError) as error:
        raise PrecisionPlanError(f"{path}: {error}") from None


def write_plan(plan: PrecisionPlan, path: Path, comment: str = "") -> None:
    """Write a plan as a TOML file, atomically, with a comment before it."""
    write_text(path, format_plan(plan, comment))


def format_plan(plan: PrecisionPlan, comment: str = "") -> str:
    """Return a plan as TOML.

    Args:
        plan: the plan.
        comment: lines to put before it, without their ``#``.
    """
    printable = "".join(letter if letter.isprintable() or letter == "\n" else " " for letter in comment)
    rows = [f"# {line}".rstrip() for line in printable.splitlines()]
    rows += [f"schema_version = {SCHEMA_VERSION}", f'default = "{plan.default}"', "", "[modules]"]
    rows += [f'"{module}" = "{precision}"' for module, precision in plan.modules.items()]
    return "\n".join(rows) + "\n"


def parse_plan(text: str) -> PrecisionPlan:
    """Read a plan from TOML.

    Raises:
        PrecisionPlanError: if it is no TOML, or anything but a plan.
    """
    try:
        return _plan_from(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise PrecisionPlanError(f"this is not TOML: {error}") from None


def _plan_from(table: Mapping[str, Any]) -> PrecisionPlan:
    if unknown := [key for key in table if key not in KEYS]:
        near = difflib.get_close_matches(unknown[0], KEYS, 1, 0.0)
        raise PrecisionPlanError(f"there is no entry {unknown[0]!r}; did you mean {near[0]!r}?")
    version = table.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise PrecisionPlanError(f"schema_version is {version!r}, this release knows {SCHEMA_VERSION}")
    default, modules = table.get("default"), table.get("modules", {})
    if default is None:
        raise PrecisionPlanError(f"default is missing; choose one of {', '.join(PRECISIONS)}")
    if not isinstance(modules, dict):
        raise PrecisionPlanError('modules should be a table such as "blocks.3.attn" = "fp32"')
    for module, precision in modules.items():
        if isinstance(precision, dict):
            raise PrecisionPlanError(f"the path in modules that begins with {module!r} should be in quotation marks")
    return PrecisionPlan(default, modules)


def _lengths(module: str) -> range:
    return range(1, module.count(".") + 2)
