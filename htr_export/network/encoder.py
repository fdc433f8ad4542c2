"""The ConvText blocks of the U-shaped encoder, over sequences [N,L,D]."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from htr_export.network.attention import attend

MAX_DISTANCE = 127  # tokens further apart than this share a relative position bias
MAX_TOKENS = 512  # of the widest line, 2048 pixels, at four pixels a token


class LayerScale(nn.Module):
    """A learned factor per channel, times a constant ``weight``."""

    def __init__(self, dim: int, weight: float = 1.0) -> None:
        super().__init__()
        self.weight_of_branch = weight
        self.gamma = nn.Parameter(torch.full((dim,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        """Scale the last axis."""
        return x * (self.gamma * self.weight_of_branch)


class RelativePositionBias(nn.Module):
    """A learned bias per head for each distance between two tokens."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.bias = nn.Embedding(2 * MAX_DISTANCE + 1, num_heads)

    def forward(self, distance_LL: Tensor) -> Tensor:
        """Return the bias [heads,L,L] for the table rows ``distance_LL``."""
        return self.bias(distance_LL).permute(2, 0, 1)


class SelfAttention(nn.Module):
    """Multi-head self-attention with relative position bias."""

    def __init__(self, dim: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.rel_pos_bias = RelativePositionBias(num_heads)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.dropout = dropout

    def forward(self, x_NLD: Tensor, distance_LL: Tensor) -> Tensor:
        """Apply the attention; the shape stays."""
        n, length, dim = x_NLD.shape
        heads = self.qkv(x_NLD).reshape(n, length, 3, self.num_heads, dim // self.num_heads)
        query, key, value = heads.permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.rel_pos_bias(distance_LL)
        out = attend(query, key, value, bias, training=self.training, dropout=self.dropout)
        out = self.proj(out.transpose(1, 2).reshape(n, length, dim))
        return functional.dropout(out, self.dropout, self.training)


class FeedForward(nn.Module):
    """Linear, SiLU, linear, four times as wide inside."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, 4 * dim)
        self.lin2 = nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_NLD: Tensor) -> Tensor:
        """Apply it; the shape stays."""
        return self.dropout(self.lin2(self.dropout(functional.silu(self.lin1(x_NLD)))))


class ConvModule(nn.Module):
    """Point-wise, depth-wise (7 tokens) and point-wise convolution along the line."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.pw1 = nn.Conv1d(dim, dim, 1)
        self.dw = nn.Conv1d(dim, dim, 7, padding=3, groups=dim)
        self.gn = nn.GroupNorm(1, dim)
        self.pw2 = nn.Conv1d(dim, dim, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_NLD: Tensor) -> Tensor:
        """Apply it; the shape stays."""
        x_NDL = functional.silu(self.pw1(x_NLD.transpose(1, 2)))
        x_NDL = self.pw2(functional.silu(self.gn(self.dw(x_NDL))))
        return self.dropout(x_NDL.transpose(1, 2))


class DropPath(nn.Module):
    """Stochastic depth (arXiv 1603.09382): while training, a branch is dropped for whole lines."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch_NLD: Tensor) -> Tensor:
        """Apply it; the shape stays."""
        if not self.training or self.probability == 0.0:
            return branch_NLD
        keep = 1.0 - self.probability
        mask = branch_NLD.new_empty(branch_NLD.shape[0], 1, 1).bernoulli_(keep)
        return branch_NLD * mask / keep


class ConvTextBlock(nn.Module):
    """Attention, half a feed-forward, convolution, half a feed-forward; each scaled, added and normalised."""

    def __init__(self, dim: int, num_heads: int, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.attn = SelfAttention(dim, num_heads, dropout)
        self.ffn1 = FeedForward(dim, dropout)
        self.conv = ConvModule(dim, dropout)
        self.ffn2 = FeedForward(dim, dropout)
        self.postln_attn = nn.LayerNorm(dim, eps=1e-6)
        self.postln_ffn1 = nn.LayerNorm(dim, eps=1e-6)
        self.postln_conv = nn.LayerNorm(dim, eps=1e-6)
        self.postln_ffn2 = nn.LayerNorm(dim, eps=1e-6)
        self.ls_attn = LayerScale(dim)
        self.ls_ffn1 = LayerScale(dim, weight=0.5)
        self.ls_conv = LayerScale(dim)
        self.ls_ffn2 = LayerScale(dim, weight=0.5)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_NLD: Tensor, distance_LL: Tensor) -> Tensor:
        """Apply the block; the shape stays."""
        drop = self.drop_path
        x_NLD = self.postln_attn(x_NLD + drop(self.ls_attn(self.attn(x_NLD, distance_LL))))
        x_NLD = self.postln_ffn1(x_NLD + drop(self.ls_ffn1(self.ffn1(x_NLD))))
        x_NLD = self.postln_conv(x_NLD + drop(self.ls_conv(self.conv(x_NLD))))
        return self.postln_ffn2(x_NLD + drop(self.ls_ffn2(self.ffn2(x_NLD))))


class Downsample(nn.Module):
    """Half the length by a depth-wise convolution; an odd length repeats its last token first."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dw = nn.Conv1d(dim, dim, 3, 2, 1, groups=dim, bias=False)
        self.pw = nn.Conv1d(dim, dim, 1)

    def forward(self, x_NLD: Tensor) -> Tensor:
        """Return [N, ceil(L/2), D]."""
        if x_NLD.shape[1] % 2 == 1:
            x_NLD = torch.cat([x_NLD, x_NLD[:, -1:]], 1)
        return self.pw(self.dw(x_NLD.transpose(1, 2))).transpose(1, 2)


class Upsample(nn.Module):
    """Twice the length by repeating each token, then a point-wise convolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv1d(dim, dim, 1)

    def forward(self, x_NLD: Tensor, length: int) -> Tensor:
        """Return [N, length, D]; ``length`` is twice the given one, or one less."""
        x_NDL = x_NLD.transpose(1, 2)
        # Nearest neighbour up to L or L - 1 is repetition; Resize would carry its sizes through the exported graph.
        x_NDL = torch.stack([x_NDL, x_NDL], -1).flatten(2)
        if length % 2 == 1:
            x_NDL = x_NDL[:, :, :length]
        return self.proj(x_NDL).transpose(1, 2)


def distance_table() -> Tensor:
    """Return the table rows [512,512] of the relative position bias for every pair of tokens."""
    position = torch.arange(MAX_TOKENS, dtype=torch.int32)
    return (position[:, None] - position[None, :]).clamp(-MAX_DISTANCE, MAX_DISTANCE) + MAX_DISTANCE
