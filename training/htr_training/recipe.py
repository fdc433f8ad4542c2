"""A recipe: everything that decides how a network is trained, read from TOML and checked before all else."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from htr_engines.documents import load_toml, parse_toml
from htr_export.network.config import PRESETS
from htr_training.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

T = TypeVar("T")


@dataclass(frozen=True)
class NetworkRecipe:
    """The network's size: a preset, and the numbers in which it differs."""

    preset: str = "base"  # base, small or tiny
    embed_dim: int = 0  # channels of the encoder; 0: the preset's
    depth: int = 0  # ConvText blocks; 0: the preset's
    num_heads: int = 0  # of attention; 0: the preset's
    mobilevit_head_dim: int = 0  # channels of a head of MobileViT; 0: the preset's
    image_width: int = 512  # pixels that a line is fitted into
    dropout: float = 0.1  # probability
    drop_path: float = 0.1  # probability that a block is skipped, growing to this over the depth

    def sizes(self) -> dict[str, int]:
        """Return the numbers of a network configuration, without the number of classes."""
        if self.preset not in PRESETS:
            raise RecipeError(f"network.preset {self.preset!r} is unknown; choose one of {', '.join(PRESETS)}")
        own = {name: getattr(self, name) for name in PRESETS[self.preset] if getattr(self, name)}
        return {**PRESETS[self.preset], **own, "image_width": self.image_width}


@dataclass(frozen=True)
class DataRecipe:
    """The lines. ``lines`` and the lists are relative to ``root``, and ``root`` to the current folder."""

    root: Path = Path()  # folder of the data set
    lines: Path = Path("lines")  # folder of the images
    train: Path = Path("train.ln")  # list of the lines to learn
    val: Path = Path("val.ln")
    charset: str = "collect"  # iam, read2016, lam, vnondb; a file; or collect it from the two lists
    alpha: Literal["white", "ignore"] = "ignore"
    cache: bool = True  # keep the fitted lines in memory, one byte a pixel
    workers: int = 4  # processes that augment; 0: in the training process


@dataclass(frozen=True)
class AugmentRecipe:
    """How lines are varied. Hue and saturation are missing since a grey line has none."""

    probability: float = 0.5  # of each of the kinds below
    per: Literal["batch", "line"] = "batch"  # what draws its own numbers
    warp: float = 8.0  # pixels that a corner moves at most
    shear: float = 0.0  # pixels that the top edge slides against the bottom edge at most
    scale: float = 0.0  # share by which a line becomes narrower at most
    flatten: float = 0.0  # share of its height that a line gets as paper above and below at most: wide hands
    elastic: float = 0.0  # pixels that a point of the 32-pixel grid moves at most
    kernel: int = 2  # pixels of erosion or dilation at most; 1: none
    brightness: float = 0.4  # share by which it changes at most
    contrast: float = 0.4  # share by which it changes at most
    noise: float = 0.0  # standard deviation, in shares of white


@dataclass(frozen=True)
class OptimizerRecipe:
    """AdamW, and sharpness-aware minimisation (SAM) around it."""

    batch: int = 32  # lines, over all processes
    accumulate: int = 1  # parts that a batch is computed in
    weight_decay: float = 0.05  # of AdamW
    beta1: float = 0.9  # of AdamW
    beta2: float = 0.99  # of AdamW
    sam_rho: float = 0.05  # radius of SAM; 0: no SAM, half the cost
    clip_norm: float = 0.0  # norm that gradients are clipped to; 0: no clipping


@dataclass(frozen=True)
class ScheduleRecipe:
    """The learning rate over the iterations."""

    iterations: int = 100_001  # of the whole training
    warm_up: int = 1000  # iterations over which the rate rises
    max_rate: float = 1e-3  # learning rate at its highest
    min_rate: float = 1e-7  # learning rate at its lowest
    mended_tail: bool = False  # the published cosine begins at iteration 0 and so turns up again at the end


@dataclass(frozen=True)
class LossRecipe:
    """The two losses and the textual context module (TCM) that computes the second."""

    ctc_weight: float = 0.1  # of the CTC loss
    tcm_weight: float = 1.0  # of the TCM's loss; 0: no TCM
    tcm_width: int = 256  # channels of its character embedding
    tcm_context: int = 5  # characters on either side
    tcm_dropout: float = 0.1  # probability
    guide: int = 0  # iterations over which CTC takes over from an evenly spread text; for small networks


@dataclass(frozen=True)
class EmaRecipe:
    """The moving average of the weights, which is what is validated and exported."""

    decay: float = 0.9999  # per iteration, at its highest; it grows from 0.1


@dataclass(frozen=True)
class RunRecipe:
    """How the training runs, which changes nothing in what is learnt but rounding."""

    validate_every: int = 1000  # iterations
    save_every: int = 1000  # iterations
    log_every: int = 50  # iterations
    validation_batch: int = 32
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # of the autocast on CUDA
    channels_last: bool = False
    compile: bool = False  # through torch.compile
    threads: int = 0  # of PyTorch on the CPU; 0: its own choice
    tensorboard: bool = True  # if it is installed
    wandb: bool = False  # log to Weights & Biases, if it is installed


@dataclass(frozen=True)
class Recipe:
    """Everything that decides how a network is trained; the defaults are the published settings."""

    seed: int = 123  # of weights, order and augmentation
    network: NetworkRecipe = field(default_factory=NetworkRecipe)
    data: DataRecipe = field(default_factory=DataRecipe)
    augment: AugmentRecipe = field(default_factory=AugmentRecipe)
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    schedule: ScheduleRecipe = field(default_factory=ScheduleRecipe)
    loss: LossRecipe = field(default_factory=LossRecipe)
    ema: EmaRecipe = field(default_factory=EmaRecipe)
    run: RunRecipe = field(default_factory=RunRecipe)

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as plain numbers and strings, for the checkpoint."""
        plain = asdict(self)
        plain["data"] = {key: str(value) if isinstance(value, Path) else value for key, value in plain["data"].items()}
        return plain


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: a TOML file whose tables and keys are the fields of :class:`Recipe`.
        changes: ``table.key=value``, each of which overrides the file.

    Raises:
        RecipeError: if a key is unknown, a value has the wrong type or lies outside its range.
    """
    tables = load_toml(path, dict[str, Any], "see training/README.md for the keys", RecipeError)
    for change in changes:
        _apply(tables, change)
    recipe = _build(Recipe, tables, "")
    _check(recipe)
    return recipe


def _apply(tables: dict[str, Any], change: str) -> None:
    key, equals, value = change.partition("=")
    if not equals:
        raise RecipeError(f"--set {change} should have the form table.key=value")
    *tables_on_the_way, last = key.strip().split(".")
    table = tables
    for name in tables_on_the_way:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            raise RecipeError(f"--set {change}: {name} is a value, not a table")
    try:
        table[last] = parse_toml(f"value = {value}", dict[str, Any], change, "", RecipeError)["value"]
    except RecipeError:
        table[last] = value  # a string without its quotation marks


def _build(kind: type[T], table: Mapping[str, Any], where: str) -> T:
    """Build the dataclass ``kind`` from a TOML table."""
    types = get_type_hints(kind)
    for key in table:
        if key not in types:
            near = difflib.get_close_matches(key, types, 1, 0.0)
            raise RecipeError(f"the recipe's key {where}{key} is unknown; did you mean {where}{near[0]}?")
    return kind(**{key: _convert(types[key], value, f"{where}{key}") for key, value in table.items()})


def _convert(kind: Any, value: Any, name: str) -> Any:  # noqa: ANN401
    if is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise RecipeError(f"the recipe's {name} should be a table, not {value!r}")
        return _build(kind, value, f"{name}.")
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise RecipeError(f"the recipe's {name} should be one of {', '.join(get_args(kind))}, not {value!r}")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    if type(value) is not kind:
        raise RecipeError(f"the recipe's {name} should be of type {kind.__name__}, not {value!r}")
    return value


MAX_SEED = 2**31
AT_LEAST_ONE = {
    "optimizer": ("batch", "accumulate"),
    "schedule": ("iterations",),
    "loss": ("tcm_width", "tcm_context"),
    "run": ("validate_every", "save_every", "log_every", "validation_batch"),
    "augment": ("kernel",),
}
FRACTIONS = {
    "network": ("dropout", "drop_path"),
    "augment": ("probability", "scale", "brightness", "contrast", "noise"),
    "optimizer": ("beta1", "beta2"),
    "loss": ("tcm_dropout",),
    "ema": ("decay",),
}


def _check(recipe: Recipe) -> None:
    """Raise :class:`RecipeError` for numbers that cannot work."""
    recipe.network.sizes()
    _check_ranges(recipe)
    if recipe.seed >= MAX_SEED:
        raise RecipeError(f"the recipe's seed should be below {MAX_SEED}")
    if recipe.optimizer.batch % recipe.optimizer.accumulate:
        raise RecipeError("the recipe's optimizer.batch should be a multiple of optimizer.accumulate")
    if recipe.schedule.warm_up >= recipe.schedule.iterations:
        raise RecipeError("the recipe's schedule.warm_up should be less than schedule.iterations")
    if not recipe.loss.ctc_weight:
        raise RecipeError("the recipe's loss.ctc_weight should be above 0, or the network learns no reading")


def _check_ranges(recipe: Recipe) -> None:
    for table, part in vars(recipe).items():
        for key, value in vars(part).items() if is_dataclass(part) else [("", part)]:
            name = f"{table}.{key}".rstrip(".")
            if not isinstance(value, int | float):
                continue
            if value < 0:
                raise RecipeError(f"the recipe's {name} should not be negative")
            if key in AT_LEAST_ONE.get(table, ()) and value < 1:
                raise RecipeError(f"the recipe's {name} should be at least 1")
            if key in FRACTIONS.get(table, ()) and value >= 1:
                raise RecipeError(f"the recipe's {name} should be below 1")
