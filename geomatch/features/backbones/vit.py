"""Vision transformers (Dosovitskiy et al., ICLR 2021, arXiv 2010.11929) as trunks, with overlapping patches.

Weights are named as timm names those of ``vit_*_patch16_224``. A stage is the output of a block: its tokens, named by
the block's index as in ``7``, or the keys of its attention, as in ``8k``. Keys describe parts better than tokens do
(Amir et al., 2021, arXiv 2112.05814).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomatch.errors import InputError
from geomatch.features.backbones.base import Trunk

HEAD_SIZE = 64
"""Channels of an attention head in every ViT that timm names."""

_PREFIXES = ("patch_embed.proj.", "cls_token", "pos_embed", "blocks.")


class Block(nn.Module):
    """x + attention(norm1 x), then x + mlp(norm2 x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(channels, 3 * channels), "proj": nn.Linear(channels, channels)})
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(channels, 4 * channels), "fc2": nn.Linear(4 * channels, channels)})

    def keys(self, x: Tensor) -> Tensor:
        """The keys (B, N, C) of tokens (B, N, C), all heads together."""
        return self._qkv(x)[1].transpose(1, 2).flatten(2)

    def _qkv(self, x: Tensor) -> Tensor:
        """Queries, keys and values of tokens (B, N, C): (3, B, heads, N, HEAD_SIZE)."""
        qkv: Tensor = self.attn["qkv"](self.norm1(x))
        return qkv.reshape(*x.shape[:2], 3, -1, HEAD_SIZE).permute(2, 0, 3, 1, 4)

    def forward(self, x: Tensor) -> Tensor:
        attended = F.scaled_dot_product_attention(*self._qkv(x)).transpose(1, 2).flatten(2)
        x = x + self.attn["proj"](attended)
        return torch.add(x, self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x)))))


class VisionTransformer(Trunk):
    """A ViT that takes a patch every ``stride`` pixels.

    Images are mirrored before their first pixels, so that patch ``k`` of P pixels begins at ``stride * k - (P -
    stride)`` and its centre is ``offset + stride * k``, offset = stride - (P + 1) / 2. The weights' positions are
    interpolated bicubically to the patches. Without overlap, at the weights' own size, this is the plain ViT.
    """

    def __init__(self, channels: int, blocks: int, *, patch: int = 16, positions: int = 14, stride: int = 8) -> None:
        """channels: of a token. patch: side in pixels. positions: along either axis, in ``pos_embed``."""
        super().__init__()
        if not 0 < stride <= patch:
            raise InputError(f"stride of the patches must be between 1 and {patch}, got {stride}")
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, channels, patch, stride)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + positions**2, channels))
        self.blocks = nn.ModuleList(Block(channels) for _ in range(blocks))
        stages: list[int | str] = [*range(blocks), *(f"{index}k" for index in range(blocks))]
        self.channels = dict.fromkeys(stages, channels)
        self.strides = dict.fromkeys(stages, stride)
        self.overlap, self.positions = patch - stride, positions
        self.offset = stride - (patch + 1) / 2

    def forward(self, images: Tensor, stages: Sequence[int | str]) -> dict[int | str, Tensor]:
        x, shape = self.embed(images)
        taps: dict[int | str, Tensor] = {}
        last = max(int(str(stage).removesuffix("k")) for stage in stages)
        for index in range(last + 1):
            block = cast("Block", self.blocks[index])
            if f"{index}k" in stages:
                taps[f"{index}k"] = _to_map(block.keys(x), shape)
            if index < last or index in stages:
                x = block(x)
            if index in stages:
                taps[index] = _to_map(x, shape)
        return taps

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens (B, 1 + h w, C), the class token first, and the lattice (h, w) of the patches."""
        stride = self.strides[0]
        bottom, right = (-length % stride for length in images.shape[2:])
        mirrored = F.pad(2 * images - 1, (self.overlap, right, self.overlap, bottom), mode="reflect")
        patches = self.patch_embed["proj"](mirrored)
        shape = (patches.shape[2], patches.shape[3])
        known = self.pos_embed[:, 1:].mT.reshape(1, -1, self.positions, self.positions)
        x = (patches + F.interpolate(known, shape, mode="bicubic")).flatten(2).mT
        return torch.cat(((self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1), x), dim=1), shape


def _to_map(tokens: Tensor, shape: tuple[int, int]) -> Tensor:
    """Tokens (B, 1 + h w, C), the class token first, as a map (B, C, h, w)."""
    return tokens[:, 1:].mT.reshape(len(tokens), -1, *shape)


def load_vit(state: Mapping[str, Tensor], origin: str, *, stride: int = 8) -> VisionTransformer:
    """Build a ViT from weights that timm's names; the final norm and the classifier are ignored.

    Raises InputError naming ``origin`` and what does not fit.
    """
    try:
        kernel, positions = state["patch_embed.proj.weight"], state["pos_embed"]
        blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
        side = round((positions.shape[1] - 1) ** 0.5)
        trunk = VisionTransformer(kernel.shape[0], blocks, patch=kernel.shape[2], positions=side, stride=stride)
        trunk.load_state_dict({name: tensor.float() for name, tensor in state.items() if name.startswith(_PREFIXES)})
    except (KeyError, ValueError, IndexError, RuntimeError) as error:
        raise InputError(
            f"{origin}: not a vision transformer as timm saves it ({' '.join(str(error).split())})"
        ) from error
    return trunk
