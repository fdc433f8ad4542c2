"""What every artefact says of its network, read without PyTorch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from htr_engines.charset import Charset
from htr_engines.documents import parse_json
from htr_engines.errors import CheckpointError
from htr_export.network.config import NetworkConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = "htr-convtext"
SCHEMA_VERSION = "1"
PROVENANCE = ("source_sha256", "weights", "iteration", "best_cer", "best_wer")


class _Header(msgspec.Struct):
    metadata: dict[str, str] = msgspec.field(name="__metadata__", default_factory=dict)


def read_metadata(content: bytes, name: str) -> dict[str, str]:
    """Return the metadata of a ``.safetensors`` file, which begins with the length of its header and that, as JSON.

    Raises:
        CheckpointError: if the header is damaged.
    """
    size = int.from_bytes(content[:8], "little")
    header = parse_json(content[8 : 8 + size], _Header, name, "strip the checkpoint again", CheckpointError)
    return header.metadata


def parse_metadata(metadata: Mapping[str, str], name: str) -> tuple[Charset, NetworkConfig]:
    """Read the characters and the network's size from an artefact's metadata.

    Raises:
        CheckpointError: if the metadata is not ours, or of a version that this release does not know.
    """
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{name} was not written by htr-export; strip or export the checkpoint with it")
    if metadata.get("schema_version") != SCHEMA_VERSION:
        raise CheckpointError(
            f"{name} has schema version {metadata.get('schema_version')}, this release knows {SCHEMA_VERSION}; "
            "install the release that wrote it"
        )
    try:
        numbers = parse_json(metadata["network"], dict[str, Any], f"{name}, network", "write it again", CheckpointError)
        return Charset(metadata["charset"]), NetworkConfig.from_dict(numbers)
    except KeyError as error:
        raise CheckpointError(f"{name} has no {error.args[0]!r} in its metadata; write it again") from None
