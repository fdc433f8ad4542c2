"""Which module of the network a node of the graph comes from."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import NodeProto

SCOPES = "pkg.torch.onnx.name_scopes"  # the metadata of a node that says which module it comes from


def module_of(node: NodeProto) -> str:
    """Return the path of the module that a node came from, such as ``blocks.3.attn``; its own name if it has none."""
    for entry in node.metadata_props:
        if entry.key == SCOPES:
            # ['', 'blocks.3', 'blocks.3.attn', 'matmul_7']: from the whole network inwards to the operation.
            scopes = ast.literal_eval(entry.value)
            return str(scopes[-2]) or "network"
    return str(node.name)
