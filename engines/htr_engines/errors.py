"""What can go wrong, each with the exit code that the command line gives it.

Every error also inherits the builtin that a library user would catch. The message is one sentence that says what is
wrong and how to fix it; it reaches people as it is.
"""

MAX_QUOTED = 400  # characters of a foreign message


def one_line(error: BaseException | str, *, last: bool = False) -> str:
    """Return the first line of what a foreign library says of a failure, or the last, where some put the reason.

    Libraries quote what they were given: what cannot be printed becomes ``?``, and a long line is cut.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if lines:
        line = "".join(letter if letter.isprintable() else "?" for letter in lines[-1 if last else 0])
        return line if len(line) <= MAX_QUOTED else f"{line[:MAX_QUOTED]}..."
    return "it gave no reason" if isinstance(error, str) else type(error).__name__


class HtrError(Exception):
    """Base of every error that a user can cause or cure."""

    exit_code = 1


class FileError(HtrError, OSError):
    """A file that cannot be read: missing, no regular file, or too large."""


class CharsetError(HtrError, ValueError):
    """A character set that cannot be read or does not fit its network."""


class ImageError(HtrError, ValueError):
    """A file that is not an image of a line that can be read."""


class EngineError(HtrError, RuntimeError):
    """An engine that cannot be opened, or that failed while it ran."""


class BundleError(HtrError, ValueError):
    """A bundle that is incomplete, changed or of an unknown version."""


class DecoderError(HtrError, ValueError):
    """Settings of a decoder that do not go together, or not with the bundle."""


class MissingExtraError(HtrError, ImportError):
    """A Python package that an optional extra would have brought."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            f"this needs the Python package '{package}'; install it with: pip install 'htr-export[{extra}]'"
        )


class CheckpointError(HtrError, ValueError):
    """A checkpoint that cannot be understood, or does not fit the network."""


class UnsafeCheckpointError(CheckpointError):
    """A checkpoint whose pickle asks for something that could run code."""


class ExportError(HtrError, RuntimeError):
    """An export that could not be carried out."""


class DataError(HtrError, ValueError):
    """Lines, lists or transcripts that cannot be used."""


class ParityError(HtrError, ValueError):
    """An artefact that does not compute what its reference computes."""

    exit_code = 3


class StoppedError(HtrError, RuntimeError):
    """Work that was stopped by Ctrl-C or SIGTERM; the message says what is kept and how to go on."""

    exit_code = 130


class UnstableError(HtrError, RuntimeError):
    """A measurement that scatters too much to be ranked."""

    exit_code = 4
