"""Reading on a real Ray cluster of this machine, which is killed on its way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from helpers.cut_fakes import LINE_A, LINE_B, page_xml, save_page

pytest.importorskip("ray", reason="needs the extra 'ray'; run: make test-scale")

KILLS = int(os.environ.get("HTR_SCALE_KILLS", "2"))
LINES = int(os.environ.get("HTR_SCALE_LINES", "400"))


def command(*arguments):
    return [sys.executable, "-c", "from htr_engines.cli import main; main()", *map(str, arguments)]


def rows(output):
    from pyarrow import dataset

    return dataset.dataset(output / "readings", format="parquet").to_table().to_pylist()


@pytest.fixture(scope="module")
def many(demo_lines, tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    for number in range(LINES):
        content = b"broken" if number % 100 == 7 else demo_lines[number % len(demo_lines)].read_bytes()
        (folder / f"{number:06d}.png").write_bytes(content)
    return folder


def test_a_job_that_is_killed_goes_on_and_reads_nothing_twice(demo_bundle, many, expected, tmp_path):
    job = command(
        demo_bundle, many, "--ray", "local", "-o", tmp_path / "out", "--workers", "2", "--engine", "onnxruntime"
    )
    chance = random.Random(1)  # noqa: S311
    for _ in range(KILLS):
        driver = subprocess.Popen(job, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(8, 30))
        workers = subprocess.run(["pgrep", "-f", "ray::.*Reader"], capture_output=True, text=True, check=False)
        if chance.random() < 0.5 and workers.stdout:
            os.kill(int(workers.stdout.split()[0]), signal.SIGKILL)
            time.sleep(chance.uniform(0, 5))
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
    result = subprocess.run(job, capture_output=True, text=True, check=False, timeout=500)
    assert result.returncode == 1, result.stderr  # some images are broken
    summary = json.loads(result.stdout.splitlines()[-1])
    assert (summary["lines"], summary["failures"]) == (LINES, len(range(7, LINES, 100)))
    read = rows(tmp_path / "out")
    assert set(Counter(row["path"] for row in read).values()) == {1}
    for row in read:
        number = int(row["path"].rpartition("/")[2].removesuffix(".png"))
        assert row["error"] if number % 100 == 7 else row["text"] == expected[number % len(expected)].text


def test_documents_are_written_with_their_text(demo_bundle, tmp_path):
    pages = tmp_path / "pages"
    pages.mkdir()
    for name in ("one", "two"):
        (pages / f"{name}.xml").write_text(page_xml(LINE_A, LINE_B, image=f"{name}.png"), encoding="utf-8")
        save_page(pages, f"{name}.png")
    (pages / "three.xml").write_text("<broken", encoding="utf-8")
    job = command(demo_bundle, pages, "--ray", "local", "-o", tmp_path / "out", "--format", "xml", "--workers", "1")
    result = subprocess.run(job, capture_output=True, text=True, check=False, timeout=500)
    assert result.returncode == 1, result.stderr
    summary = json.loads(result.stdout.splitlines()[-1])
    assert (summary["lines"], summary["failures"]) == (4, 1)
    assert {path.name for path in (tmp_path / "out").glob("*.xml")} == {"one.xml", "two.xml"}


def test_a_cluster_without_a_cpu_to_spare_is_refused(demo_bundle, many, tmp_path):
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        address = ray.get_runtime_context().gcs_address
        job = command(demo_bundle, many, "--ray", address, "-o", tmp_path / "out", "--workers", "2")
        result = subprocess.run(job, capture_output=True, text=True, check=False, timeout=200)
    finally:
        ray.shutdown()
    assert result.returncode == 1
    assert "too few" in result.stderr
