"""From the effect of each group alone to many groups lowered together. Nothing here reads a file or runs a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from htr_export.precision.precision_map import Precision

ROUNDS = 5  # culprits that are found and left out; each costs a logarithm of readings of all lines
_LEAST_DAMAGE = 1e-9  # below it, two damages are equal: rounding, not precision


@dataclass(frozen=True)
class Move:
    """A group put into a lower precision, and what that did when nothing else was lowered."""

    group: str
    precision: Precision
    gain: float  # share of the time that it saves; below 0 where it costs time
    damage: float  # how far it turns the logits: 1 - cosine, which adds up over independent moves


def ordered(moves: Sequence[Move]) -> list[Move]:
    """Return the moves with the most time saved per damage first; those that save none come last, gentlest first."""
    return sorted(moves, key=_rank)


def merged(moves: Sequence[Move]) -> dict[str, Precision]:
    """Return the precision of each group after all moves; of two moves of one group, that which saves more counts."""
    best: dict[str, Move] = {}
    for move in moves:
        if move.group not in best or move.gain > best[move.group].gain:
            best[move.group] = move
    return {group: move.precision for group, move in best.items()}


def assemble(
    moves: Sequence[Move], holds: Callable[[Mapping[str, Precision]], bool], rounds: int = ROUNDS
) -> list[Move]:
    """Take as many moves as hold the bound together, in their order.

    The longest beginning that holds is found by bisection. The move after it is left out as the culprit, and the search
    goes on behind it, as often as ``rounds`` says.

    Args:
        moves: the most promising first.
        holds: returns whether some lowered groups stay within the bound; called once or several times for the same
            groups, never for none.
        rounds: number of bisections.

    Returns:
        The moves taken. Together they hold the bound, unless there are none.
    """
    taken: list[Move] = []
    left = list(moves)
    for _ in range(rounds):
        if not left:
            break
        count = _longest(taken, left, holds)
        taken += left[:count]
        left = left[count + 1 :]
    return taken


def _longest(taken: list[Move], left: list[Move], holds: Callable[[Mapping[str, Precision]], bool]) -> int:
    """Return how many of ``left`` can follow ``taken``."""
    if holds(merged([*taken, *left])):
        return len(left)
    good, bad = 0, len(left)
    while bad - good > 1:
        middle = (good + bad) // 2
        if holds(merged([*taken, *left[:middle]])):
            good = middle
        else:
            bad = middle
    return good


def _rank(move: Move) -> tuple[bool, float]:
    damage = max(move.damage, _LEAST_DAMAGE)
    return (False, -move.gain / damage) if move.gain > 0 else (True, damage)
