"""Features of any network of timm: ``timm:NAME@BLOCK:FACET``, several joined by ``+``."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import InputError
from geomatch.features.backbones.base import Trunk, parse_stage
from geomatch.features.backbones.timm import FACETS, TimmTrunk
from geomatch.features.base import FeatureExtractor, TrunkReading, draw_on_canvas, read_trunk
from geomatch.features.fine_map import fine_map, with_fine_stage
from geomatch.features.weights import read_tensors, read_weights_file
from geomatch.io.inputs import Input, InputFile

GRAMMAR = "NAME[@BLOCK][:FACET][,stride:N][,debias:N][,weight:X], several joined by '+'"
_PART = re.compile(r"(?P<network>[\w.-]+)(?:@(?P<block>\d+))?(?::(?P<facet>[a-z]+))?(?P<options>(?:,[a-z]+:[\d.]+)*)")


@dataclass(frozen=True)
class Part:
    """One stage of a network in a descriptor.

    network: as timm lists it. stage: as `TimmTrunk` names it; None: the last block. stride: pixels between overlapping
    patches; None: no overlap. debias: how many positional components are taken out. weight: length of this part of
    the descriptor.
    """

    network: str
    stage: int | str | None = None
    stride: int | None = None
    debias: int = 0
    weight: float = 1.0


def parse_parts(argument: str) -> list[Part]:
    """The parts of a descriptor in the argument of ``timm:``.

    >>> parse_parts("resnet50.a1_in1k@3+vit_small_patch14_dinov2@9:key,stride:7,weight:0.5")
    [Part(network='resnet50.a1_in1k', stage=3, stride=None, debias=0, weight=1.0), \
Part(network='vit_small_patch14_dinov2', stage='9k', stride=7, debias=0, weight=0.5)]

    Raises InputError for other text.
    """
    return [_parse_part(text) for text in argument.split("+")]


class TimmFeatures(FeatureExtractor):
    """The parts of the descriptor, each of unit length times its weight, concatenated, of unit length.

    All are read bilinearly at the cells of the finest part. Before that, INSID3's positional debiasing (Cuttano et
    al., CVPR 2026, arXiv 2603.28480) takes the positional components out of those parts that ask for it: the first
    principal components of the cells of a black image, a square of the working size.
    """

    def __init__(
        self, name: str, parts: Sequence[tuple[Trunk, Part]], working_size: int, weights_sha256: str | None = None
    ) -> None:
        self.name, self.working_size, self.weights_sha256 = name, working_size, weights_sha256
        self.parts = [(trunk.eval(), part) for trunk, part in parts]
        self._positional: dict[Part, Tensor] = {}

    def __call__(self, image: Tensor) -> FeatureMap:
        return self.extract_batch([image])[0]

    @torch.no_grad()
    def extract_batch(self, images: Sequence[Tensor]) -> list[FeatureMap]:
        found: list[list[tuple[Part, FeatureMap]]] = [[] for _ in images]
        for trunk in dict.fromkeys(trunk for trunk, _ in self.parts):
            parts = [part for each, part in self.parts if each is trunk]
            stages = with_fine_stage(trunk, [part.stage for part in parts], fine=self.fine)
            readings = read_trunk(images, trunk, stages, self.working_size, self.arithmetic)
            for maps, reading in zip(found, readings, strict=True):
                maps += self._maps(trunk, parts, reading)
        return list(map(self._join, found))

    def _join(self, maps: Sequence[tuple[Part, FeatureMap]]) -> FeatureMap:
        finest = min(maps, key=lambda found: found[1].grid.pitch)[1]
        columns = [
            part.weight * (found if found.grid == finest.grid else found.read_on(finest.grid)).descriptors
            for part, found in maps
        ]
        fine = next((found.fine for _, found in maps if found.fine), None)
        return replace(finest, descriptors=F.normalize(torch.cat(columns), dim=0), fine=fine)

    def _maps(self, trunk: Trunk, parts: Sequence[Part], reading: TrunkReading) -> list[tuple[Part, FeatureMap]]:
        """The parts of a trunk, of an image that it has read."""
        canvas, taps = reading.canvas, reading.taps
        fine = fine_map(canvas, trunk, taps) if self.fine else None
        found = []
        for part in parts:
            lattice = trunk.strides[part.stage], trunk.offsets[part.stage]
            unit = F.normalize(canvas.crop(taps[part.stage][0], *lattice), dim=0)
            if part.debias:
                basis = self._positional_components(trunk, part)
                unit = F.normalize(unit - (basis @ (basis.mT @ unit.flatten(1))).view_as(unit), dim=0)
            maps = FeatureMap(unit.contiguous(), canvas.image_size, canvas.grid(*lattice), calibration=self.calibration)
            found.append((part, replace(maps, fine=fine)))
        return found

    def _positional_components(self, trunk: Trunk, part: Part) -> Tensor:
        """Orthonormal columns (C, at most ``debias``), from INSID3's black image."""
        if part not in self._positional:
            black = torch.zeros(3, self.working_size, self.working_size, dtype=torch.uint8)
            canvas, pixels = draw_on_canvas(black, trunk, self.working_size)
            cells = canvas.crop(
                trunk.read(pixels, [part.stage], self.arithmetic)[part.stage][0],
                trunk.strides[part.stage],
                trunk.offsets[part.stage],
            )
            columns = F.normalize(cells, dim=0).flatten(1)
            columns = columns - columns.mean(dim=1, keepdim=True)
            self._positional[part] = torch.linalg.svd(columns, full_matrices=False).U[:, : part.debias]
        return self._positional[part]


def load(argument: str, working_size: int, device: torch.device, weights: Input | None) -> TimmFeatures:
    parts = parse_parts(argument)
    networks = list(dict.fromkeys(part.network for part in parts))
    if weights is not None and len(networks) > 1:
        raise InputError(f"timm:{argument}: --weights {weights} is of one network, and these are {len(networks)}")
    file = read_weights_file(weights) if weights else None
    trunks: dict[tuple[str, int | None], TimmTrunk] = {}
    for network, stride in dict.fromkeys((part.network, part.stride) for part in parts):
        own = [part.stage for part in parts if (part.network, part.stride) == (network, stride)]
        trunks[network, stride] = _load_trunk(network, own, stride, file)
    made = []
    for part in parts:
        trunk = trunks[part.network, part.stride]
        stage = _last_block(trunk) if part.stage is None else part.stage
        if part.debias >= trunk.channels[stage]:
            raise InputError(
                f"timm:{argument}: debias must leave some of the {trunk.channels[stage]} channels, and is {part.debias}"
            )
        made.append((trunk.to(device, memory_format=torch.channels_last), replace(part, stage=stage)))  # type: ignore[call-overload]
    sha256 = file.sha256 if file else "+".join(_sha256_of_state(each.state_dict()) for each in trunks.values())
    return TimmFeatures(f"timm:{argument}", made, working_size, sha256)


def _parse_part(text: str) -> Part:
    found = _PART.fullmatch(text)
    facet = (found and found["facet"]) or "token"
    if not found or (facet != "token" and facet not in FACETS):
        raise InputError(f"timm:{text}: write {GRAMMAR}; facets are {', '.join(FACETS)}")
    if facet != "token" and not found["block"]:
        raise InputError(f"timm:{text}: name the block of the {facet}, as {found['network']}@9:{facet}")
    stage = parse_stage(found["block"] + FACETS[facet]) if found["block"] else None
    options = dict(each.split(":") for each in found["options"].split(",")[1:])
    try:
        part = Part(
            found["network"],
            stage,
            int(options.pop("stride")) if "stride" in options else None,
            int(options.pop("debias", 0)),
            float(options.pop("weight", 1)),
        )
    except ValueError as error:
        raise InputError(f"timm:{text}: stride and debias are whole numbers, weight a number") from error
    if options or part.weight <= 0:
        raise InputError(f"timm:{text}: the options are stride:N, debias:N and weight:X, larger than 0")
    return part


def _load_trunk(
    network: str, stages: Sequence[int | str | None], stride: int | None, weights: InputFile | None
) -> TimmTrunk:
    named = [stage for stage in stages if stage is not None]
    trunk = TimmTrunk(network, named if len(named) == len(stages) else (), stride=stride)
    if weights is None:
        trunk.fetch()
    else:
        trunk.load(read_tensors(weights)[0], str(weights))
    return trunk


def _last_block(trunk: Trunk) -> int:
    return max(stage for stage in trunk.channels if isinstance(stage, int))


def _sha256_of_state(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of the names and values of tensors, for weights that come from no file of the user's."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
