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


class KeyBlock(nn.Module):
    """What is left of a block of which only the keys are read."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = nn.ModuleDict({"k": nn.Linear(channels, channels)})

    def keys(self, x: Tensor) -> Tensor:
        """The keys (B, N, C) of tokens (B, N, C), all heads together."""
        found: Tensor = self.attn["k"](self.norm1(x))
        return found


class VisionTransformer(Trunk):
    """A ViT that takes a patch every ``stride`` pixels, a divisor of the patches' side P.

    Images are mirrored before their first pixels, so that patch ``k`` begins at ``stride * k - (P - stride)`` and its
    centre is ``offset + stride * k``, offset = stride - (P + 1) / 2. The weights' positions are interpolated
    bicubically to the patches. Without overlap, at the weights' own size, this is the plain ViT.

    Overlapping patches are split into (P / stride)^2 lattices of patches that lie side by side, and attention stays
    within a lattice. It then sees images as it did when the weights were learnt, and costs (P / stride)^2 times less;
    features match better than with attention among all patches (docs/experiments/features.md).
    """

    def __init__(
        self,
        channels: int,
        blocks: int,
        *,
        patch: int = 16,
        positions: int = 14,
        stride: int = 8,
        stages: Sequence[int | str] = (),
    ) -> None:
        """channels: of a token. patch: side in pixels. positions: along either axis, in ``pos_embed``.

        stages: those that will be read, in which case only the layers that they need are there; none: all of them.
        Raises InputError for a stride or a stage that cannot be.
        """
        super().__init__()
        if not 0 < stride <= patch or patch % stride:
            raise InputError(f"stride of the patches must divide their side, {patch}, and is {stride}")
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, channels, patch, stride)})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + positions**2, channels))
        self.channels = dict.fromkeys(_stages(blocks, blocks), channels)
        self.check_stages("the transformer", stages)
        keys = max([_block_of(stage) + 1 for stage in stages], default=blocks)
        tokens = max([_block_of(stage) + (stage == _block_of(stage)) for stage in stages], default=blocks)
        self.blocks = nn.ModuleList(Block(channels) if index < tokens else KeyBlock(channels) for index in range(keys))
        self.channels = dict.fromkeys(_stages(tokens, keys), channels)
        self.strides = dict.fromkeys(self.channels, stride)
        self.offsets = dict.fromkeys(self.channels, stride - (patch + 1) / 2)
        self.stride, self.overlap, self.positions = stride, patch - stride, positions
        self.lattices = patch // stride  # along either axis

    def forward(self, images: Tensor, stages: Sequence[int | str]) -> dict[int | str, Tensor]:
        shape = (-(-images.shape[2] // self.stride), -(-images.shape[3] // self.stride))
        x, lattice = self.embed(images)
        taps: dict[int | str, Tensor] = {}
        last = max(map(_block_of, stages))
        for index in range(last + 1):
            block = cast("Block", self.blocks[index])
            if f"{index}k" in stages:
                taps[f"{index}k"] = self._to_map(block.keys(x), lattice, shape)
            if index < last or index in stages:
                x = block(x)
            if index in stages:
                taps[index] = self._to_map(x, lattice, shape)
        return taps

    def embed(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens (B L, 1 + h w, C) of L lattices of (h, w) patches each, the class token first; and (h, w).

        The lattices of an image follow each other by the row, then the column of their first patch.
        """
        shares = self.lattices
        bottom, right = (-length % (shares * self.stride) for length in images.shape[2:])
        mirrored = F.pad(2 * images - 1, (self.overlap, right, self.overlap, bottom), mode="reflect")
        patches = self.patch_embed["proj"](mirrored)
        known = self.pos_embed[:, 1:].mT.reshape(1, -1, self.positions, self.positions)
        x = patches + F.interpolate(known, patches.shape[2:], mode="bicubic")
        height, width = x.shape[2] // shares, x.shape[3] // shares
        x = x.reshape(len(x), -1, height, shares, width, shares).permute(0, 3, 5, 2, 4, 1)
        x = x.reshape(-1, height * width, x.shape[-1])
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        return torch.cat((first, x), dim=1), (height, width)

    def _to_map(self, tokens: Tensor, lattice: tuple[int, int], shape: tuple[int, int]) -> Tensor:
        """Tokens as from `embed` as one map (B, C, *shape), without patches that only continue an image."""
        shares = self.lattices
        x = tokens[:, 1:].reshape(-1, shares, shares, *lattice, tokens.shape[2]).permute(0, 5, 3, 1, 4, 2)
        return x.reshape(len(x), -1, lattice[0] * shares, lattice[1] * shares)[:, :, : shape[0], : shape[1]]


def _stages(tokens: int, keys: int) -> list[int | str]:
    """The names of the stages of so many blocks, first those of tokens."""
    return [*range(tokens), *(f"{index}k" for index in range(keys))]


def _block_of(stage: int | str) -> int:
    """The index of the block that a stage is read at."""
    return int(str(stage).removesuffix("k"))


def vit_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights that timm's names as float32, and beside them the keys of each block alone, as `KeyBlock` has them."""
    found = {name: tensor.float() for name, tensor in state.items()}
    for name in [name for name in found if ".attn.qkv." in name]:
        found[name.replace("qkv", "k")] = found[name].chunk(3)[1]
    return found


def load_vit(state: Mapping[str, Tensor], origin: str, *, stride: int = 8) -> VisionTransformer:
    """Build a ViT from weights that timm's names; the final norm and the classifier are ignored.

    Raises InputError naming ``origin`` and what does not fit.
    """
    try:
        kernel, positions = state["patch_embed.proj.weight"], state["pos_embed"]
        blocks = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
        side = round((positions.shape[1] - 1) ** 0.5)
        trunk = VisionTransformer(kernel.shape[0], blocks, patch=kernel.shape[2], positions=side, stride=stride)
        known = vit_state(state)
        trunk.load_state_dict({name: known[name] for name in trunk.state_dict()})
    except (KeyError, ValueError, IndexError, RuntimeError) as error:
        raise InputError(
            f"{origin}: not a vision transformer as timm saves it ({' '.join(str(error).split())})"
        ) from error
    return trunk
