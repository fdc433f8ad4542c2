"""What can go wrong in training beyond what every floor shares."""

from htr_engines.errors import HtrError


class RecipeError(HtrError, ValueError):
    """A recipe that asks for something unknown or impossible."""


class TrainingError(HtrError, RuntimeError):
    """A training that cannot start or must not go on."""
