"""AnchorNet (Novotny, Larlus, Vedaldi, CVPR 2017, arXiv 1704.04749): the network.

Banks of 3x3 filters, one bank per class, read a hypercolumn. Their responses are sparse and diverse, and each filter
fires on the same part of every object of its class: an anchor. A linear code of all banks' responses is
class-agnostic. `geomatch.training.anchornet` trains them from image labels alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomatch.correspondence import ConfidenceModel, CueWeights, FeatureMap, FineMap
from geomatch.errors import InputError, did_you_mean
from geomatch.features.backbones.base import parse_stage
from geomatch.features.backbones.build import build_trunk
from geomatch.features.base import FeatureExtractor, TrunkReading, read_trunk
from geomatch.features.fine_map import fine_map, with_fine_stage
from geomatch.features.weights import load_network
from geomatch.geometry.grid import Grid, read_cells
from geomatch.geometry.homography import pixel_grid
from geomatch.io.inputs import Input

AUTO = "auto"
"""In place of a class: that of each pair."""


@dataclass(frozen=True)
class AnchorConfig:
    """The settings of an AnchorNet.

    The paper's are resnet50, stages 1, 3 and 4, not dilated, tap_size 256, stride 4, 20 classes of 200 filters,
    code_size 256, mean_share 1 and no centring of descriptors.

    stages: the trunk's stages in the hypercolumn; a transformer's beside a ResNet's as ``vit7``. tap_size: principal
    components kept of each stage. stride: pixels of the canvas between cells. filters: of each class's bank, K.
    mean_share: the share of their mean that is subtracted from the responses before they are coded. It is 1 in the
    paper; ours is 0, since descriptors that keep the mean match much better (docs/experiments/training.md). dilated:
    read a ResNet's fourth stage at stride 16 instead of 32. centre_descriptors: subtract their mean over photographs
    from unit codes and unit banks (ours).
    """

    classes: tuple[str, ...]
    trunk: str = "resnet50v2"
    stages: tuple[str, ...] = ("1", "2", "3")
    tap_size: int = 128
    stride: int = 8
    filters: int = 16
    code_size: int = 256
    mean_share: float = 0.0
    dilated: bool = True
    centre_descriptors: bool = True

    def __post_init__(self) -> None:
        if not self.classes:
            raise InputError("an AnchorNet needs at least one class")
        if self.stride < 1:
            raise InputError(f"stride must be at least 1, got {self.stride}")
        if self.code_size > self.responses:
            raise InputError(
                f"code_size {self.code_size} is larger than the number of responses, {self.responses}: "
                f"{len(self.classes)} classes of {self.filters} filters"
            )

    @property
    def column_size(self) -> int:
        """Channels of a hypercolumn."""
        return len(self.stages) * self.tap_size

    @property
    def responses(self) -> int:
        """Number of filters in all banks, N K."""
        return len(self.classes) * self.filters

    def bank(self, name: str) -> slice:
        """The filters of a class among those of all banks. Raises InputError for an unknown class."""
        if name not in self.classes:
            hint = did_you_mean(name, self.classes)
            raise InputError(f"no anchors of '{name}'{hint} here: the classes are {', '.join(self.classes)}")
        first = self.classes.index(name) * self.filters
        return slice(first, first + self.filters)


@dataclass(frozen=True)
class Responses:
    """The responses of all anchors to an image: maps (N K, h, w) float32, >= 0, bank after bank, on a grid.

    fine: the image's fine map.
    """

    maps: Tensor
    image_size: tuple[int, int]
    grid: Grid
    fine: FineMap | None


class AnchorNet(nn.Module):
    """Images (B, 3, H, W) in [0, 1] to activations (B, N K, h, w), bank after bank; their softplus is the responses.

    Cell k of the grid is centred on canvas pixel ``stride`` k. thresholds: (N K,), the activations above which a filter
    votes that an image shows its class; responses do not depend on them.
    """

    mean_response: Tensor
    mean_code: Tensor
    mean_bank: Tensor

    def __init__(self, config: AnchorConfig) -> None:
        super().__init__()
        self.config = config
        self.stages = tuple(map(parse_stage, config.stages))
        self.trunk = build_trunk(config.trunk, self.stages, dilated=config.dilated)
        self.taps = nn.ModuleList(nn.Conv2d(self.trunk.channels[stage], config.tap_size, 1) for stage in self.stages)
        self.banks = nn.Conv2d(config.column_size, config.responses, 3, padding=1, bias=False)
        self.thresholds = nn.Parameter(torch.zeros(config.responses))
        self.encoder = nn.Conv2d(config.responses, config.code_size, 1, bias=False)
        self.mean_response = nn.Buffer(torch.zeros(config.responses))
        self.mean_code = nn.Buffer(torch.zeros(config.code_size))
        self.mean_bank = nn.Buffer(torch.zeros(config.responses))

    def forward(self, images: Tensor) -> Tensor:
        return self.activations(self.trunk(images, self.stages), images)

    def activations(self, taps: Mapping[int | str, Tensor], images: Tensor) -> Tensor:
        """The same as `forward`, from stages of the images that the trunk has computed already."""
        activations: Tensor = self.banks(self._hypercolumn(taps, images))
        return activations.float()

    def centred(self, responses: Tensor) -> Tensor:
        """Responses (B, N K, h, w) minus ``mean_share`` of their mean over photographs."""
        return responses - self.config.mean_share * self.mean_response[:, None, None]

    def encode(self, responses: Tensor) -> Tensor:
        """The class-agnostic code (B, code_size, h, w) of all responses (B, N K, h, w), centred: F^S * Gamma."""
        code: Tensor = self.encoder(self.centred(responses))
        return code.float()

    def unit_code(self, responses: Tensor) -> Tensor:
        """The code (B, code_size, h, w) of all responses (B, N K, h, w), of unit length at every cell."""
        return F.normalize(self.encode(responses), dim=1)

    def unit_banks(self, responses: Tensor) -> Tensor:
        """Responses (B, N K, h, w), centred, those of each class of unit length at every cell."""
        banks = self.centred(responses).unflatten(1, (-1, self.config.filters))  # type: ignore[no-untyped-call]
        return F.normalize(banks, dim=2).flatten(1, 2)

    def descriptors(self, responses: Tensor, bank: slice | None) -> Tensor:
        """Descriptors (B, C, h, w) of unit length: the code, or the responses of one bank.

        Responses are positive, so that all cells look much alike. Therefore the mean of unit codes over photographs is
        subtracted (``centre_descriptors``, ours).
        """
        if bank is None:
            unit, mean = self.unit_code(responses), self.mean_code
        else:
            unit, mean = self.unit_banks(responses)[:, bank], self.mean_bank[bank]
        return F.normalize(unit - mean[:, None, None], dim=1) if self.config.centre_descriptors else unit

    @torch.no_grad()
    def limit_filters(self, most: float) -> None:
        """Shorten the filters whose norm, over channels and the 3 x 3 positions, is larger than ``most``."""
        norms = self.banks.weight.flatten(1).norm(dim=1).clamp(min=1e-12)
        self.banks.weight.mul_((most / norms).clamp(max=1)[:, None, None, None])

    def _hypercolumn(self, taps: Mapping[int | str, Tensor], images: Tensor) -> Tensor:
        """Hypercolumn (B, column_size, h, w): each stage's principal components, read at the cells, of unit length."""
        height, width = (-(-side // self.config.stride) for side in images.shape[2:])
        pixels = self.config.stride * pixel_grid(height, width, images)
        columns = []
        for stage, project in zip(self.stages, self.taps, strict=True):
            cells = self.trunk.to_cells(stage, pixels).expand(len(images), -1, -1)
            columns.append(F.normalize(read_cells(project(taps[stage]).float(), cells), dim=1))
        return torch.cat(columns, dim=1).reshape(len(images), -1, height, width)

    @torch.no_grad()
    def response_thresholds(self) -> Tensor:
        """The responses above which a filter votes that an image shows its class: (N K,), on the CPU."""
        return F.softplus(self.thresholds).cpu()


class AnchorFeatures(FeatureExtractor):
    """The class-agnostic code as the descriptor, or the responses of one class's bank."""

    calibration = ConfidenceModel(
        alone=CueWeights(8.155, 0.141, 1.98, 4.716, 0.751, -5.018),
        in_pair=CueWeights(8.874, 0.130, 1.820, 4.334, 0.690, -10.418),
        consistency=6.57,
        extent=13.268,
    )

    def __init__(
        self, network: AnchorNet, working_size: int, weights_sha256: str | None = None, *, only: str = ""
    ) -> None:
        """only: a class, for its bank alone. Raises InputError if the network does not have it."""
        self.name = f"anchornet:{only}" if only else "anchornet"
        self.network = network.eval()
        self.bank = network.config.bank(only) if only else None
        self.working_size = working_size
        self.weights_sha256 = weights_sha256

    @torch.no_grad()
    def respond(self, image: Tensor) -> Responses:
        """The responses of all anchors to an image (3, H, W) uint8."""
        return self.respond_to(self._read([image])[0])

    def _read(self, images: Sequence[Tensor]) -> list[TrunkReading]:
        trunk = self.network.trunk
        stages = with_fine_stage(trunk, self.network.stages, fine=self.fine)
        return read_trunk(images, trunk, stages, self.working_size, self.arithmetic)

    def respond_to(self, reading: TrunkReading) -> Responses:
        """The same of an image that the trunk has read already."""
        canvas, stride = reading.canvas, self.network.config.stride
        maps = canvas.crop(F.softplus(self.network.activations(reading.taps, reading.pixels)[0]), stride)
        fine = fine_map(canvas, self.network.trunk, reading.taps) if self.fine else None
        return Responses(maps.contiguous(), canvas.image_size, canvas.grid(stride), fine)

    def __call__(self, image: Tensor) -> FeatureMap:
        return self.extract_batch([image])[0]

    @torch.no_grad()
    def extract_batch(self, images: Sequence[Tensor]) -> list[FeatureMap]:
        return [self.describe(self.respond_to(each)) for each in self._read(images)]

    def describe(self, found: Responses) -> FeatureMap:
        """The descriptors of an image from its responses."""
        descriptors = self.network.descriptors(found.maps[None], self.bank)[0].contiguous()
        return FeatureMap(descriptors, found.image_size, found.grid, calibration=self.calibration, fine=found.fine)


class AnchorsOfClass(FeatureExtractor):
    """The responses of the bank of an image's class, which ``for_class`` is told: the paper's class-specific anchors.

    Source and target of a pair need the same bank, so a pair across classes has that of its source (ours).
    """

    name = f"anchornet:{AUTO}"
    by_class = True
    calibration = AnchorFeatures.calibration

    def __init__(self, network: AnchorNet, working_size: int, weights_sha256: str | None = None) -> None:
        self.network = network
        self.working_size = working_size
        self.weights_sha256 = weights_sha256

    def for_class(self, name: str) -> AnchorFeatures:
        features = AnchorFeatures(self.network, self.working_size, self.weights_sha256, only=name)
        features.compute_in(self.arithmetic)
        features.fine = self.fine
        return features

    def __call__(self, _image: Tensor) -> FeatureMap:
        raise InputError(f"{self.name} takes the class of each pair from a benchmark; name one, as anchornet:cat")


def load(argument: str, working_size: int, device: torch.device, weights: Input | None) -> FeatureExtractor:
    network, sha256 = load_network(weights, "anchornet", AnchorConfig, AnchorNet, device)
    if argument == AUTO:
        return AnchorsOfClass(network, working_size, sha256)
    return AnchorFeatures(network, working_size, sha256, only=argument)
