"""The commands of the READMEs, with the demo network in a folder of their own.

``$`` in the README of the project is run. Other prompts (``jetson$``), blocks after ``<!-- parsed only -->`` and the
other READMEs need another machine, minutes or data that is not here: their options are parsed.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import click
import pytest
from click.testing import CliRunner
from helpers.cut_exports import ESCRIPTORIUM_PAGE
from helpers.cut_fakes import paper, save_page

from htr_bench import latency
from htr_bench.alone import Peak
from htr_export.onnx import checks

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "training" / "demo"
PARSED_ONLY = "<!-- parsed only -->"
PAPERS = (
    "README.md",
    "benchmarks/README.md",
    "training/README.md",
    "training/demo/README.md",
    ".github/CONTRIBUTING.md",
)
PROMPT = re.compile(r"(\w*)\$ (.+)")


class Shown(NamedTuple):
    """A command as a README shows it."""

    paper: str
    words: tuple[str, ...]
    runs: bool

    def __str__(self) -> str:
        return " ".join(self.words)


def shown_commands():
    for paper_name in PAPERS:
        text = (ROOT / paper_name).read_text(encoding="utf-8")
        for marker, block in re.findall(rf"({re.escape(PARSED_ONLY)}\n)?```console\n(.*?)```", text, re.DOTALL):
            for prompt, command in PROMPT.findall(block.replace("\\\n", " ")):
                runs = paper_name == "README.md" and not prompt and not marker
                yield Shown(paper_name, tuple(shlex.split(command, comments=True)), runs)
        for command in re.findall(r"`((?:htr-\w+|python [\w/]+\.py)[^`\n]* [^`\n]*)`", text):
            yield Shown(paper_name, tuple(shlex.split(command)), runs=False)


COMMANDS = list(shown_commands())


def program(name):
    """Return the Click command of a console script or of a script in the repository."""
    if name.startswith("htr-"):
        module, _, attribute = project()["scripts"][name].partition(":")
    else:
        module, attribute = Path(name).stem, "main"
    return getattr(__import__(module, fromlist=[attribute]), attribute, None)


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def check_options(command, words):
    """Raise a usage error unless the command has these options; files need not be there."""
    context = click.Context(command)
    if isinstance(command, click.Group):
        context = click.Context(command.get_command(context, words[0]) or pytest.fail(f"no command {words[0]}"))
        command, words = context.command, words[1:]
    if "..." in " ".join(words) or not words:
        words = [word.replace("...", "") for word in words]
    values, _, _ = command.make_parser(context).parse_args(list(words))
    for parameter in command.params:
        value = values.get(parameter.name)
        if isinstance(parameter.type, click.Choice) and isinstance(value, str) and value.islower():
            assert value in parameter.type.choices


@pytest.mark.parametrize("shown", COMMANDS, ids=str)
def test_every_command_has_the_options_that_a_readme_gives_it(shown):
    name, *words = shown.words
    if name == "python":
        assert (ROOT / words[0]).is_file()
        name, *words = words
    if name.startswith("htr-") or name.endswith(".py"):
        command = program(name) if name.startswith(("htr-", "benchmarks/")) else None
        if isinstance(command, click.Command):
            check_options(command, words)
    elif name == "make":
        assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    elif name == "pip":
        for extra in re.findall(r"\[(.*?)\]", shown.words[-1]):
            assert set(extra.split(",")) <= set(project()["optional-dependencies"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the README supposes: a checkpoint, lines, lists, a page with its XML."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copyfile(DEMO / "demo.pth", folder / "best_CER.pth")
    shutil.copytree(DEMO / "lines", folder / "lines")
    for name in ("train.ln", "val.ln"):
        shutil.copyfile(DEMO / "demo.ln", folder / name)
    page = paper()
    page[30:50, 40:300:8] = page[110:130, 40:200:6] = 40
    save_page(folder / "pages", "0001_p001.jpg", page)
    (folder / "pages" / "0001_p001.xml").write_text(ESCRIPTORIUM_PAGE, encoding="utf-8")
    return folder


@pytest.mark.usefixtures("graphs_once")
def test_the_commands_of_the_readme_run(folder, monkeypatch):
    monkeypatch.chdir(folder)
    # What takes longest and has tests of its own: the checks of ONNX at all widths, memory in processes of their own.
    monkeypatch.setattr(checks, "WIDTHS", (256,))
    monkeypatch.setattr(latency, "run_alone", lambda _request: Peak(2, 1))
    monkeypatch.setattr(latency, "MAX_EXTENSION", 1)
    for shown in (shown for shown in COMMANDS if shown.runs):
        name, *words = shown.words
        if name.startswith("htr-"):
            expanded = [path for word in words for path in (sorted(Path().glob(word)) if "*" in word else [word])]
            result = CliRunner().invoke(program(name), list(map(str, expanded)), prog_name=name)
            assert result.exit_code == 0, f"{shown}\n{result.output}"
        else:
            assert name in {"git", "cd", "make", "pip", "scp", "eval"}, shown


def test_the_python_of_the_readme_runs(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(code, "README.md", "exec"), {})  # noqa: S102
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("name", ["htr-read", "htr-export"])
def test_completion_as_the_readme_gives_it(name):
    variable = f"_{name.replace('-', '_').upper()}_COMPLETE"
    assert variable in (ROOT / "README.md").read_text(encoding="utf-8")
    result = CliRunner().invoke(program(name), [], prog_name=name, env={variable: "bash_source"})
    assert "complete" in result.stdout


def test_the_readme_fits_on_three_screens_and_its_links_exist():
    for paper_name in PAPERS:
        text = (ROOT / paper_name).read_text(encoding="utf-8")
        targets = [*re.findall(r"\]\(([^)#:]+)\)", text), *re.findall(r'src="([^":]+)"', text)]
        assert [target for target in targets if not ((ROOT / paper_name).parent / target).exists()] == []
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 140


def test_the_python_of_the_readme_has_the_types_that_it_says(tmp_path):
    api = pytest.importorskip("mypy.api")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for number, code in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL)):
        (tmp_path / f"example{number}.py").write_text(code, encoding="utf-8")
    config = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path / "cache")]
    said, errors, code = api.run([*config, *map(str, tmp_path.glob("*.py"))])
    assert code == 0, said + errors
