"""A recipe: everything that decides how a network is trained."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from htr_export.network.config import PRESETS
from htr_training.errors import RecipeError

Precision = Literal["fp32", "bf16", "fp16"]
WidthMode = Literal["fixed", "content"]


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
class SetRecipe:
    """One of several sets of lines. Its paths are relative to ``root``, and that to ``root`` of the whole."""

    root: Path  # folder of the set; its last part is what logs call the set
    lines: Path = Path("lines")  # folder of the images
    train: str = "train.ln"  # list of the lines to learn
    val: str = ""  # list of the lines to validate on; empty: none
    weight: float = 1.0  # its share of the lines learnt, against the other sets; 0: only validated on

    @property
    def name(self) -> str:
        """What the set is called in logs: the last folder of its root."""
        return self.root.name


@dataclass(frozen=True)
class DataRecipe:
    """The lines. ``lines`` and the lists are relative to ``root``, and ``root`` to the current folder."""

    root: Path = Path()  # folder of the data set
    lines: Path = Path("lines")  # folder of the images
    train: Path = Path("train.ln")  # list of the lines to learn
    val: Path = Path("val.ln")  # list of the lines to validate on
    charset: str = "collect"  # iam, read2016, lam, vnondb; a file; or collect it from the two lists
    alpha: Literal["white", "ignore"] = "ignore"  # what is done about transparency: laid over white, or nothing
    width: WidthMode = "fixed"  # content: lines of like width together, padded no further than needed
    cache: bool = True  # keep the fitted lines in memory, one byte a pixel
    workers: int = 4  # processes that augment; 0: in the training process
    sets: tuple[SetRecipe, ...] = ()  # several sets, mixed by their weights, instead of lines, train and val

    def to_validate_on(self) -> tuple[Path, Path]:
        """Return the folder and the list of the validation lines; of several sets, those of the first."""
        for part in self.sets:
            if part.val:
                return self.root / part.root / part.lines, self.root / part.root / part.val
        return self.root / self.lines, self.root / self.val


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
    monotone_cosine: bool = False  # the published cosine begins at iteration 0 and so turns up again at the end


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
    validation_batch: int = 32  # lines read at once while validating
    precision: Precision = "fp32"  # of the autocast; on a CPU bf16 where it has instructions for it, never fp16
    channels_last: bool = False  # store images with their channels last, which some devices compute faster
    compile: bool = False  # through torch.compile
    threads: int = 0  # of PyTorch on the CPU; 0: its own choice
    tune: bool = True  # measure first which environment variables make a step on the CPU faster, and set those
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
        plain: dict[str, Any] = _plain(asdict(self))
        return plain


def _plain(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
