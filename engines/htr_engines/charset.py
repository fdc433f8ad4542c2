"""The characters that a network can write: class 0 is the CTC blank, class k is ``characters[k - 1]``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from htr_engines.documents import parse_json
from htr_engines.errors import CharsetError, FileError
from htr_engines.files import read_file
from htr_engines.text import printable, shown

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 1 << 20

PRESETS = {
    "iam": " !\"#&'()*+,-./0123456789:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
    "read2016": (
        " ()+,-./0123456789:<>ABCDEFGHIJKLMNOPQRSTUVWYZ[]abcdefghijklmnopqrstuvwxyz"
        "\u00be\u00d6\u00df\u00e4\u00f6\u00fc\u00ff\u0101\u0113\u014d\u016b\u0233\u0304\u0308\u2014"
    ),
    "lam": (" !\"#%&'()+,-./0123456789:;=?ABCDEFGHIJKLMNOPQRSTUVWXZabcdefghijlmnopqrstuvwxyz|°·ÈÉàèéìòù\u2013"),
    "vnondb": (
        ' !"%&()*,-./0123456789:;?ABCDEFGHIJKLMNOPQRSTUVWXYabcdefghijklmnopqrstuvxyz'
        "ÀÁÂÔÚÝàáâãèéêìíòóôõùúýĂăĐđĩũƠơƯưạẢảẤấẦầẩẫậắằẳẵặẹẻẽếỀềỂểễỆệỉịọỏỐốỒồổỗộớờỞởỡợụỦủứừửữựỳỷỹ"
    ),
}


@dataclass(frozen=True)
class Charset:
    """An ordered set of single code points.

    Raises:
        CharsetError: if it is empty, a character occurs twice, or one is a control character or a line break, which
            would reach terminals and break lines.
    """

    characters: str

    def __post_init__(self) -> None:
        if not self.characters:
            raise CharsetError("the character set is empty; give one character per class, in class order")
        seen: set[str] = set()
        for character in self.characters:
            if character in seen:
                raise CharsetError(
                    f"the character set holds {character!r} (U+{ord(character):04X}) twice; each class needs its own"
                )
            if printable(character) != character:
                raise CharsetError(f"the character set holds U+{ord(character):04X}, a control character; remove it")
            seen.add(character)

    @property
    def num_classes(self) -> int:
        """The width of the network's head: the characters and the blank."""
        return len(self.characters) + 1

    def encode(self, text: str) -> list[int]:
        """Return the class of each character of ``text``; those that the set lacks raise :class:`CharsetError`."""
        try:
            return [self._classes[character] for character in text]
        except KeyError as error:
            raise CharsetError(
                f"the text {shown(text)} holds {error.args[0]!r}, which the character set lacks"
            ) from None

    def missing_from(self, text: str) -> set[str]:
        """Return the characters of ``text`` that the set lacks."""
        return set(text) - self._classes.keys()

    @cached_property
    def _classes(self) -> dict[str, int]:
        return {character: index + 1 for index, character in enumerate(self.characters)}

    def check_fits(self, num_classes: int) -> None:
        """Raise :class:`CharsetError` with both numbers unless the network has ``num_classes`` outputs for this set."""
        if num_classes != self.num_classes:
            fitting = [name for name, characters in PRESETS.items() if len(characters) + 1 == num_classes]
            named = f", such as --dataset {' or '.join(fitting)}" if fitting else ""
            raise CharsetError(
                f"the character set has {len(self.characters)} characters, so the head should have "
                f"{self.num_classes} classes (blank included), but it has {num_classes}; "
                f"give the --dataset or --charset that the network was trained with{named}"
            )


def read_charset(path: Path) -> Charset:
    """Read a character set from a UTF-8 file.

    A ``.json`` file holds a string or a list of characters. Any other file holds the characters in class order, on one
    line or one a line; line breaks are not characters.
    """
    try:
        text = read_file(path, MAX_BYTES).decode("utf-8-sig")
    except FileError as error:
        raise CharsetError(str(error)) from None
    except UnicodeDecodeError:
        raise CharsetError(f"{path} is not UTF-8 text; save the character set as UTF-8") from None
    if path.suffix.lower() != ".json":
        return Charset(text.replace("\r", "").replace("\n", ""))
    cure = "it should hold one string, or a list of single characters"
    kind: Any = str | list[str]
    characters: str | list[str] = parse_json(text, kind, str(path), cure, CharsetError)
    return Charset("".join(characters))


def preset(name: str) -> Charset:
    """Return the character set of a published data set: ``iam``, ``read2016``, ``lam`` or ``vnondb``."""
    if name not in PRESETS:
        raise CharsetError(f"no data set is called {name!r}; choose one of {', '.join(PRESETS)}")
    return Charset(PRESETS[name])
