"""Probabilistic Introspection (Novotny et al., CVPR 2018, arXiv 1804.01552): losses and recipe.

The road of one step: photographs -> two warped views each -> phi and sigma -> 700 corresponding points a pair ->
the likelihood of their scores. To it we can add a term of our own that keeps the similarities *between* photographs
as the initial networks see them (`geomatch.training.introspection.teacher`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from geomatch.datasets.crops import read_crops, with_crops
from geomatch.datasets.image_folder import ImageBatch, ImageReader, LabelledImage, find_images, with_labels
from geomatch.features.backbones.base import Trunk
from geomatch.features.backbones.mobilenet import load_mobilenet
from geomatch.features.backbones.resnet import load_pretrained
from geomatch.features.introspection import IntrospectionConfig, IntrospectionNet
from geomatch.features.weights import read_safetensors, save_weights, sha256_of
from geomatch.geometry.grid import read_cells
from geomatch.geometry.homography import WarpRanges, apply_homography, pixel_grid
from geomatch.io.atomic import check_writable
from geomatch.options import Batches, Device
from geomatch.runtime.device import find_device
from geomatch.runtime.prefetch import Prefetch
from geomatch.training.augmentation import ColourRanges, ViewPairs, draw_view_pairs
from geomatch.training.distributed import workers_of_torchrun
from geomatch.training.introspection.start import start_from_principal_components, start_from_teacher
from geomatch.training.introspection.teacher import Opinion, Teacher
from geomatch.training.letterbox import WholeView, draw_whole, inside, whole_view
from geomatch.training.sampler import BatchSampler
from geomatch.training.trainer import Optimisation, Progress, StepLoss, Validation, autocast, check_checkpoint, train

SAME, IGNORED, DIFFERENT = 1, 0, -1  # reckoned with as numbers below


@dataclass(frozen=True)
class IntrospectionRecipe:
    """Everything that decides what is learnt from given photographs and initial weights, but for the optimiser."""

    network: IntrospectionConfig = field(default_factory=IntrospectionConfig)
    view_size: int = 224
    photographs_per_step: int = 4
    batches: Batches = Batches.one_class
    classes: tuple[str, ...] = ()  # labels of the photographs learnt from; empty: all photographs
    points: int = 700
    hardest: int = 30
    positive_radius: float = 1.0  # pixels of the view
    negative_radius: float = 30.0
    keep_similarity: float = 100.0  # weight of our term; 0 is the paper's loss alone
    similarity_cells: int = 1400
    teacher_size: int = 321  # side of the square view of the whole photograph that the teacher sees
    classifier_block: int = 12  # of a MobileNet, where one teaches too
    classifier_weight: float = 0.7
    warps: WarpRanges = field(default_factory=WarpRanges)
    colours: ColourRanges = field(default_factory=ColourRanges)
    seed: int = 0


def log_normaliser(sigma: Tensor) -> Tensor:
    """log C(sigma), C = integral of exp(t / sigma) over t in [0, 1], less the 1/sigma that cancels in the likelihood.

    C(sigma) = sigma (exp(1/sigma) - 1), so log C - 1/sigma = log(sigma (1 - exp(-1/sigma))).
    """
    return (-sigma * torch.expm1(-1 / sigma)).log()


def negative_log_likelihood(loss: Tensor, sigma: Tensor) -> Tensor:
    """-log p(s | y, sigma) = loss / sigma + log sigma + log(1 - exp(-1/sigma)), with p = exp((1 - loss)/sigma) / C.

    loss: 1 - s for a pair that corresponds, s for one that does not, in [0, 1]; sigma > 0; shapes broadcast.
    """
    return loss / sigma + log_normaliser(sigma)


def label_pairs(points: Tensor, positive_radius: float, negative_radius: float) -> Tensor:
    """Labels (B, K, K) of all pairs of a first view's point i with a second view's point j.

    points: (B, K, 2), the true places of both in the second view, in pixels. SAME within ``positive_radius`` of the
    true place, DIFFERENT beyond ``negative_radius``, IGNORED between.
    """
    distance = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    return (distance <= positive_radius).to(torch.int8) - (distance > negative_radius).to(torch.int8)


def introspection_loss(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], labels: Tensor, hardest: int
) -> Tensor:
    """The paper's loss over corresponding points of a batch of view pairs: a scalar.

    first, second: descriptors (B, K, C) of unit length and sigmas (B, K); point i of one corresponds to point i of
    the other. labels: (B, K, K) from `label_pairs`.

    Of all K x K pairs, the K corresponding ones count, and those of the ``hardest`` second points, by the mean loss
    of their labelled pairs; both sides weigh the same.
    """
    phi_u, sigma_u = first
    phi_v, sigma_v = second
    # One view pair after the other, since K x K numbers stay in a processor's cache and B x K x K do not.
    mean_loss = torch.stack([_mean_losses(*pair) for pair in zip(phi_u, sigma_u, phi_v, sigma_v, labels, strict=True)])
    chosen = mean_loss.topk(min(hardest, mean_loss.shape[1]), dim=1).indices
    positive_scores = torch.relu((phi_u * phi_v).sum(dim=2))
    positives = negative_log_likelihood(1 - positive_scores, (sigma_u + sigma_v) / 2).mean()

    phi_hard = phi_v.gather(1, chosen[:, :, None].expand(-1, -1, phi_v.shape[2]))
    sigma_hard = sigma_v.gather(1, chosen)
    hard_scores = torch.relu(phi_u @ phi_hard.mT)
    hard_losses = negative_log_likelihood(hard_scores, (sigma_u[:, :, None] + sigma_hard[:, None, :]) / 2)
    different = labels.gather(2, chosen[:, None, :].expand(-1, labels.shape[1], -1)) == DIFFERENT
    negatives = (hard_losses * different).sum() / different.sum().clamp(min=1)
    return (positives + negatives) / 2


@torch.no_grad()
def _mean_losses(phi_u: Tensor, sigma_u: Tensor, phi_v: Tensor, sigma_v: Tensor, labels: Tensor) -> Tensor:
    """The mean loss (K,) of each second point's labelled pairs, in one pair of views."""
    scores = torch.relu(phi_u @ phi_v.mT)
    # Reckoning with 1, 0 and -1 is quicker than choosing by masks.
    signs = labels.to(scores.dtype)
    losses = (signs.relu() - scores).abs()
    losses = negative_log_likelihood(losses, (sigma_u[:, None] + sigma_v) / 2)
    counted = signs.abs()
    return (losses * counted).sum(dim=0) / counted.sum(dim=0).clamp(min=1)


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference between two cosine-similarity matrices of the same cells: a scalar.

    student, teacher: descriptors (K, C) of unit length; their sizes C may differ. Ours, not the paper's.
    """
    return (student @ student.mT - teacher @ teacher.mT).square().mean()


@dataclass(frozen=True)
class _Scenes(ViewPairs):
    """What is to be seen of a batch: its view pairs, and what the teacher looks at.

    whole: (B, 1, 3, 3) float64, from its view to the photograph. places, seen: as in `_Batch`.
    """

    whole: Tensor
    places: Tensor
    seen: Tensor


@dataclass(frozen=True)
class _Batch:
    """What one batch shows: two views each of B photographs.

    views: (2B, 3, S, S), all first views before all second ones. points: the pixels (B, K, 2) of corresponding points
    in first and in second views. photographs: (B, 3, T, T), each whole, as the teacher sees it, if there is one.
    places: (B, 2N, 2), where on those the cells of its first, then of its second view lie, in pixels. seen: (B, 2N)
    bool on the CPU, which of them lie on the photograph itself, not on what is mirrored around it.
    """

    views: Tensor
    points: tuple[Tensor, Tensor]
    photographs: Tensor | None
    places: Tensor
    seen: Tensor


def appoint_teacher(
    trunk: Trunk, classifier: Path | None, recipe: IntrospectionRecipe, examples: Sequence[WholeView]
) -> Teacher:
    """The teacher of a recipe: the initial trunk, joined by a classifier if there is one."""
    opinions = [Opinion(trunk, recipe.network.stage, 1.0)]
    if classifier is not None:
        mobilenet = load_mobilenet(read_safetensors(classifier)[0], str(classifier))
        opinions.append(
            Opinion(mobilenet.to(next(trunk.parameters()).device), recipe.classifier_block, recipe.classifier_weight)
        )
    return Teacher(opinions, examples).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class IntrospectionTask:
    """What the engine trains: the network, and the loss of a given batch.

    A batch's photographs, warps and points depend on the seed and its number alone, so training resumed at a step goes
    on as if never stopped. ``upcoming`` reads ahead in threads, which end on leaving it as a context.
    """

    def __init__(
        self,
        recipe: IntrospectionRecipe,
        network: IntrospectionNet,
        photographs: Sequence[LabelledImage],
        reader: ImageReader,
        device: torch.device,
        teacher: Teacher | None = None,
        stride: int = 1,
    ) -> None:
        """teacher: needed unless the recipe's ``keep_similarity`` is 0. stride: between the batches asked for."""
        self.recipe = recipe
        self.network = network.to(device)
        self.device = device
        self.reader = reader
        self.teacher = None if teacher is None else teacher.to(device)
        self.sampler = BatchSampler(photographs, recipe.batches, recipe.photographs_per_step, recipe.seed)
        self.upcoming = Prefetch(self._prepare, stride=stride)

    def loss(self, batch: int, autocast: AbstractContextManager[object]) -> StepLoss:
        """The loss of batch number ``batch`` with what the log reports of it."""
        recipe = self.recipe
        known = len(self.reader.unreadable)
        drawn = self._draw(batch)
        with autocast:
            phi, sigma = self.network(drawn.views)
            taught = None if self.teacher is None else self.teacher(drawn.photographs, drawn.places)
        labels = label_pairs(drawn.points[1], recipe.positive_radius, recipe.negative_radius)
        first, second = (
            self._read(maps, sigmas, points)
            for maps, sigmas, points in zip(phi.chunk(2), sigma.chunk(2), drawn.points, strict=True)
        )
        likelihood = introspection_loss(first, second, labels, recipe.hardest)
        loss, report = likelihood, {"likelihood": likelihood.detach(), "sigma": sigma.detach().mean()}
        if taught is not None:
            similarity = similarity_loss(*self._same_cells(phi, taught, drawn, batch))
            loss = loss + recipe.keep_similarity * similarity
            report["similarity"] = similarity.detach()
        return StepLoss(
            loss,
            report,
            images=len(drawn.views),
            unreadable=tuple(self.reader.unreadable[known:]),
        )

    def _prepare(self, batch: int) -> tuple[ImageBatch, _Scenes | None]:
        """In a background thread: the photographs of a batch, and what is to be seen of them, if any can be read."""
        recipe = self.recipe
        photographs, count, generator = self.sampler.draw(batch)
        reading = self.reader.attempt(photographs, count)
        if not reading.pixels:
            return reading, None
        pairs = draw_view_pairs(
            reading.pixels, recipe.view_size, recipe.points, recipe.warps, recipe.colours, generator
        )
        sizes = [(pixels.shape[1], pixels.shape[2]) for pixels in reading.pixels]
        whole = torch.stack([whole_view(size, recipe.teacher_size) for size in sizes])
        cells = apply_homography(pairs.homographies, self._cell_centres()).flatten(1, 2)
        seen = torch.stack([inside(points, size) for points, size in zip(cells, sizes, strict=True)])
        places = apply_homography(torch.linalg.inv(whole), cells)
        scenes = _Scenes(**vars(pairs), whole=whole[:, None], places=places, seen=seen)
        return reading, scenes.pinned() if self.device.type == "cuda" else scenes

    def _draw(self, batch: int) -> _Batch:
        reading, scenes = self.upcoming(batch)
        self.reader.admit(reading)
        assert scenes is not None  # else there was nothing to admit
        seen = scenes.seen
        scenes = scenes.to(self.device)
        views = scenes.render(self.recipe.view_size).transpose(0, 1).flatten(0, 1)
        first, second = scenes.points.unbind(dim=1)
        photographs = None
        if self.teacher is not None:
            photographs = scenes.see(scenes.whole, self.recipe.teacher_size)[:, 0]
            photographs = photographs.contiguous(memory_format=torch.channels_last)
        return _Batch(
            views=views.contiguous(memory_format=torch.channels_last),
            points=(first, second),
            photographs=photographs,
            places=scenes.places,
            seen=seen,
        )

    def _cell_centres(self) -> Tensor:
        """Where the cells of a view lie on it: (N, 2) float64 pixels, row by row."""
        cells = -(-self.recipe.view_size // self.network.stride)
        return self.network.stride * pixel_grid(cells, cells)

    def _read(self, phi: Tensor, sigma: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors (B, K, C) of unit length and sigmas (B, K) at pixels (B, K, 2) of the views."""
        cells = points / self.network.stride  # where the trunk centres them
        return F.normalize(read_cells(phi, cells), dim=1).mT, read_cells(sigma, cells)[:, 0]

    def _same_cells(self, phi: Tensor, taught: Tensor, drawn: _Batch, batch: int) -> tuple[Tensor, Tensor]:
        """Descriptors (K, C) of random cells that lie on their photograph, and the teacher's of the same places."""
        seen = drawn.seen.flatten().nonzero()[:, 0]
        order = np.random.default_rng((self.recipe.seed, batch, 1)).permutation(len(seen))
        chosen = seen[torch.from_numpy(order[: self.recipe.similarity_cells])].to(phi.device, non_blocking=True)
        student = torch.cat(phi.flatten(2).chunk(2), dim=2).mT
        return student.flatten(0, 1)[chosen], taught.flatten(0, 1)[chosen]


def train_introspection(
    data: Sequence[Path],
    init: Path,
    out: Path,
    recipe: IntrospectionRecipe,
    optimisation: Optimisation,
    *,
    device: Device,
    resume: bool,
    classifier: Path | None = None,
    crops: Path | None = None,
    max_unreadable: float = 0.01,
    on_progress: Callable[[Progress], None],
    validate: Callable[[IntrospectionNet], float] | None = None,
    validate_every: int = 200,
) -> None:
    """Train a network on photographs, from a pretrained trunk, and write its weights to ``out``.

    classifier: an ImageNet MobileNet v1 that teaches beside the initial trunk. crops: a table of where the labelled
    things are, which alone are then seen.

    Beside the weights go ``<out>.checkpoint`` and ``<out>.log.jsonl``. With ``validate``, which scores a network, the
    weights written are those of the best score, taken every ``validate_every`` steps. Under ``torchrun`` the
    processes share the batches of a step; they need the same files. Of the photographs up to the share
    ``max_unreadable`` may be damaged. Raises InputError for what the user gave, TrainingError if the loss diverges.
    """
    check_writable(out)
    photographs = find_images(data)
    if crops is not None:
        photographs = with_crops(photographs, read_crops(crops))
    if recipe.classes:
        photographs = with_labels(photographs, recipe.classes)
    reader = ImageReader(len(photographs), max_unreadable)
    network = IntrospectionNet(recipe.network)
    load_pretrained(network.trunk, read_safetensors(init)[0], str(init))
    checkpoint = out.with_name(out.name + ".checkpoint")
    made_with = {**asdict(recipe), "classifier": _fingerprint(classifier), "crops": _fingerprint(crops)}
    if resume:
        check_checkpoint(checkpoint, made_with, optimisation)

    def keep() -> None:
        save_weights(out, "introspection", asdict(recipe.network), network.state_dict())

    with workers_of_torchrun(find_device(device)) as workers:
        network.to(workers.device)
        with autocast(workers.device, optimisation.precision):
            teacher = _start(network, photographs, reader, recipe, classifier)
        task = IntrospectionTask(recipe, network, photographs, reader, workers.device, teacher, stride=workers.count)
        with task.upcoming:
            train(
                task,
                optimisation,
                recipe=made_with,
                checkpoint=checkpoint,
                resume=resume,
                log=out.with_name(out.name + ".log.jsonl"),
                on_progress=on_progress,
                validation=Validation(validate_every, lambda: validate(network), keep) if validate else None,
                workers=workers,
            )
        if workers.lead and not validate:
            keep()


def _start(
    network: IntrospectionNet,
    photographs: Sequence[LabelledImage],
    reader: ImageReader,
    recipe: IntrospectionRecipe,
    classifier: Path | None,
) -> Teacher | None:
    """Set the descriptor head of a network with its pretrained trunk, and appoint the teacher if there is to be one."""
    if recipe.keep_similarity == 0:
        start_from_principal_components(network, photographs, reader, recipe.view_size, recipe.seed)
        return None
    device = network.descriptor.weight.device
    examples = draw_whole(photographs, reader, recipe.teacher_size, 300, recipe.seed, device)
    teacher = appoint_teacher(deepcopy(network.trunk), classifier, recipe, examples)
    start_from_teacher(network, teacher, examples)
    return teacher


def _fingerprint(file: Path | None) -> str | None:
    return None if file is None else sha256_of(file)
