"""HTR-ConvText (arXiv 2512.05021) without its textual context module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from htr_export.network.backbone import Backbone
from htr_export.network.encoder import ConvTextBlock, Downsample, Upsample, distance_table

if TYPE_CHECKING:
    from htr_export.network.config import NetworkConfig


class HTRConvText(nn.Module):
    """Reads lines: image [N,1,64,W] in [0,1] -> CTC logits [N,ceil(W/4),classes], class 0 the blank.

    Args:
        config: the network's size.
        dropout: probability, in the encoder, while training.
        drop_path: stochastic depth of the last block; it grows linearly from 0 at the first.
    """

    _distance_LL: Tensor

    def __init__(self, config: NetworkConfig, *, dropout: float = 0.1, drop_path: float = 0.1) -> None:
        super().__init__()
        self.config = config
        dim = config.embed_dim
        self.patch_embed = Backbone(config)
        self.blocks = nn.ModuleList(
            ConvTextBlock(dim, config.num_heads, dropout, drop_path * index / (config.depth - 1))
            for index in range(config.depth)
        )
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.head = nn.Linear(dim, config.num_classes)
        self.down1 = Downsample(dim)
        self.up1 = Upsample(dim)
        self.register_buffer("_distance_LL", distance_table(), persistent=False)
        initialise(self)

    def materialise_constants(self) -> None:
        """Compute the constants that no checkpoint holds, for a network that was built without memory."""
        self._distance_LL = distance_table()

    def features(self, image_N1HW: Tensor) -> Tensor:
        """Return the encoder's normalised features [N,T,D], from which the head and the training losses work."""
        x_NLD = self.patch_embed(image_N1HW).squeeze(2).transpose(1, 2)
        half = self.config.half_blocks
        length = x_NLD.shape[1]
        distance_LL = self._distance_LL[:length, :length]
        for block in self.blocks[: half.start]:
            x_NLD = block(x_NLD, distance_LL)
        skip_NLD = x_NLD
        x_NLD = self.down1(x_NLD)
        half_length = x_NLD.shape[1]
        distance_LL = self._distance_LL[:half_length, :half_length]
        for block in self.blocks[half.start : half.stop]:
            x_NLD = block(x_NLD, distance_LL)
        x_NLD = self.up1(x_NLD, length) + skip_NLD
        distance_LL = self._distance_LL[:length, :length]
        for block in self.blocks[half.stop :]:
            x_NLD = block(x_NLD, distance_LL)
        return self.norm(x_NLD)

    def forward(self, image_N1HW: Tensor) -> Tensor:
        """Return the logits [N,T,classes]."""
        return self.head(self.features(image_N1HW))


def initialise(network: nn.Module) -> None:
    """Set the weights as the published training starts: Xavier linears, neutral norms, box-filter downsampling."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.zeros_(module.weight)
        elif isinstance(module, Downsample):
            nn.init.constant_(module.dw.weight, 1 / 3)
