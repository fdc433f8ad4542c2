"""What proves the models of a bundle: verdicts of validations, and the bundle's own self-test on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from htr_engines.bundle import NOT_VALIDATED, open_bundle
from htr_engines.checks import failures
from htr_engines.errors import BundleError, HtrError, ParityError
from htr_engines.selection import candidates
from htr_engines.self_test import self_test
from htr_export.decoding import GREEDY, Decoding
from htr_export.validation.report import load_report

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from htr_engines.checks import Check

KEPT = ("mode", "lines", "changed", "reference_rates", "candidate_rates", "cer_increase", "wer_increase")


def add_verdicts(
    entries: Sequence[dict[str, Any]], digests: Mapping[str, str], reports: Sequence[Path], decoding: Decoding = GREEDY
) -> None:
    """Add to each model's entry its verdicts by engine, and take away the engines on which it failed.

    Reports are found by ``digests``, the file names by SHA-256.

    Raises:
        BundleError: if a report is about another file or decoder, or two are about the same pair.
        ParityError: if a model failed on every engine that it was validated on.
    """
    verdicts: dict[tuple[str, str], dict[str, Any]] = {}
    for report in reports:
        document = load_report(report)
        candidate = document["inputs"]["candidate"]
        name = digests.get(candidate["sha256"])
        if name is None:
            raise BundleError(
                f"{report} is about another file (SHA-256 {candidate['sha256'][:12]}...); validate the model again"
            )
        if (document["inputs"].get("decoding") or GREEDY.to_dict()) != decoding.to_dict():
            lm = f"with --lm {decoding.language_model}" if decoding.language_model else "without --lm"
            raise BundleError(f"{report} is about another decoder than the bundle's ({decoding}); validate again {lm}")
        if (name, candidate["engine"]) in verdicts:
            raise BundleError(f"two of the reports are about {name} on {candidate['engine']}; give one for each pair")
        verdicts[name, candidate["engine"]] = _verdict(document)
    for entry in entries:
        found = {engine: verdict for (name, engine), verdict in verdicts.items() if name == entry["file"]}
        passed = {engine: verdict for engine, verdict in found.items() if verdict["passed"]}
        if found and not passed:
            verdict = next(iter(found.values()))["verdict"]
            raise ParityError(f"{entry['file']}: {verdict}; a model that failed is not bundled as validated")
        remove_engines(entry, found.keys() - passed.keys())
        set_verdicts(entry, passed)


def set_verdicts(entry: dict[str, Any], passed: Mapping[str, Any]) -> None:
    """Put the verdicts that were passed into a model's entry, the first one also where older readers look for it."""
    entry["validations"] = dict(passed)
    entry["validation"] = next(iter(passed.values()), {"verdict": NOT_VALIDATED, "passed": False})


def remove_engines(entry: dict[str, Any], failed: set[str]) -> None:
    """Take engines away from a model's entry, so that no reader chooses them for it."""
    entry["engines"] = [engine for engine in entry["engines"] if engine not in failed]


def _verdict(document: dict[str, Any]) -> dict[str, Any]:
    result, candidate = document["result"], document["inputs"]["candidate"]
    return {
        "verdict": document["verdict"],
        "passed": document["passed"],
        "file": candidate["file"],
        "engine": candidate["engine"],
        "created": document["created"],
        "lines_sha256": document["inputs"]["lines_sha256"],
        "max_cer_increase": result["options"]["max_cer_increase"],
        **{name: result[name] for name in KEPT},
    }


def try_bundle(folder: Path) -> dict[tuple[str, str], list[Check]]:
    """Run the self-test of a bundle on every engine that opens here.

    Returns:
        The checks that failed, by file name and engine; an empty list where all passed.

    Raises:
        BundleError: if no engine opens any of its models here.
    """
    bundle = open_bundle(folder)
    found: dict[tuple[str, str], list[Check]] = {}
    reasons = []
    for candidate in candidates(bundle):
        try:
            with candidate.open() as engine:
                found[candidate.model.file.name, candidate.engine] = failures(
                    self_test(bundle, candidate.model, engine)
                )
        except HtrError as error:
            reasons.append(candidate.brief(error))
    if not found:
        raise BundleError(f"no engine here runs a model of the bundle, so it cannot be tried: {', '.join(reasons)}")
    return found
