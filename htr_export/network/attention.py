"""Scaled dot-product attention, in the form that trains well and in the form that exports well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor


def attend(
    query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None = None, *, training: bool, dropout: float = 0.0
) -> Tensor:
    """Return ``softmax(query @ key^T / sqrt(head size) + bias) @ value`` over the last two axes.

    Args:
        query: [..., heads, L, head size].
        key: the same shape.
        value: the same shape.
        bias: added to the scores, broadcast to [..., heads, L, L].
        training: use the fused kernel, which does not keep the scores for the backward pass.
        dropout: probability with which a weight is dropped while training.
    """
    if training:
        q, k, v = (x.flatten(0, -4) for x in (query, key, value))  # the fused kernels take four axes
        return functional.scaled_dot_product_attention(q, k, v, bias, dropout).reshape(query.shape)
    # Spelled out, since the exporter would compute the fused kernel's scale and shapes at run time.
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-2, -1)
    if bias is not None:
        scores = scores + bias
    return scores.softmax(-1) @ value
