"""A bundle as a web page."""

from __future__ import annotations

import json
import shutil

import pytest
from click.testing import CliRunner

import htr_export.site
from htr_engines.errors import BundleError, ExportError
from htr_export.cli import main
from htr_export.site import write_site


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A page as npm builds it, in small."""
    folder = tmp_path / "page"
    (folder / "ort").mkdir(parents=True)
    (folder / "index.html").write_text("<title>page</title>", encoding="utf-8")
    (folder / "sw.js").write_text('const CACHE="htr-__VERSION__"', encoding="utf-8")
    (folder / "ort" / "ort.wasm").write_bytes(b"\0asm")
    monkeypatch.setattr(htr_export.site, "PAGE", folder)
    return folder


def worker(site):
    return (site / "sw.js").read_text(encoding="utf-8")


@pytest.mark.usefixtures("page")
def test_the_site_holds_the_page_and_the_bundle(bundle, tmp_path):
    site = tmp_path / "site"
    result = CliRunner().invoke(main, ["site", str(bundle), "-o", str(site)])
    assert result.exit_code == 0, result.output
    assert f"wrote {site}" in result.output
    assert (site / "ort" / "ort.wasm").is_file()
    for name in json.loads((bundle / "manifest.json").read_text(encoding="utf-8"))["files"]:
        assert (site / "bundle" / name).read_bytes() == (bundle / name).read_bytes()


def test_browsers_notice_a_new_version(page, bundle, tmp_path):
    sites = [tmp_path / str(number) for number in range(3)]
    write_site(bundle, sites[0])
    write_site(bundle, sites[1])
    (page / "index.html").write_text("<title>other</title>", encoding="utf-8")
    write_site(bundle, sites[2])
    assert "__VERSION__" not in worker(sites[0])
    assert worker(sites[0]) == worker(sites[1]) != worker(sites[2])


@pytest.mark.usefixtures("page")
def test_an_older_site_is_replaced_and_nothing_else(bundle, tmp_path):
    write_site(bundle, tmp_path / "site")
    (tmp_path / "site" / "stale.js").touch()
    write_site(bundle, tmp_path / "site")
    assert not (tmp_path / "site" / "stale.js").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(ExportError, match="folder with other files"):
        write_site(bundle, tmp_path / "mine")


@pytest.mark.usefixtures("page")
def test_models_that_no_browser_runs_stay_out(bundle, tmp_path):
    copy = tmp_path / "copy.htr"
    shutil.copytree(bundle, copy)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    shutil.copy(copy / "model.onnx", copy / "other.onnx")
    manifest["files"]["other.onnx"] = manifest["files"]["model.onnx"]
    manifest["models"].append({**manifest["models"][0], "file": "other.onnx", "engines": ["openvino"]})
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    write_site(copy, tmp_path / "site")
    assert (tmp_path / "site" / "bundle" / "model.onnx").is_file()
    assert not (tmp_path / "site" / "bundle" / "other.onnx").exists()
    manifest["models"] = manifest["models"][1:]
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(BundleError, match="no model for browsers"):
        write_site(copy, tmp_path / "none")


def test_a_changed_bundle_and_a_missing_page_are_refused(page, bundle, tmp_path):
    copy = tmp_path / "copy.htr"
    shutil.copytree(bundle, copy)
    with (copy / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(BundleError, match="changed"):
        write_site(copy, tmp_path / "site")
    shutil.rmtree(page)
    with pytest.raises(ExportError, match="make web-page"):
        write_site(bundle, tmp_path / "site")
