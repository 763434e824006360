"""Learning from keypoints, or from matches in their place, from photographs to a weights file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from geomatch.datasets.image_folder import ImageReader, find_images
from geomatch.datasets.keypoint_pairs import (
    ListedPairs,
    ObjectPairs,
    PairSource,
    read_keypoint_objects,
    selected_objects,
)
from geomatch.datasets.load import find_benchmark, load_dataset
from geomatch.errors import InputError
from geomatch.features.introspection import PHI_FEATURES, IntrospectionConfig, IntrospectionNet, KeypointFeatures
from geomatch.features.weights import (
    features_of,
    load_network,
    read_weights_file,
    save_weights,
    shipped_features,
    shipped_sha256,
)
from geomatch.runtime.device import autocast, find_device
from geomatch.training.distributed import ProcessGroup, torchrun_processes
from geomatch.training.keypoints.columns import ColumnStore
from geomatch.training.keypoints.heads import HeadTask
from geomatch.training.keypoints.pseudo_labels import MatchedPairs, PhotographMatcher, PseudoLabeller
from geomatch.training.keypoints.recipe import KeypointRecipe
from geomatch.training.keypoints.task import KeypointTask
from geomatch.training.keypoints.views import ViewRecipe
from geomatch.training.trainer import Optimisation, Progress, TrainingRun, Validation, train

BENCHMARKS = ("spair-71k", "pf-pascal")
"""Those whose list of pairs for training, ``trn``, can be learnt from."""


@dataclass(frozen=True)
class Matching:
    """Photographs whose matches, by the initial network or others, stand in for keypoints.

    photographs: as for `find_images`. matcher: made of the file of initial weights. shipped: the preset or features
    that it takes instead.
    """

    photographs: Sequence[Path]
    matcher: Callable[[Path], PhotographMatcher]
    shipped: str | None = None

    def settings(self, init: Path) -> object:
        """What the matches depend on, besides photographs and recipe."""
        if self.shipped is None:
            return read_weights_file(init).sha256
        return [self.shipped, *filter(None, map(shipped_sha256, shipped_features()))]


def train_keypoints(
    run: TrainingRun,
    recipe: KeypointRecipe,
    optimisation: Optimisation,
    *,
    images: Path | None = None,
    matching: Matching | None = None,
    feature: str = KeypointFeatures.name,
    on_progress: Callable[[str, Progress], None],
    validate: Callable[[IntrospectionNet], float] | None = None,
    validate_every: int = 200,
) -> None:
    """Train a network of introspection further on corresponding keypoints, and write its weights to ``run.out``.

    If the trunk's learning rate is 0, its heads alone learn, on columns that are computed once and kept on disk. Under
    ``torchrun`` the processes share the batches of a step; they need the same files.

    Args:
        run: ``data`` are COCO files, folders of SPair-71k or PF-PASCAL, or nothing if there is ``matching``, ``init``
            weights of PHI_FEATURES.
        images: photographs of the COCO files, as for `find_images`; by default in the folder of each.
        matching: photographs without keypoints to learn from, too. Their matches stay in OUT.matches.
        feature: whose weights they become.
        on_progress: called with what is done, ``matching`` or ``training``, and how far it is.
        validate: scores a network. The weights written are then those of the best score, taken every
            ``validate_every`` steps and at the end.

    Raises:
        InputError: if data, weights or settings cannot be used.
        TrainingError: if the loss diverges.
    """
    run.check_outputs("")
    network = _initial_network(run.only_init(), recipe)
    sources = read_sources(run.data, recipe, images)
    settings = {**asdict(recipe), "network": asdict(network.config)}
    if run.resume:
        run.files().check_resumable(settings, optimisation)

    with run.writing(""), torchrun_processes(find_device(run.device)) as processes:
        if matching:
            sources.append(_matched(run, recipe, matching, partial(on_progress, "matching")))
        reader = ImageReader(sum(source.photographs for source in sources), run.max_unreadable)
        network.to(processes.device)
        with _open_task(recipe, network, sources, reader, run.out.parent, optimisation, processes) as task:

            def save() -> None:
                save_weights(run.out, feature, asdict(network.config), _learnt(task, network).state_dict())

            train(
                task,
                optimisation,
                run.files(),
                recipe=settings,
                resume=run.resume,
                on_progress=partial(on_progress, "training"),
                validation=validate and Validation(validate_every, lambda: validate(_learnt(task, network)), save),
                processes=processes,
            )
            if processes.is_main and not validate:
                save()


def _matched(
    run: TrainingRun,
    recipe: KeypointRecipe,
    matching: Matching,
    on_progress: Callable[[Progress], None],
) -> MatchedPairs:
    """Pairs of photographs with their matches; each process finds the same."""
    init, settings = run.only_init(), recipe.pseudo_labels
    photographs = find_images(matching.photographs)
    labeller = PseudoLabeller(
        photographs,
        settings,
        recipe.seed,
        run.out.with_name(f"{run.out.name}.matches"),
        matching.settings(init),
        ImageReader(min(settings.photographs, len(photographs)), run.max_unreadable),
    )
    began = time.monotonic()

    def report(blocks: int, pairs: int) -> None:
        pace = blocks * settings.block / (time.monotonic() - began)
        on_progress(Progress(blocks, labeller.blocks, {"pairs": pairs}, pace, {}))

    return MatchedPairs(labeller.find(partial(matching.matcher, init), report), settings)


@contextmanager
def _open_task(
    recipe: KeypointRecipe,
    network: IntrospectionNet,
    sources: Sequence[PairSource],
    reader: ImageReader,
    folder: Path,
    optimisation: Optimisation,
    processes: ProcessGroup,
) -> Iterator[KeypointTask | HeadTask]:
    """The task of all layers, or that of the heads alone, which keeps columns in a file in ``folder``."""
    if optimisation.trunk_learning_rate > 0:
        task = KeypointTask(recipe, network, sources, reader, processes.device, processes.size)
        with task.upcoming:
            yield task
        return
    with ColumnStore(network, recipe, folder, partial(autocast, processes.device, optimisation.precision)) as store:
        store.fit(sources, reader)
        yield HeadTask(recipe, network, sources, reader, store)


def _learnt(task: KeypointTask | HeadTask, network: IntrospectionNet) -> IntrospectionNet:
    """The whole network, with what the task has learnt."""
    if isinstance(task, HeadTask):
        task.expand_into(network)
    return network


def read_sources(data: Sequence[Path], recipe: ViewRecipe, images: Path | None = None) -> list[PairSource]:
    """Where pairs are drawn from: one source for all COCO files, and one for each benchmark. Raises InputError."""
    folders = [path for path in data if path.is_dir()]
    files = [path for path in data if not path.is_dir()]
    sources: list[PairSource] = []
    if files:
        objects = [each for file in files for each in read_keypoint_objects(file, images)]
        chosen = selected_objects(objects, recipe.classes, recipe.left_out)
        sources.append(ObjectPairs(chosen, recipe.across, recipe.least_shared))
    elif recipe.left_out or images:
        option = "--images" if images else "--set left_out"
        raise InputError(f"{option} is for COCO files, and --data names none")
    return sources + [_listed(folder, recipe.classes) for folder in folders]


def _listed(folder: Path, classes: Sequence[str]) -> ListedPairs:
    """The training pairs in the folder of a benchmark. Raises InputError."""
    for name in BENCHMARKS:
        if "trn" in find_benchmark(name).splits(folder):
            pairs = load_dataset(name, folder, split="trn").pairs
            return ListedPairs([pair for pair in pairs if not classes or pair.category in classes])
    raise InputError(f"{folder}: has no training pairs of SPair-71k (PairAnnotation/trn) or PF-PASCAL (trn_pairs.csv)")


def _initial_network(init: Path, recipe: KeypointRecipe) -> IntrospectionNet:
    file = read_weights_file(init)
    feature = features_of(file)
    if feature not in PHI_FEATURES:
        raise InputError(f"{init}: weights of {feature!r}; give those of introspection, keypoints or distilled")
    network = load_network(file, feature, IntrospectionConfig, IntrospectionNet, torch.device("cpu"))[0]
    return network if network.config.context or not recipe.context else _with_context(network, recipe)


def _with_context(network: IntrospectionNet, recipe: KeypointRecipe) -> IntrospectionNet:
    """The same network, whose descriptors may come to hear the cells around."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        wider = IntrospectionNet(replace(network.config, context=recipe.context))
    wider.load_state_dict(network.state_dict(), strict=False)
    return wider
