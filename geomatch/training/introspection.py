"""Probabilistic Introspection (Novotny et al., CVPR 2018, arXiv 1804.01552): losses and recipe.

The road of one step: photographs -> two warped views each -> phi and sigma -> 700 corresponding points a pair ->
the likelihood of their scores. To it we can add a term of our own that keeps the similarities *between* photographs
as the initial networks see them (`geomatch.training.teacher`).
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

from geomatch.datasets.photographs import Photograph, PhotographReader, by_label, find_photographs, with_labels
from geomatch.device import find_device
from geomatch.errors import InputError
from geomatch.features.introspection import IntrospectionConfig, IntrospectionNet
from geomatch.features.mobilenet import load_mobilenet
from geomatch.features.resnet import Trunk, load_pretrained
from geomatch.features.weights import read_safetensors, save_weights, sha256_of
from geomatch.geometry import apply_homography, read_cells
from geomatch.io.atomic import check_writable
from geomatch.settings import Batches, Device
from geomatch.training.engine import Optimisation, Progress, StepLoss, Validation, train
from geomatch.training.teacher import Opinion, Teacher, inside, whole_view
from geomatch.training.warps import ColourRanges, corresponding_points, random_colour
from geomatch.training.workers import workers_of_torchrun
from geomatch.views import WarpRanges, pixel_grid, random_view, warp_image

SAME, IGNORED, DIFFERENT = 1, 0, -1


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

    C(sigma) = sigma (exp(1/sigma) - 1), so log C - 1/sigma = log sigma + log(1 - exp(-1/sigma)).
    """
    return sigma.log() + (-torch.expm1(-1 / sigma)).log()


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
    labels = torch.full_like(distance, IGNORED, dtype=torch.int8)
    labels[distance <= positive_radius] = SAME
    labels[distance > negative_radius] = DIFFERENT
    return labels


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
    with torch.no_grad():
        scores = torch.relu(phi_u @ phi_v.mT)
        losses = torch.where(labels == SAME, 1 - scores, scores)
        losses = negative_log_likelihood(losses, (sigma_u[:, :, None] + sigma_v[:, None, :]) / 2)
        counted = labels != IGNORED
        mean_loss = (losses * counted).sum(dim=1) / counted.sum(dim=1).clamp(min=1)
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


def similarity_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference between two cosine-similarity matrices of the same cells: a scalar.

    student, teacher: descriptors (K, C) of unit length; their sizes C may differ. Ours, not the paper's.
    """
    return (student @ student.mT - teacher @ teacher.mT).square().mean()


@torch.no_grad()
def start_from_principal_components(
    network: IntrospectionNet,
    photographs: Sequence[Photograph],
    reader: PhotographReader,
    view_size: int,
    seed: int,
    *,
    sample: int = 256,
) -> None:
    """Set the descriptor head to the centred principal components of the trunk's features of a few photographs.

    So learning starts from what the trunk knows, with the mean, which says nothing of the place, taken away.
    """
    random = np.random.default_rng((seed, 0, 2))
    generator = torch.Generator().manual_seed(seed)
    cells = []
    order = random.permutation(len(photographs))
    for pixels in reader.read((photographs[index] for index in order), sample):
        photograph = pixels.float() / 255
        view = random_view((photograph.shape[1], photograph.shape[2]), view_size, WarpRanges(), generator)
        image = warp_image(photograph, view, (view_size, view_size))[None]
        cells.append(network.columns(image)[0].flatten(1).mT)
    columns = torch.cat(cells).double()
    mean = columns.mean(dim=0)
    components = torch.linalg.eigh(torch.cov((columns - mean).mT)).eigenvectors.flip(1)
    _set_descriptor(network, components[:, : network.config.descriptor_size].mT, mean)


@dataclass(frozen=True)
class _Batch:
    """What one batch shows: two views each of B photographs.

    views: (2B, 3, S, S), all first views before all second ones. points: the pixels (B, K, 2) of corresponding points
    in first and in second views. photographs: (B, 3, T, T), each whole, as the teacher sees it. places: (B, 2N, 2),
    where on those the cells of its first, then of its second view lie, in pixels. seen: (B, 2N) bool, which of them lie
    on the photograph itself, not on what is mirrored around it.
    """

    views: Tensor
    points: tuple[Tensor, Tensor]
    photographs: Tensor
    places: Tensor
    seen: Tensor


@torch.no_grad()
def start_from_teacher(
    network: IntrospectionNet, teacher: Teacher, examples: Sequence[Tensor], *, ridge: float = 1e-3
) -> None:
    """Set the descriptor head to what of the teacher can be told linearly from the trunk's features.

    Ridge regression from a cell's column x to the teacher's descriptor t, over all cells of ``examples`` (1, 3, H, W);
    the head gives the principal components of the prediction B (x - mean), so its dot products are as close to the
    teacher's as a head of its size can come.
    """

    def moments(image: Tensor) -> Tensor:
        """(x, 1) times (x, 1, t), summed over the cells."""
        columns = network.columns(image)
        places = network.stride * pixel_grid(columns.shape[2], columns.shape[3]).float()
        x = F.pad(columns[0].flatten(1).double(), (0, 0, 0, 1), value=1.0)
        return x @ torch.cat((x.mT, teacher(image, places[None])[0].double()), dim=1)

    size = network.descriptor.in_channels
    total = sum(map(moments, examples), start=torch.zeros((), dtype=torch.float64))
    total = total / total[size, size]
    x_mean, t_mean = total[:size, size], total[size, size + 1 :]
    covariance = total[:size, :size] - torch.outer(x_mean, x_mean)
    damping = ridge * covariance.diagonal().mean() * torch.eye(size, dtype=torch.float64)
    regression = torch.linalg.solve(covariance + damping, total[:size, size + 1 :] - torch.outer(x_mean, t_mean))
    predicted = regression.mT @ covariance @ regression
    components = torch.linalg.eigh(predicted).eigenvectors.flip(1)[:, : network.config.descriptor_size]
    _set_descriptor(network, (regression @ components).mT, x_mean)


def _set_descriptor(network: IntrospectionNet, weight: Tensor, mean: Tensor) -> None:
    """Make the descriptor head weight (D, C) times what a column exceeds the mean (C,) by."""
    network.descriptor.weight.copy_(weight[:, :, None, None])
    network.descriptor.bias.copy_(-weight @ mean)  # type: ignore[union-attr]


def appoint_teacher(
    trunk: Trunk, classifier: Path | None, recipe: IntrospectionRecipe, examples: Sequence[Tensor]
) -> Teacher:
    """The teacher of a recipe: the initial trunk, joined by a classifier if there is one."""
    opinions = [Opinion(trunk, recipe.network.stage, 1.0)]
    if classifier is not None:
        mobilenet = load_mobilenet(read_safetensors(classifier)[0], str(classifier))
        opinions.append(Opinion(mobilenet, recipe.classifier_block, recipe.classifier_weight))
    return Teacher(opinions, examples).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def draw_whole(
    photographs: Sequence[Photograph], reader: PhotographReader, recipe: IntrospectionRecipe, count: int
) -> list[Tensor]:
    """Random photographs as a teacher sees them: (1, 3, T, T) each."""
    size = recipe.teacher_size
    order = np.random.default_rng((recipe.seed, 0, 3)).permutation(len(photographs))
    pixels = reader.read((photographs[index] for index in order), count)
    views = (warp_image(p.float() / 255, whole_view((p.shape[1], p.shape[2]), size), (size, size)) for p in pixels)
    return [view[None].contiguous(memory_format=torch.channels_last) for view in views]


class IntrospectionTask:
    """What the engine trains: the network, and the loss of a given batch.

    A batch's photographs, warps and points depend on the seed and its number alone, so training resumed at a step goes
    on as if never stopped.
    """

    def __init__(
        self,
        recipe: IntrospectionRecipe,
        network: IntrospectionNet,
        photographs: Sequence[Photograph],
        reader: PhotographReader,
        device: torch.device,
        teacher: Teacher | None = None,
    ) -> None:
        """teacher: needed unless the recipe's ``keep_similarity`` is 0."""
        self.recipe = recipe
        self.network = network.to(device)
        self.device = device
        self.reader = reader
        self.teacher = None if teacher is None else teacher.to(device)
        self.groups = [list(photographs)]
        if recipe.batches is Batches.one_class:
            self.groups = [g for g in by_label(photographs).values() if len(g) >= recipe.photographs_per_step]
            if not self.groups:
                raise InputError(
                    f"no label has the {recipe.photographs_per_step} photographs that one step needs: "
                    f"give labelled data, or --batches {Batches.mixed}"
                )

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
            {name: float(value) for name, value in report.items()},
            images=len(drawn.views),
            unreadable=tuple(self.reader.unreadable[known:]),
        )

    def _draw(self, batch: int) -> _Batch:
        recipe = self.recipe
        random = np.random.default_rng((recipe.seed, batch))
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        # Between drawing photographs and drawing classes evenly: thin classes are seen, but not to death.
        weights = np.sqrt([len(group) for group in self.groups])
        group = self.groups[random.choice(len(self.groups), p=weights / weights.sum())]
        chosen = random.choice(len(group), size=min(recipe.photographs_per_step, len(group)), replace=False)
        size = recipe.view_size
        views: list[list[Tensor]] = [[], []]
        points: list[list[Tensor]] = [[], []]
        places: list[Tensor] = []
        seen: list[Tensor] = []
        whole: list[Tensor] = []
        instead = (index for index in random.permutation(len(group)) if index not in chosen)
        drawn = (group[index] for index in (*chosen, *instead))
        for pixels in self.reader.read(drawn, len(chosen)):
            photograph = pixels.float() / 255
            shape = (photograph.shape[1], photograph.shape[2])
            first, second = (random_view(shape, size, recipe.warps, generator) for _ in range(2))
            found = corresponding_points(first, second, size, recipe.points, generator)
            taught = whole_view(shape, recipe.teacher_size)
            whole.append(warp_image(photograph, taught, (recipe.teacher_size, recipe.teacher_size)))
            for side, homography in enumerate((first, second)):
                points[side].append(found[side].float())
                view = warp_image(photograph, homography, (size, size))
                views[side].append(random_colour(view, recipe.colours, generator))
            cells = torch.cat([apply_homography(homography, self._cell_centres()) for homography in (first, second)])
            seen.append(inside(cells, shape))
            places.append(apply_homography(torch.linalg.inv(taught), cells).float())
        return _Batch(
            views=torch.stack(views[0] + views[1]).to(self.device, memory_format=torch.channels_last),
            points=(torch.stack(points[0]).to(self.device), torch.stack(points[1]).to(self.device)),
            photographs=torch.stack(whole).to(self.device, memory_format=torch.channels_last),
            places=torch.stack(places).to(self.device),
            seen=torch.stack(seen).to(self.device),
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
        chosen = seen[torch.from_numpy(order[: self.recipe.similarity_cells]).to(seen.device)]
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
    max_unreadable: float = 0.01,
    on_progress: Callable[[Progress], None],
    validate: Callable[[IntrospectionNet], float] | None = None,
    validate_every: int = 200,
) -> None:
    """Train a network on photographs, from a pretrained trunk, and write its weights to ``out``.

    classifier: an ImageNet MobileNet v1 that teaches beside the initial trunk.
    Beside the weights go ``<out>.checkpoint`` and ``<out>.log.jsonl``. With ``validate``, which scores a network, the
    weights written are those of the best score, taken every ``validate_every`` steps. Under ``torchrun`` the
    processes share the batches of a step; they need the same files. Of the photographs up to the share
    ``max_unreadable`` may be damaged. Raises InputError for what the user gave, TrainingError if the loss diverges.
    """
    check_writable(out)
    photographs = find_photographs(data)
    if recipe.classes:
        photographs = with_labels(photographs, recipe.classes)
    reader = PhotographReader(len(photographs), max_unreadable)
    network = IntrospectionNet(recipe.network)
    load_pretrained(network.trunk, read_safetensors(init)[0], str(init))
    teacher = None
    if recipe.keep_similarity > 0:
        examples = draw_whole(photographs, reader, recipe, count=200)
        teacher = appoint_teacher(deepcopy(network.trunk), classifier, recipe, examples)
        start_from_teacher(network, teacher, examples)
    else:
        start_from_principal_components(network, photographs, reader, recipe.view_size, recipe.seed)

    def keep() -> None:
        save_weights(out, "introspection", asdict(recipe.network), network.state_dict())

    with workers_of_torchrun(find_device(device)) as workers:
        train(
            IntrospectionTask(recipe, network, photographs, reader, workers.device, teacher),
            optimisation,
            recipe={**asdict(recipe), "classifier": classifier and sha256_of(classifier)},
            checkpoint=out.with_name(out.name + ".checkpoint"),
            resume=resume,
            log=out.with_name(out.name + ".log.jsonl"),
            on_progress=on_progress,
            validation=Validation(validate_every, lambda: validate(network), keep) if validate else None,
            workers=workers,
        )
        if workers.lead and not validate:
            keep()
