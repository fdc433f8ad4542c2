"""What a training says while it runs: the terminal, a JSONL file, TensorBoard and Weights & Biases."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from htr_engines.console import progress, stderr_console
from htr_engines.errors import MissingExtraError
from htr_engines.files import write_text
from htr_training.evaluate import Evaluation, examples

if TYPE_CHECKING:
    from pathlib import Path

    from htr_training.recipe import Recipe


class Journal:
    """The log of one training.

    Args:
        folder: where ``log.jsonl`` and the TensorBoard events go.
        recipe: what is trained, and which logs are wanted.
        done: iterations that a resumed training has behind it; later entries of an earlier run are dropped.
        writes: whether this process is the one that logs.
    """

    def __init__(self, folder: Path, recipe: Recipe, done: int, *, writes: bool) -> None:
        self.path = folder / "log.jsonl"
        self.writes = writes
        self.console = stderr_console()
        self.total = recipe.schedule.iterations
        self._started = time.monotonic()
        self._first = done
        self._tensorboard = self._wandb = None
        if not writes:
            return
        if self.path.exists():
            kept = [row for row in self.path.read_text("utf-8").splitlines() if json.loads(row)["iteration"] <= done]
            write_text(self.path, "".join(f"{row}\n" for row in kept))
        self._tensorboard = _tensorboard(folder, done) if recipe.run.tensorboard else None
        self._wandb = _wandb(folder, recipe) if recipe.run.wandb else None
        self._progress = progress(self.console)
        self._progress.start()
        self._task = self._progress.add_task("training", total=self.total, completed=done)

    def say(self, message: str) -> None:
        """Print a line on the terminal."""
        if self.writes:
            self.console.print(message, markup=False, highlight=False, soft_wrap=True)

    def training(self, iteration: int, numbers: dict[str, float]) -> None:
        """Log the losses, the rate and the speed."""
        if not self.writes:
            return
        self._progress.update(self._task, completed=iteration)
        seconds = time.monotonic() - self._started
        left = seconds / (iteration - self._first) * (self.total - iteration)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        self.say(f"{iteration}/{self.total}  {shown}  left {left / 60:.0f} min")
        self._record("train", iteration, numbers)

    def validation(self, iteration: int, evaluation: Evaluation) -> None:
        """Log the error rates and ten example readings."""
        if not self.writes:
            return
        counts = evaluation.counts
        numbers = {"cer": counts.cer, "wer": counts.wer, "loss": evaluation.loss}
        self.say(f"{iteration}/{self.total}  validation: CER {counts.cer:.2%}  WER {counts.wer:.2%}  loss {evaluation.loss:.4g}")
        shown = examples(evaluation)
        for line in shown:
            self.say(f"    {line.counts.cer:7.1%}  {line.truth!r} read as {line.prediction!r}")
        readings = [{"name": line.name, "truth": line.truth, "prediction": line.prediction} for line in shown]
        self._record("val", iteration, numbers, {"examples": readings})

    def _record(self, kind: str, iteration: int, numbers: dict[str, float], more: dict[str, Any] | None = None) -> None:
        row = {"kind": kind, "iteration": iteration, **numbers, **(more or {})}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
        for name, value in numbers.items():
            if self._tensorboard is not None:
                self._tensorboard.add_scalar(f"{kind}/{name}", value, iteration)
        if self._wandb is not None:
            self._wandb.log({f"{kind}/{name}": value for name, value in numbers.items()}, step=iteration)

    def close(self) -> None:
        """Write what is still in buffers."""
        if not self.writes:
            return
        self._progress.stop()
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()


def _tensorboard(folder: Path, done: int) -> Any:  # noqa: ANN401
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)


def _wandb(folder: Path, recipe: Recipe) -> Any:  # noqa: ANN401
    try:
        import wandb
    except ImportError:
        raise MissingExtraError("wandb", "train") from None
    return wandb.init(dir=str(folder), config=recipe.to_dict(), resume="allow", name=folder.name)
