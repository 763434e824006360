"""Any network of timm as a trunk.

A stage is what timm's ``forward_intermediates`` gives at an index: the output of a block of a transformer, of a stage
of a convolutional network. Of a block there are also its tokens after the network's last normalisation, as ``9n``, and
the queries, keys and values of its attention, before they are rotated or normalised, as ``9q``, ``9k``, ``9v``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import product
from types import ModuleType
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from geomatch.errors import InputError, WeightsError, did_you_mean, unknown_name
from geomatch.features.backbones.base import Trunk
from geomatch.features.backbones.pixel_centres import CentreTracer
from geomatch.features.backbones.torchvision import import_torchvision_models

NAMESPACE = "timm:"
"""Before the names of timm's networks, where a trunk's name is asked for."""
STRIDE = ",stride:"
"""Between a network's name and the stride of its overlapping patches."""
FACETS = {"token": "", "norm": "n", "query": "q", "key": "k", "value": "v"}
"""What can be read at a block, and how the names of such stages end."""

_PROJECTIONS = {"q": 0, "k": 1, "v": 2}
_PROBE_SIDE = 448  # pixels, at least


class _Intermediates(nn.Module):
    """A network of timm, called for some of its intermediate maps (B, C, h, w)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, indices: list[int]) -> list[Tensor]:
        return self.network.forward_intermediates(images, indices=indices, stop_early=True, intermediates_only=True)  # type: ignore[no-any-return]


class TimmTrunk(Trunk):
    """A network of timm, of which only what the stages need is there.

    Images are mirrored at the right and at the bottom to whole cells of the coarsest stage. With a ``stride`` smaller
    than the patches of a transformer, they overlap: as in `VisionTransformer` they are split into lattices of patches
    side by side, positions are interpolated to all of them, and attention stays within a lattice.

    Batch normalisation keeps its pretrained statistics in training, and nothing is dropped.
    """

    def __init__(self, name: str, stages: Sequence[int | str] = (), *, stride: int | None = None) -> None:
        """name: as timm lists it. stages: those that will be read; none: all of them.

        The weights are random; `load` and `fetch` give others. Raises InputError for an unknown name, stage or stride,
        a network that cannot be read at any size, or without timm.
        """
        super().__init__()
        self.name = name
        with torch.device("meta"):
            found = _probe(name, _create(name))
        self.patch = max(each.stride for each in found.values())
        self.shares = self._shares_of(stride or self.patch, {each.stride for each in found.values()})
        overlap = self.patch - self.patch // self.shares
        self.channels = {stage: each.channels for stage, each in found.items()}
        self.check_stages(NAMESPACE + name, stages)
        self._kept = max(map(_index_of, stages or self.channels))
        kept = {stage: each for stage, each in found.items() if _index_of(stage) <= self._kept}
        self.channels = {stage: each.channels for stage, each in kept.items()}
        self.strides = {stage: each.stride // self.shares for stage, each in kept.items()}
        self.offsets = {stage: each.offset - overlap for stage, each in kept.items()}
        self.reader = _Intermediates(self._pruned(_create(name)))
        self._known_grid: Any = getattr(getattr(self.reader.network, "patch_embed", None), "grid_size", None)

    def check_stages(self, name: str, stages: Sequence[Any]) -> None:
        for stage in stages:
            if stage in self.channels:
                continue
            blocks = [each for each in self.channels if isinstance(each, int)]
            if not str(stage).rstrip("nqkv").isdecimal() or _index_of(stage) not in blocks:
                raise InputError(f"{name} has no stage {stage}: it has {blocks[0]} to {blocks[-1]}")
            block, ending = _index_of(stage), str(stage)[-1]
            facet = next(word for word, end in FACETS.items() if end == ending)
            known = [word for word, end in FACETS.items() if not end or f"{block}{end}" in self.channels]
            raise InputError(f"{name}: stage {block} has no facet {facet}; it has {', '.join(known)}")

    def train(self, mode: bool = True) -> Self:  # noqa: ARG002
        return super().train(mode=False)

    def load(self, state: Mapping[str, Tensor], origin: str) -> None:
        """Load weights as timm or the network's authors save them; a classifier is ignored.

        Raises WeightsError, naming ``origin`` and the first tensor that is missing or has another shape.
        """
        network = self.reader.network
        known = {name: tensor.float() for name, tensor in state.items()}
        if rename := getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None):
            try:
                known = rename(known, network)
            except Exception as error:  # it reads the names that it expects
                raise WeightsError(f"{origin}: no weights of timm:{self.name} ({error!r})") from error
        wanted = network.state_dict()
        for name, tensor in wanted.items():
            if name.endswith("num_batches_tracked"):
                known[name] = tensor
            if name not in known or known[name].shape != tensor.shape:
                found = tuple(known[name].shape) if name in known else "absent"
                raise WeightsError(
                    f"{origin}: no weights of timm:{self.name}: '{name}' should be {tuple(tensor.shape)} and is {found}"
                )
        network.load_state_dict({name: known[name] for name in wanted})

    def fetch(self) -> None:
        """Take the weights that timm publishes, from its cache or the network. Raises WeightsError if it cannot."""
        try:
            network = _create(self.name, pretrained=True)
        except InputError:
            raise
        except Exception as error:  # as many types as there are ways to lose a connection
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise WeightsError(
                f"timm:{self.name}: its weights are not in the cache and cannot be fetched; give a file with --weights "
                f"or --init, or connect to the network ({reason})"
            ) from error
        self.reader = _Intermediates(self._pruned(network))

    def forward(self, images: Tensor, stages: Sequence[int | str]) -> dict[int | str, Tensor]:
        network = self.reader.network
        mean, deviation = (images.new_tensor(network.pretrained_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
        indices = sorted({_index_of(stage) for stage in stages})
        lattices = self._lattices((images - mean) / deviation)
        with _projections(network, stages) as projected:
            maps = functional_call(self.reader, self._positions(lattices), (lattices, indices))
        outputs: dict[int | str, Tensor] = dict(zip(indices, maps, strict=True))
        taps = {}
        for stage in stages:
            if stage in outputs:
                found = outputs[stage]
            elif str(stage).endswith("n"):
                found = network.norm(outputs[_index_of(stage)].movedim(1, -1)).movedim(-1, 1)
            else:
                found = projected[stage][:, -maps[0][0, 0].numel() :].mT.reshape(len(lattices), -1, *maps[0].shape[2:])
            taps[stage] = self._interleaved(found, stage, images.shape[2:])
        return taps

    def _shares_of(self, stride: int, strides: set[int]) -> int:
        """Along either axis, the lattices of patches that lie ``stride`` pixels apart. Raises InputError."""
        if stride != self.patch and len(strides) > 1:
            raise InputError(
                f"timm:{self.name} has stages of several strides: only a transformer's patches can overlap"
            )
        if not 0 < stride <= self.patch or self.patch % stride:
            raise InputError(f"timm:{self.name}: stride must divide the patches' side, {self.patch}, and is {stride}")
        return self.patch // stride

    def _pruned(self, network: Any) -> Any:
        """The network without what comes after the last stage that is kept."""
        normed = any(str(stage).endswith("n") for stage in self.channels)
        network.prune_intermediate_layers([self._kept], prune_norm=not normed, prune_head=True)
        return network.eval()

    def _lattices(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) mirrored to whole patches; if they overlap, ``shares``^2 shifted ones of each."""
        step = self.patch // self.shares
        overlap = self.patch - step
        bottom, right = (-length % self.patch for length in images.shape[2:])
        if not (overlap or bottom or right):
            return images
        mirrors = max(overlap, bottom) < images.shape[2] and max(overlap, right) < images.shape[3]
        x = F.pad(images, (overlap, right, overlap, bottom), mode="reflect" if mirrors else "replicate")
        height, width = (length - overlap for length in x.shape[2:])
        starts = product(range(0, self.patch, step), repeat=2)
        return torch.stack([x[:, :, y : y + height, x0 : x0 + width] for y, x0 in starts], dim=1).flatten(0, 1)

    def _positions(self, lattices: Tensor) -> dict[str, Tensor]:
        """The position embedding (B, N, C) of overlapping patches, by its name in the reader."""
        network, shares, known_grid = self.reader.network, self.shares, self._known_grid
        known = getattr(network, "pos_embed", None)
        if shares == 1 or known is None or known.ndim != 3:
            return {}
        height, width = (length // self.patch for length in lattices.shape[2:])
        network.patch_embed.grid_size = (height, width)  # so that timm does not interpolate them again
        first = known.shape[1] - known_grid[0] * known_grid[1]
        grid = known[:, first:].mT.unflatten(2, known_grid)
        grid = F.interpolate(grid, (height * shares, width * shares), mode="bicubic")[0]
        grid = grid.reshape(-1, height, shares, width, shares).permute(2, 4, 1, 3, 0).reshape(shares**2, -1, len(grid))
        every = torch.cat((known[:, :first].expand(len(grid), -1, -1), grid), dim=1)
        return {"network.pos_embed": every.repeat(len(lattices) // len(every), 1, 1)}

    def _interleaved(self, maps: Tensor, stage: int | str, size: Sequence[int]) -> Tensor:
        """The maps of the lattices of each image as one (B, C, ceil(H / stride), ceil(W / stride))."""
        shares, stride = self.shares, self.strides[stage]
        height, width = maps.shape[2:]
        x = maps.reshape(-1, shares, shares, maps.shape[1], height, width).permute(0, 3, 4, 1, 5, 2)
        x = x.reshape(len(x), -1, height * shares, width * shares)
        return x[:, :, : -(-size[0] // stride), : -(-size[1] // stride)].contiguous()


def import_timm() -> ModuleType:
    """The module timm, which the extra ``backbones`` installs. Raises InputError without it."""
    import_torchvision_models()  # timm imports torchvision, too
    try:
        return import_module("timm")
    except ImportError as error:
        raise InputError("networks of timm need timm: pip install 'geomatch[backbones]'") from error


def parse_trunk_name(name: str) -> tuple[str, int | None]:
    """The network and the stride in ``timm:NAME`` or ``timm:NAME,stride:N``. Raises InputError."""
    network, _, stride = name.removeprefix(NAMESPACE).partition(STRIDE)
    if stride and not stride.isdecimal():
        raise InputError(f"trunk '{name}': write the stride of the patches as {NAMESPACE}{network}{STRIDE}8")
    return network, int(stride) if stride else None


def _create(name: str, *, pretrained: bool = False) -> Any:
    """A network of timm without classifier, for any size of image if it can be."""
    timm = import_timm()
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        raise InputError(f"timm has no network '{name}'{did_you_mean(architecture, timm.list_models())}")
    tags = [each for each in timm.list_pretrained(f"{architecture}.*") if each.startswith(f"{architecture}.")]
    if tag and name not in tags:
        raise InputError(unknown_name(f"weights of timm's {architecture}", name, tags))
    for options in ({"dynamic_img_size": True}, {}):
        try:
            return timm.create_model(name, pretrained=pretrained, num_classes=0, **options)
        except TypeError:
            if not options:
                raise
    raise AssertionError


@dataclass(frozen=True)
class _Stage:
    """Where a map can be read: its channels, and cell k is centred on pixel ``offset + stride * k``."""

    channels: int
    stride: int
    offset: float


def _probe(name: str, network: Any) -> dict[int | str, _Stage]:
    """All stages of a network on the device ``meta``, read off a pass without numbers."""
    if not hasattr(network, "forward_intermediates"):
        raise InputError(f"timm cannot read the intermediate maps of {name}; choose another network")
    count, coarsest = len(network.feature_info), max(info["reduction"] for info in network.feature_info)
    side = -(-_PROBE_SIDE // coarsest) * coarsest
    tracer = CentreTracer(side)
    is_transformer = len(getattr(network, "blocks", ())) == count
    projections = [f"{index}{kind}" for index in range(count) for kind in _PROJECTIONS] if is_transformer else []
    images = torch.empty(1, 3, side, side + coarsest, device="meta")
    try:
        with torch.no_grad(), tracer.watching(network), _projections(network, projections) as projected:
            maps = _Intermediates(network.eval())(images, list(range(count)))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise InputError(f"timm's {name} reads images of one size only; choose another network") from error
    if any(side % each.shape[2] or each.ndim != 4 for each in maps):
        raise InputError(f"the cells of timm's {name} do not tile an image; choose another network")
    stages: dict[int | str, _Stage] = {}
    for index, values in enumerate(maps):
        height = values.shape[2]
        stages[index] = _Stage(values.shape[1], side // height, tracer.offset(height))
    for stage, tokens in projected.items():
        index = _index_of(stage)
        if tokens.ndim == 3 and tokens.shape[1] == getattr(network, "num_prefix_tokens", 0) + maps[index][0, 0].numel():
            stages[stage] = replace(stages[index], channels=tokens.shape[2])
    if is_transformer and not isinstance(getattr(network, "norm", None), nn.Identity | None):
        stages |= {f"{index}n": stages[index] for index in range(count)}
    return stages


@contextmanager
def _projections(network: Any, stages: Sequence[int | str]) -> Iterator[dict[int | str, Tensor]]:
    """The queries, keys and values (B, N, C) among the stages, as the network computes them."""
    found: dict[int | str, Tensor] = {}
    with ExitStack() as stack:
        for stage in stages:
            if (kind := str(stage)[-1]) not in _PROJECTIONS:
                continue
            attention = getattr(network.blocks[_index_of(stage)], "attn", None)
            joint, own = getattr(attention, "qkv", None), getattr(attention, f"{kind}_proj", None)

            def keep(
                _: object, __: object, output: Tensor, stage: int | str = stage, *, joint: bool = bool(joint)
            ) -> None:
                found[stage] = output.chunk(3, dim=-1)[_PROJECTIONS[str(stage)[-1]]] if joint else output

            for module in [each for each in (joint or own,) if each is not None]:
                stack.callback(module.register_forward_hook(keep).remove)
        yield found


def _index_of(stage: int | str) -> int:
    """The index of the block or stage of timm that a stage is read at."""
    return int(str(stage).rstrip("nqkv"))
