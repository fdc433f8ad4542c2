"""Draws the README's picture from the real output of ``make demo``: a line, its reading, the verdict of its validation.

python training/demo_picture.py demo-output/demo.htr training/demo/lines/demo-000014.png training/demo/picture.svg
"""

from __future__ import annotations

import base64
import sys
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from htr_engines import Recognizer
from htr_engines.checks import mark
from htr_engines.files import write_text
from htr_export.validation.report import load_report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from htr_engines.ctc import Reading

SCALE = 3  # pixels of the picture for one of the line image
MARGIN = 16
PICTURE = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{right}" height="{end}">
<style>
text {{ font: 15px system-ui, sans-serif; fill: #1c1c1e }}
.paper {{ fill: #fff }} .letter {{ font-size: 26px; text-anchor: middle }} .small {{ font-size: 12px; opacity: .7 }}
.passed {{ fill: #1a7f37; font-weight: 600 }} .failed {{ fill: #cf222e; font-weight: 600 }}
@media (prefers-color-scheme: dark) {{
  text {{ fill: #e8e8ea }} .paper {{ fill: #17181a }} .passed {{ fill: #3fb950 }}
}}
</style>
<rect class="paper" width="{right}" height="{end}" rx="8"/>
<image x="16" y="16" width="{width}" height="{height}" href="data:image/png;base64,{pixels}"/>
{letters}
<text class="small" x="16" y="{rows[1]}">{source}</text>
<text class="{kind}" x="16" y="{rows[2]}">{verdict}</text>
<text x="16" y="{rows[3]}">{rates}</text>
</svg>
"""


def draw(image: Path, reading: Reading, report: Mapping[str, Any]) -> str:
    """Return the picture as SVG: each character stands below the place where it was read."""
    with Image.open(image) as line:
        width, height = SCALE * line.width, SCALE * line.height
    rows = [height + offset for offset in (50, 76, 108, 130)]
    centres = [MARGIN + SCALE * (span.start + span.end) / 2 for span in reading.characters]
    letters = "".join(
        f'<text class="letter" x="{centre:.0f}" y="{rows[0]}">{escape(span.text)}</text>'
        for centre, span in zip(centres, reading.characters, strict=True)
    )
    return PICTURE.format(
        width=width,
        height=height,
        right=width + 2 * MARGIN,
        end=rows[-1] + MARGIN,
        pixels=base64.b64encode(image.read_bytes()).decode("ascii"),
        letters=letters,
        rows=rows,
        source=f"{escape(image.name)}, confidence {reading.confidence:.2f}",
        kind="passed" if report["passed"] else "failed",
        verdict=f"{mark(report['passed'])} {escape(report['verdict'])}",
        rates=escape(describe(report)),
    )


def describe(report: Mapping[str, Any]) -> str:
    """Return both error rates and the interval of their difference, in words."""
    result, engine = report["result"], report["inputs"]["candidate"]["engine"]
    reference, candidate = (result[f"{side}_rates"]["cer"] for side in ("reference", "candidate"))
    low, high = result["cer_increase"]["low"], result["cer_increase"]["high"]
    rates = f"CER {reference:.2f} % in PyTorch, {candidate:.2f} % in {engine}"
    return f"{rates}; 95 % interval of the increase {low:+.3f} to {high:+.3f} points"


def main(bundle: Path, image: Path, output: Path) -> None:
    """Read the line with the bundle and draw it with the verdict of the bundle's validation."""
    report = load_report(bundle.with_name(f"{bundle.name}.work") / "report")
    with Recognizer(bundle) as recognizer:
        reading = recognizer.read(image)
    write_text(output, draw(image, reading, report))


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:4]))
