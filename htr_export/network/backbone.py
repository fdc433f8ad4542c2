"""The ResNet-18 style backbone with a MobileViT block after each stage: [N,1,64,W] -> [N,D,1,W/4]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from htr_export.network.attention import attend

if TYPE_CHECKING:
    from htr_export.network.config import NetworkConfig


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a skip: [N,C,H,W] -> [N,C',H/sh,W/sw]."""

    def __init__(self, channels_in: int, channels: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Sequential | None = None
        if stride != (1, 1) or channels_in != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Apply the block."""
        skip = x_NCHW if self.downsample is None else self.downsample(x_NCHW)
        x_NCHW = functional.relu(self.bn1(self.conv1(x_NCHW)))
        return functional.relu(self.bn2(self.conv2(x_NCHW)) + skip)


class ConvUnit(nn.Module):
    """A convolution without bias, with BatchNorm and ReLU unless it is ``bare``."""

    def __init__(self, channels: int, kernel: int, *, bare: bool = False) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(channels, channels, kernel, padding=kernel // 2, bias=False))
        if not bare:
            self.block.append(nn.BatchNorm2d(channels))
            self.block.append(nn.ReLU())

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Apply the unit; the shape stays."""
        return self.block(x_NCHW)


class PatchAttention(nn.Module):
    """Self-attention among the patches, for each of the four positions inside a patch apart."""

    def __init__(self, dim: int, head_dim: int) -> None:
        super().__init__()
        self.num_heads = dim // head_dim
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x_NQPC: Tensor) -> Tensor:
        """Apply the attention over P; the shape stays. While exporting, it is [4N,P,C]."""
        if torch.compiler.is_exporting():
            return self._forward_rank_4(x_NQPC)
        n, q, p, c = x_NQPC.shape
        heads = self.qkv(x_NQPC).reshape(n, q, p, 3, self.num_heads, c // self.num_heads)
        query, key, value = heads.permute(3, 0, 1, 4, 2, 5).unbind(0)
        out = attend(query, key, value, training=self.training)
        return self.proj(out.transpose(2, 3).reshape(n, q, p, c))

    def _forward_rank_4(self, x_BPC: Tensor) -> Tensor:
        """Apply the attention with four axes at most, which is the form that engines fuse."""
        b, p, c = x_BPC.shape
        heads = self.qkv(x_BPC).reshape(b, p, 3 * self.num_heads, c // self.num_heads)
        query, key, value = heads.transpose(1, 2).chunk(3, 1)
        out = attend(query, key, value, training=False)
        return self.proj(out.transpose(1, 2).reshape(b, p, c))


class Mlp(nn.Module):
    """Linear, exact GELU, linear, four times as wide inside."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Apply it to the last axis."""
        return self.fc2(functional.gelu(self.fc1(x)))


class TransformerBlock(nn.Module):
    """A pre-norm transformer block over patches."""

    def __init__(self, dim: int, head_dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = PatchAttention(dim, head_dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim)

    def forward(self, x_NQPC: Tensor) -> Tensor:
        """Apply the block; the shape stays."""
        x_NQPC = x_NQPC + self.attn(self.norm1(x_NQPC))
        return x_NQPC + self.mlp(self.norm2(x_NQPC))


class PositionalConv(nn.Module):
    """A depth-wise 3x3 convolution over the grid of patches, added to its input: position without an embedding."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1, groups=dim))

    def forward(self, x_NQPC: Tensor, rows: int) -> Tensor:
        """Apply it to ``rows`` rows of patches; the shape stays. While exporting, it is [4N,P,C]."""
        if torch.compiler.is_exporting():
            b, _, c = x_NQPC.shape
            grid = self.proj(x_NQPC.transpose(1, 2).reshape(b, c, rows, -1))
            return x_NQPC + grid.reshape(b, c, -1).transpose(1, 2)
        n, q, _, c = x_NQPC.shape
        grid = x_NQPC.reshape(n * q, rows, -1, c).permute(0, 3, 1, 2)
        if n == 1:
            # The memory layouts of the published implementation: the golden values hold to the last bit.
            grid = grid.contiguous()
        return x_NQPC + self.proj(grid).permute(0, 2, 3, 1).reshape(x_NQPC.shape)


class LocalRepresentation(nn.Module):
    """The convolutional half of a MobileViT block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_3x3 = ConvUnit(channels, 3)
        self.conv_1x1 = ConvUnit(channels, 1, bare=True)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Apply it; the shape stays."""
        return self.conv_1x1(self.conv_3x3(x_NCHW))


class MobileViTBlock(nn.Module):
    """MobileViT (arXiv 2110.02178) with 2x2 patches, one transformer block and no fusion: the shape stays."""

    def __init__(self, channels: int, head_dim: int) -> None:
        super().__init__()
        self.local_rep = LocalRepresentation(channels)
        self.pos_pe = PositionalConv(channels)
        self.global_rep = nn.Sequential(TransformerBlock(channels, head_dim), nn.LayerNorm(channels))
        self.conv_proj = ConvUnit(channels, 1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Apply the block."""
        x_NCHW = self.local_rep(x_NCHW)
        height, width = x_NCHW.shape[2:]
        odd = height % 2 == 1 or width % 2 == 1
        if odd:
            x_NCHW = functional.interpolate(
                x_NCHW, size=(height + height % 2, width + width % 2), mode="bilinear", align_corners=False
            )
        rows = (height + 1) // 2
        x_NQPC = _unfold(x_NCHW, rows)
        x_NQPC = self.global_rep[0](x_NQPC)
        x_NQPC = self.global_rep[1](self.pos_pe(x_NQPC, rows))
        x_NCHW = _fold(x_NQPC, rows)
        if odd:
            x_NCHW = functional.interpolate(x_NCHW, size=(height, width), mode="bilinear", align_corners=False)
        return self.conv_proj(x_NCHW)


def _unfold(x_NCHW: Tensor, rows: int) -> Tensor:
    """Cut a map into patches of 2x2: [N,4,P,C], while exporting [4N,P,C]."""
    n, c = x_NCHW.shape[:2]
    if not torch.compiler.is_exporting():
        return x_NCHW.reshape(n, c, rows, 2, -1, 2).permute(0, 3, 5, 2, 4, 1).reshape(n, 4, -1, c)
    # Five axes at most, since some runtimes refuse more. The axes of length 1 keep the columns in their place, so that
    # the target of each Reshape is constant.
    x_N22RW = x_NCHW.reshape(n, c * rows, 2, -1, 2).permute(0, 2, 4, 1, 3)
    return x_N22RW.reshape(4 * n, 1, 1, c * rows, x_N22RW.shape[-1]).reshape(4 * n, c, -1).transpose(1, 2)


def _fold(x_NQPC: Tensor, rows: int) -> Tensor:
    """Put patches together again, as :func:`_unfold` cut them."""
    n, c = x_NQPC.shape[0], x_NQPC.shape[-1]
    if not torch.compiler.is_exporting():
        return x_NQPC.reshape(n, 2, 2, rows, -1, c).permute(0, 5, 3, 1, 4, 2).reshape(n, c, 2 * rows, -1)
    x_B11RW = x_NQPC.transpose(1, 2).reshape(n, 1, 1, c * rows, -1)
    x_N22RW = x_B11RW.reshape(n // 4, 2, 2, c * rows, x_B11RW.shape[-1])
    return x_N22RW.permute(0, 3, 1, 4, 2).reshape(n // 4, c, 2 * rows, -1)


def _stage(channels_in: int, channels: int, stride: tuple[int, int]) -> nn.Sequential:
    return nn.Sequential(BasicBlock(channels_in, channels, stride), BasicBlock(channels, channels, (1, 1)))


class Backbone(nn.Module):
    """Image to tokens: every factor of the height goes, a quarter of the width stays."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        dim, head_dim = config.embed_dim, config.mobilevit_head_dim
        self.conv1 = nn.Conv2d(1, dim // 4, 3, (2, 1), 1, bias=False)
        self.bn1 = nn.BatchNorm2d(dim // 4)
        self.layer1 = _stage(dim // 4, dim // 4, (2, 1))
        self.mobilevit_block1 = MobileViTBlock(dim // 4, head_dim)
        self.layer2 = _stage(dim // 4, dim // 2, (2, 2))
        self.mobilevit_block2 = MobileViTBlock(dim // 2, head_dim)
        self.layer3 = _stage(dim // 2, dim, (2, 2))
        self.mobilevit_block3 = MobileViTBlock(dim, head_dim)
        self.pool = nn.MaxPool2d(3, (2, 1), 1)

    def forward(self, image_N1HW: Tensor) -> Tensor:
        """Return the feature map [N,D,1,W/4]."""
        x_NCHW = self.pool(functional.relu(self.bn1(self.conv1(image_N1HW))))
        x_NCHW = self.mobilevit_block1(self.layer1(x_NCHW))
        x_NCHW = self.mobilevit_block2(self.layer2(x_NCHW))
        x_NCHW = self.mobilevit_block3(self.layer3(x_NCHW))
        return self.pool(x_NCHW)
