"""What a training says while it runs: the terminal, a JSONL file, TensorBoard and Weights & Biases."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from htr_engines.console import progress, stderr_console
from htr_engines.files import read_file, write_text
from htr_engines.text import printable
from htr_training.curves import parse_row, write_page
from htr_training.errors import TrainingError
from htr_training.readings import Evaluation, examples

if TYPE_CHECKING:
    from pathlib import Path

    from htr_training.recipe import Recipe


class Journal:
    """The log of one training. That it cannot be written does not stop the training.

    Args:
        folder: where ``log.jsonl`` and TensorBoard's files go.
        recipe: what is trained, and which logs are wanted.
        done: iterations that a continued training has behind it; what an earlier run logged later is dropped.
        writes: whether this process is the one that logs.

    Attributes:
        unvalidated: whether a continued training has no validation logged of its last iteration.
    """

    def __init__(self, folder: Path, recipe: Recipe, done: int, *, writes: bool) -> None:
        self.writes = writes
        self.unvalidated = False
        self._path = folder / "log.jsonl"
        self._total = recipe.schedule.iterations
        self._console = stderr_console()
        self._batch = recipe.optimizer.batch
        self._by_set = bool(recipe.data.sets)
        self._tensorboard = self._wandb = None
        if not writes:
            return
        folder.mkdir(parents=True, exist_ok=True)
        self.unvalidated = _forget_after(self._path, done)
        self._tensorboard = _open_tensorboard(folder, done) if recipe.run.tensorboard else None
        self._wandb = _open_wandb(folder, recipe) if recipe.run.wandb else None
        self._progress = progress(self._console)
        self._progress.start()
        self._task = self._progress.add_task("training", total=self._total, completed=done)

    def say(self, message: str) -> None:
        """Print a line on the terminal."""
        if self.writes:
            self._console.print(printable(message), markup=False, highlight=False, soft_wrap=True)

    def training(self, iteration: int, numbers: dict[str, float]) -> None:
        """Log the losses, the rate and the speed."""
        if not self.writes:
            return
        self._progress.update(self._task, completed=iteration)
        left = (self._total - iteration) * self._batch / numbers["lines_per_s"] / 60
        shown = "  ".join(f"{name} {value:.4g}" for name, value in numbers.items())
        self.say(f"{iteration}/{self._total}  {shown}  {left:.0f} min left")
        self._record("train", iteration, numbers)

    def validation(self, iteration: int, evaluation: Evaluation) -> None:
        """Log the error rates and ten example readings."""
        if not self.writes:
            return
        counts, loss = evaluation.counts, evaluation.loss
        rates = f"CER {counts.cer:.2%}  WER {counts.wer:.2%}  loss {loss:.4g}"
        self.say(f"{iteration}/{self._total}  validation: {rates}")
        by_set = {name: part.cer for name, part in evaluation.by_set().items()} if self._by_set else {}
        if by_set:
            self.say("  CER  " + "  ".join(f"{name} {cer:.2%}" for name, cer in by_set.items()))
        shown = examples(evaluation)
        for line in shown:
            self.say(f"  {line.counts.cer:7.1%}  {line.truth!r} was read as {line.prediction!r}")
        readings = [{"name": line.name, "truth": line.truth, "prediction": line.prediction} for line in shown]
        numbers = {"cer": counts.cer, "wer": counts.wer, "loss": loss}
        numbers |= {f"cer/{name}": cer for name, cer in by_set.items()}
        self._record("val", iteration, numbers, examples=readings)
        self._draw()

    def close(self) -> None:
        """Write what is still in buffers."""
        if not self.writes:
            return
        self._progress.stop()
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()

    def _draw(self) -> None:
        try:
            write_page(self._path.parent, self._path.parent.name)
        except OSError as error:
            self.say(f"the curves could not be drawn ({error.strerror}); the training goes on")

    def _record(self, kind: str, iteration: int, numbers: dict[str, float], **more: Any) -> None:  # noqa: ANN401
        row = json.dumps({"kind": kind, "iteration": iteration, **numbers, **more}, ensure_ascii=False)
        try:
            with self._path.open("a", encoding="utf-8", errors="backslashreplace") as stream:
                stream.write(row + "\n")
            for name, value in numbers.items():
                if self._tensorboard is not None:
                    self._tensorboard.add_scalar(f"{kind}/{name}", value, iteration)
        except OSError as error:
            self.say(f"the log could not be written ({error.strerror}); the training goes on")
        if self._wandb is not None:
            self._wandb.log({f"{kind}/{name}": value for name, value in numbers.items()}, step=iteration)


def _forget_after(path: Path, iteration: int) -> bool:
    """Drop what was logged after an iteration, and a last line that was cut short.

    Returns:
        Whether something is left, but no validation of that iteration.
    """
    if not path.exists():
        return False
    rows = [(row, parse_row(row)) for row in read_file(path).decode("utf-8", "replace").splitlines()]
    kept = [(row, parsed) for row, parsed in rows if parsed is not None and parsed.iteration <= iteration]
    write_text(path, "".join(f"{row}\n" for row, _ in kept))
    return bool(kept) and not any((parsed.kind, parsed.iteration) == ("val", iteration) for _, parsed in kept)


def _open_tensorboard(folder: Path, done: int) -> Any:  # noqa: ANN401
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder / "tensorboard"), purge_step=done + 1)


def _open_wandb(folder: Path, recipe: Recipe) -> Any:  # noqa: ANN401
    try:
        import wandb  # type: ignore[import-not-found]
    except ImportError:
        raise TrainingError("run.wandb needs the package wandb: pip install wandb, or --set run.wandb=false") from None
    return wandb.init(dir=str(folder), name=folder.name, config=recipe.to_dict(), resume="auto")
