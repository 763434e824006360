"""AnchorNet (Novotny, Larlus, Vedaldi, CVPR 2017, arXiv 1704.04749): losses and recipe.

The road: photographs and their labels -> the hypercolumn's principal components -> class banks, learnt from whether an
image shows the class (equations 1 to 4) -> with the banks as they are, a linear code of all their responses, learnt as
a denoising auto-encoder (L_R).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from geomatch.datasets.image_folder import (
    BACKGROUND,
    ImageBatch,
    ImageReader,
    LabelledImage,
    by_label,
    find_images,
    hold_out,
)
from geomatch.errors import GeomatchWarning, InputError
from geomatch.features.anchornet import AnchorConfig, AnchorNet
from geomatch.features.load import pretrained_trunk
from geomatch.features.weights import save_weights
from geomatch.geometry.homography import WarpRanges
from geomatch.io.atomic import check_writable
from geomatch.options import Batches, Device, Discriminability
from geomatch.runtime.device import find_device, memory_of
from geomatch.runtime.prefetch import Prefetch
from geomatch.training.augmentation import ColourRanges, ViewPairs, draw_view_pairs
from geomatch.training.distributed import workers_of_torchrun
from geomatch.training.letterbox import WholeView, draw_whole
from geomatch.training.pca import principal_components, set_projection
from geomatch.training.sampler import BatchSampler
from geomatch.training.trainer import Optimisation, Progress, StepLoss, Task, autocast, check_checkpoint, train

EXAMPLES = 300  # photographs that the principal components and mean responses are taken from
FEW = 50  # photographs of a class


@dataclass(frozen=True)
class AnchorRecipe:
    """Everything that decides what is learnt from given photographs and initial weights, but for the optimiser.

    The weights of the losses are ours, the paper has none; they multiply means over filters and pairs of filters, so
    that they do not depend on K. tuned: whether trunk and principal components learn too. code_steps, code_rate: of
    the auto-encoder. dropped: the share of channels it must do without. held_out: the share of the photographs that is
    kept back, for measuring. example_size: side of the square, in pixels, in which `fit_taps` and `fit_code` see whole
    photographs.
    """

    network: AnchorConfig
    view_size: int = 225
    photographs_per_step: int = 8
    form: Discriminability = Discriminability.bounded
    auxiliary: float = 0.3
    filter_diversity: float = 1.0
    response_diversity: float = 1.0
    dropped: float = 0.25
    tuned: bool = False
    code_steps: int = 100
    code_rate: float = 1e-4
    held_out: float = 0.05
    example_size: int = 321
    warps: WarpRanges = field(default_factory=WarpRanges)
    colours: ColourRanges = field(default_factory=ColourRanges)
    seed: int = 0


def discriminability_loss(activations: Tensor, labels: Tensor, thresholds: Tensor, form: Discriminability) -> Tensor:
    """Equation (1): whether each filter's strongest response tells if an image shows its class. (B, N).

    activations: (B, N, K, h, w), F_k * Phi. labels: (B, N), 1 where the image shows the class and -1 where not.
    thresholds: (N, K), b.

    As printed, - y sum_k gmax psi_k with psi = softplus, which a positive can lower without end; bounded, ours:
    sum_k softplus(-y (gmax F_k * Phi - b_k)).
    """
    highest = activations.amax(dim=(3, 4))
    if form is Discriminability.printed:
        return -labels * F.softplus(highest).sum(dim=2)
    return F.softplus(-labels[:, :, None] * (highest - thresholds)).sum(dim=2)


def auxiliary_loss(activations: Tensor) -> Tensor:
    """Equation (2), for images that do not show the class: sum_k gavg max(0, F_k * Phi).

    activations: (..., K, h, w); returns (...). It reaches all places, of which (1) sees only the strongest.
    """
    return activations.relu().mean(dim=(-2, -1)).sum(dim=-1)


def filter_diversity_loss(filters: Tensor) -> Tensor:
    """Equation (3), of each bank (N, K, C, 3, 3): sum over i != j of |sum_p cos(F_i^p, F_j^p)|, p the kernel's places.

    Returns (N,).
    """
    unit = F.normalize(filters, dim=2).flatten(2)
    return _sum_beside_the_diagonal((unit @ unit.mT).abs())


def response_diversity_loss(responses: Tensor) -> Tensor:
    """Equation (4): sum over i != j of cos(psi_i, psi_j)^2, whole maps as vectors.

    responses: (..., K, h, w), psi; returns (...).
    """
    unit = F.normalize(responses.flatten(-2), dim=-1)
    return _sum_beside_the_diagonal((unit @ unit.mT).square())


def reconstruction_loss(centred: Tensor, kept: Tensor, filters: Tensor) -> Tensor:
    """L_R = D(x, (F^S)^T * F^S * c(x)), D(a, b) = |a/|a| - b/|b||^2 on whole tensors: the mean over images, a scalar.

    centred: responses less their mean, x (B, R, h, w). kept: (B, R), 0 for the channels that c leaves out, else 1.
    filters: F^S (L, R).
    """
    corrupted = (centred * kept[:, :, None, None]).flatten(2)
    restored = filters.mT @ (filters @ corrupted)
    difference = F.normalize(centred.flatten(1), dim=1) - F.normalize(restored.flatten(1), dim=1)
    return difference.square().sum(dim=1).mean()


def _sum_beside_the_diagonal(square: Tensor) -> Tensor:
    return square.sum(dim=(-2, -1)) - square.diagonal(dim1=-2, dim2=-1).sum(dim=-1)


@dataclass(frozen=True)
class _Scenes:
    """View pairs of a batch, and (B, N) what of the classes its photographs show, 1 or -1."""

    pairs: ViewPairs
    labels: Tensor


class LabelledViews:
    """Batches of random views of photographs, and which classes they show; photographs are drawn by balanced labels.

    A batch depends on the seed and its number alone. Reads ahead in threads, which end on leaving ``upcoming``.
    """

    def __init__(
        self,
        recipe: AnchorRecipe,
        photographs: Sequence[LabelledImage],
        reader: ImageReader,
        device: torch.device,
        stride: int = 1,
    ) -> None:
        """stride: between the batches asked for."""
        self.recipe, self.reader, self.device = recipe, reader, device
        self.sampler = BatchSampler(photographs, Batches.balanced, recipe.photographs_per_step, recipe.seed)
        self.upcoming = Prefetch(self._prepare, stride=stride)

    def __call__(self, batch: int) -> tuple[Tensor, Tensor, tuple[str, ...]]:
        """Views (V, 3, S, S) in [0, 1], labels (V, N) of 1 and -1, and names of photographs that cannot be read."""
        known = len(self.reader.unreadable)
        reading, scenes = self.upcoming(batch)
        self.reader.admit(reading)
        assert scenes is not None  # else there was nothing to admit
        views = scenes.pairs.to(self.device).render(self.recipe.view_size).flatten(0, 1)
        labels = scenes.labels.to(self.device, non_blocking=True).repeat_interleave(2, dim=0)
        unreadable = tuple(self.reader.unreadable[known:])
        return views.contiguous(memory_format=torch.channels_last), labels, unreadable

    def _prepare(self, batch: int) -> tuple[ImageBatch, _Scenes | None]:
        recipe = self.recipe
        photographs, count, generator = self.sampler.draw(batch)
        reading = self.reader.attempt(photographs, count)
        if not reading.pixels:
            return reading, None
        pairs = draw_view_pairs(reading.pixels, recipe.view_size, 1, recipe.warps, recipe.colours, generator)
        classes = recipe.network.classes
        shown = [[1.0 if name in photograph.labels else -1.0 for name in classes] for photograph in reading.images]
        scenes = _Scenes(pairs, torch.tensor(shown))
        if self.device.type == "cuda":
            scenes = _Scenes(pairs.pinned(), scenes.labels.pin_memory())
        return reading, scenes


class BankTask:
    """What the engine trains first: the banks, from labels."""

    def __init__(self, network: AnchorNet, views: LabelledViews) -> None:
        self.network, self.views, self.recipe = network, views, views.recipe
        network.requires_grad_(self.recipe.tuned)
        network.banks.requires_grad_(requires_grad=True)
        network.thresholds.requires_grad_()
        network.encoder.requires_grad_(requires_grad=False)

    def loss(self, batch: int, autocast: AbstractContextManager[object]) -> StepLoss:
        """Equations (1) to (4), each as a mean over filters; in (1) images with and without a class weigh the same."""
        views, labels, unreadable = self.views(batch)
        with autocast:
            activations = self.network(views)
        config = self.recipe.network
        count = config.filters
        activations = activations.reshape(len(views), len(config.classes), count, *activations.shape[2:])
        showing = labels > 0
        thresholds = self.network.thresholds.reshape(-1, count)
        telling = discriminability_loss(activations, labels, thresholds, self.recipe.form) / count
        parts = {
            "discriminability": (_mean(telling[showing]) + _mean(telling[~showing])) / 2,
            "auxiliary": _mean(auxiliary_loss(activations[~showing])) / count,
        }
        if count > 1:
            pairs = count * (count - 1)
            filters = self.network.banks.weight.unflatten(0, (-1, count))  # type: ignore[no-untyped-call]
            parts["filter_diversity"] = filter_diversity_loss(filters).mean() / pairs
            parts["response_diversity"] = _mean(response_diversity_loss(F.softplus(activations[showing]))) / pairs
        weights = {"discriminability": 1.0} | {name: getattr(self.recipe, name) for name in list(parts)[1:]}
        loss = torch.stack([weights[name] * part for name, part in parts.items()]).sum()
        report = {name: part.detach() for name, part in parts.items()}
        return StepLoss(loss, report, images=len(views), unreadable=unreadable)


class CodeTask:
    """What the engine trains then: the class-agnostic code of responses that no longer change."""

    def __init__(self, network: AnchorNet, views: LabelledViews) -> None:
        self.network, self.views, self.recipe = network, views, views.recipe
        network.requires_grad_(requires_grad=False)
        network.encoder.requires_grad_(requires_grad=True)

    def loss(self, batch: int, autocast: AbstractContextManager[object]) -> StepLoss:
        """L_R, each image without channels of its own."""
        views, _, unreadable = self.views(batch)
        with torch.no_grad(), autocast:
            responses = F.softplus(self.network(views))
        channels = self.recipe.network.responses
        random = np.random.default_rng((self.recipe.seed, batch, 1))
        kept = np.ones((len(views), channels), np.float32)
        for row in kept:
            row[random.permutation(channels)[: round(self.recipe.dropped * channels)]] = 0
        filters = self.network.encoder.weight[:, :, 0, 0]
        centred = self.network.centred(responses)
        loss = reconstruction_loss(centred, torch.from_numpy(kept).to(centred.device), filters)
        return StepLoss(loss, {}, images=len(views), unreadable=unreadable)


def _mean(values: Tensor) -> Tensor:
    """The mean; of nothing, 0."""
    return values.sum() / max(1, values.numel())


@torch.no_grad()
def fit_taps(network: AnchorNet, examples: Sequence[WholeView]) -> None:
    """Make each tap of the hypercolumn the centred principal components of its stage, over cells on photographs."""
    for stage, tap in zip(network.config.stages, network.taps, strict=True):
        stride = network.trunk.strides[stage]
        columns = (network.trunk(e.image, [stage])[stage][0].flatten(1)[:, e.cells(stride)[1]] for e in examples)
        directions, mean = principal_components(columns, network.config.tap_size)
        set_projection(cast("nn.Conv2d", tap), directions, mean)


@torch.no_grad()
def fit_code(network: AnchorNet, examples: Sequence[WholeView]) -> None:
    """Set the mean responses, and start the code from the principal components: what an auto-encoder without noise
    comes to.

    The paper keeps a running mean while the code is learnt. The banks stand still by then, so that mean is one number a
    channel, taken here once; so it is the same however many processes learn.
    """

    def responses(example: WholeView) -> Tensor:
        seen = example.cells(network.config.stride)[1]
        return F.softplus(network(example.image))[0].flatten(1)[:, seen]

    config = network.config
    directions, mean = principal_components(map(responses, examples), config.code_size, mean_share=config.mean_share)
    network.mean_response.copy_(mean)
    network.encoder.weight.copy_(directions[:, :, None, None])


@torch.no_grad()
def fit_means(network: AnchorNet, examples: Sequence[WholeView]) -> None:
    """Set what unit codes and unit banks are on average, over the cells that lie on photographs."""
    code, bank = torch.zeros_like(network.mean_code), torch.zeros_like(network.mean_bank)
    cells = 0
    for example in examples:
        seen = example.cells(network.config.stride)[1]
        responses = F.softplus(network(example.image))
        code += network.unit_code(responses)[0].flatten(1)[:, seen].sum(dim=1)
        bank += network.unit_banks(responses)[0].flatten(1)[:, seen].sum(dim=1)
        cells += int(seen.sum())
    network.mean_code.copy_(code / cells)
    network.mean_bank.copy_(bank / cells)


def with_known_labels(photographs: Sequence[LabelledImage], classes: Sequence[str]) -> list[LabelledImage]:
    """The photographs that show one of the classes, and those of the background, which show none.

    Others, of which nothing is known, are left out. Warns of classes with fewer photographs than `FEW`, and raises
    InputError naming those that none shows.
    """
    present = by_label(photographs)
    if missing := [name for name in classes if name not in present]:
        raise InputError(
            f"no photograph is labelled {', '.join(missing)}: "
            + (f"the labels are {', '.join(present)}" if present else "none has a label but the background's")
        )
    kept = [
        replace(photograph, labels=tuple(label for label in photograph.labels if label in (*classes, BACKGROUND)))
        for photograph in photographs
    ]
    if thin := [f"{name} ({len(present[name])})" for name in classes if len(present[name]) < FEW]:
        warnings.warn(
            f"few photographs of {', '.join(thin)}: their anchors will know little; --classes can leave them out",
            GeomatchWarning,
            stacklevel=2,
        )
    return [photograph for photograph in kept if photograph.labels]


def bytes_needed(recipe: AnchorRecipe) -> int:
    """A rough estimate of the memory that training the banks takes, beside the trunk's."""
    config = recipe.network
    cells = (-(-recipe.view_size // config.stride)) ** 2
    weights = config.responses * (9 * config.column_size + config.code_size)
    a_view = cells * (6 * config.responses + 12 * config.column_size)
    return 4 * (4 * weights + 2 * recipe.photographs_per_step * a_view + 4 * config.responses**2)


def _draw_banks(network: AnchorNet, seed: int) -> None:
    """Random filters, small, so that what they come to respond to is learnt and not drawn; their strongest activations
    on hypercolumns are about the thresholds at first."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        network.banks.weight.normal_(0, 0.02, generator=generator)
        network.thresholds.fill_(0.3)


def train_anchornet(
    data: Sequence[Path],
    init: Path,
    out: Path,
    recipe: AnchorRecipe,
    optimisation: Optimisation,
    *,
    device: Device,
    resume: bool,
    max_unreadable: float = 0.01,
    on_progress: Callable[[str, Progress], None],
) -> None:
    """Train banks and code on labelled photographs, from a trained trunk, and write the weights to ``out``.

    init: weights of geomatch's or a pretrained trunk; the recipe's trunk becomes the one in it.
    Beside the weights go ``<out>.banks.checkpoint`` and ``<out>.code.checkpoint``, each with its log. on_progress
    is told what is learnt, ``banks`` or ``code``, and how far it is.

    Raises InputError for what the user gave, TrainingError if a loss diverges.
    """
    check_writable(out)
    trunk_name, trunk = pretrained_trunk(init)
    recipe = replace(recipe, network=replace(recipe.network, trunk=trunk_name))
    if resume:
        check_checkpoint(_checkpoint(out, "banks"), asdict(recipe), optimisation)
    memory = memory_of(find_device(device))
    if (needed := bytes_needed(recipe)) > memory:
        raise InputError(
            f"{len(recipe.network.classes)} classes of {recipe.network.filters} filters need about "
            f"{needed / 2**30:.1f} GiB to learn and there are {memory / 2**30:.1f}: "
            "fewer --filters, --classes or a smaller --batch"
        )
    photographs, _ = hold_out(find_images(data), recipe.held_out)
    photographs = with_known_labels(photographs, recipe.network.classes)
    reader = ImageReader(len(photographs), max_unreadable)
    network = AnchorNet(recipe.network)
    _draw_banks(network, recipe.seed)
    network.trunk.load_state_dict(trunk.state_dict())
    with workers_of_torchrun(find_device(device)) as workers:
        network.to(workers.device)
        examples = draw_whole(photographs, reader, recipe.example_size, EXAMPLES, recipe.seed, workers.device)

        def learn(what: str, task_of: Callable[[AnchorNet, LabelledViews], Task], how: Optimisation) -> None:
            views = LabelledViews(recipe, photographs, reader, workers.device, workers.count)
            checkpoint = _checkpoint(out, what)
            with views.upcoming:
                train(
                    task_of(network, views),
                    how,
                    recipe=asdict(recipe),
                    checkpoint=checkpoint,
                    resume=resume and (what == "banks" or checkpoint.is_file()),
                    log=out.with_name(f"{out.name}.{what}.log.jsonl"),
                    on_progress=lambda progress: on_progress(what, progress),
                    workers=workers,
                )

        with autocast(workers.device, optimisation.precision):
            fit_taps(network, examples)
        learn("banks", BankTask, optimisation)
        with autocast(workers.device, optimisation.precision):
            fit_code(network, examples)
        learn("code", CodeTask, replace(optimisation, steps=recipe.code_steps, head_rate=recipe.code_rate, warm_up=0))
        with autocast(workers.device, optimisation.precision):
            fit_means(network, examples)
        if workers.lead:
            save_weights(out, "anchornet", asdict(recipe.network), network.state_dict())


def _checkpoint(out: Path, what: str) -> Path:
    return out.with_name(f"{out.name}.{what}.checkpoint")
