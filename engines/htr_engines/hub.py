"""Bundles and checkpoints from the Hugging Face Hub: ``hf://OWNER/REPO[/FILE][@REVISION]``.

``huggingface_hub`` does the work: its cache, its tokens, ``HF_ENDPOINT``, ``HF_HUB_OFFLINE``, progress and file hashes.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from pathlib import Path

from htr_engines.errors import DataError, MissingExtraError, one_line

SCHEME = "hf://"
_ADDRESS = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(?:/(?P<file>[^@]+?))?/?(?:@(?P<revision>[^@\s]+))?", re.ASCII)
BUNDLE = "manifest.json"
CHECKPOINTS = ("*.pth", "*.pt", "*.safetensors")


@dataclass(frozen=True)
class Address:
    """A place on the Hub."""

    repo: str  # "OWNER/REPO"
    file: str | None  # a file or a folder in it; None is the whole repository
    revision: str | None  # a branch, tag or commit; None is the main branch


def parse_address(text: str) -> Address:
    """Read ``hf://OWNER/REPO[/FILE][@REVISION]``.

    Raises:
        DataError: if it has another form.
    """
    found = _ADDRESS.fullmatch(text)
    if found is None or ".." in (found["file"] or "").split("/"):
        raise DataError(
            f"{text} is no place on the Hub; write hf://OWNER/REPO, hf://OWNER/REPO/FILE or either @REVISION"
        )
    return Address(found["repo"], found["file"], found["revision"])


def fetch(text: str) -> Path:
    """Download a bundle or a checkpoint, or take it from the cache, and return where it is.

    A repository, or a folder in it, with a ``manifest.json`` is a bundle; one with a single checkpoint is that.

    Raises:
        DataError: if it is not there, may not be read, holds neither, or the Hub cannot be reached and the cache lacks
            it.
        MissingExtraError: if ``huggingface_hub`` is not installed.
    """
    address = parse_address(text)
    try:
        from huggingface_hub import errors
    except ImportError:
        raise MissingExtraError("huggingface_hub", "hub") from None
    try:
        return _fetch(address)
    except DataError:
        raise
    except errors.GatedRepoError:
        raise DataError(f"{text} is gated; accept its terms on its page and log in with 'hf auth login'") from None
    except errors.RepositoryNotFoundError:
        raise DataError(
            f"{text} does not exist or is private; check the name, or log in with 'hf auth login'"
        ) from None
    except errors.RevisionNotFoundError:
        raise DataError(f"{text}: there is no such revision; give a branch, a tag or a commit after the @") from None
    except errors.LocalEntryNotFoundError:
        raise DataError(
            f"{text} is not in the cache and the Hub cannot be reached; run it once with a connection, or give a local "
            "folder"
        ) from None
    except (errors.HfHubHTTPError, errors.HFValidationError, OSError, ValueError) as error:
        raise DataError(f"{text} cannot be downloaded ({one_line(error)}); try again later") from None


def _fetch(address: Address) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # what it warns of is raised as an error where it is one

    if address.file and any(fnmatch.fnmatch(address.file, pattern) for pattern in CHECKPOINTS):
        return Path(hf_hub_download(address.repo, address.file, revision=address.revision))
    prefix = f"{address.file}/" if address.file else ""

    def download(*patterns: str) -> Path:
        wanted = [f"{prefix}{pattern}" for pattern in patterns]
        return Path(snapshot_download(address.repo, revision=address.revision, allow_patterns=wanted)) / prefix

    folder = download(BUNDLE, *CHECKPOINTS)
    if (folder / BUNDLE).is_file():
        return download("*")
    found = sorted(path for pattern in CHECKPOINTS for path in folder.glob(pattern))
    if len(found) == 1:
        return found[0]
    what = f"several checkpoints ({', '.join(path.name for path in found)})" if found else "no bundle and no checkpoint"
    raise DataError(f"{SCHEME}{address.repo}/{prefix} holds {what}; name the file: {SCHEME}{address.repo}/FILE")
