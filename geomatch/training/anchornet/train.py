"""Training AnchorNet, from labelled photographs to a weights file.

Photographs and their labels -> the hypercolumn's principal components -> class banks, learnt from whether an image
shows the class -> with the banks fixed, a linear code of all their responses, learnt as a denoising auto-encoder.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch

from geomatch.datasets.crops import read_crops, with_crops
from geomatch.datasets.image_folder import ImageReader
from geomatch.datasets.image_list import BACKGROUND, LabelledImage, by_label, hold_out, with_labels
from geomatch.errors import GeomatchWarning, InputError
from geomatch.features.anchornet import AnchorConfig, AnchorNet
from geomatch.features.backbones.base import Trunk, parse_stage
from geomatch.features.backbones.build import build_trunk, fetch_pretrained, load_pretrained
from geomatch.features.backbones.timm import NAMESPACE
from geomatch.features.load import pretrained_trunk
from geomatch.features.weights import FORMAT, read_tensors, read_weights_file, save_weights
from geomatch.io.inputs import InputFile, read_input
from geomatch.options import Precision
from geomatch.runtime.device import autocast, find_device, memory_bytes
from geomatch.training.anchornet.recipe import AnchorRecipe
from geomatch.training.anchornet.start import draw_banks, fit_code, fit_means, fit_taps
from geomatch.training.anchornet.task import BankTask, CodeTask, LabelledViews
from geomatch.training.distributed import ProcessGroup, torchrun_processes
from geomatch.training.letterbox import Letterbox, draw_letterboxes
from geomatch.training.trainer import Optimisation, Progress, TrainingRun, Validation, train

EXAMPLES = 300  # photographs that the principal components and mean responses are taken from
FEW = 50  # photographs of a class


def train_anchornet(
    run: TrainingRun,
    recipe: AnchorRecipe,
    optimisation: Optimisation,
    *,
    crops: Path | None = None,
    on_progress: Callable[[str, Progress], None],
    validate: Callable[[AnchorNet], float] | None = None,
    validate_every: int = 200,
) -> None:
    """Train banks and code on labelled photographs, from a trained trunk, and write the weights to ``run.out``.

    ``run.init`` holds weights of geomatch or a pretrained trunk, which replaces the recipe's; none: timm's own weights
    of a network of timm. The trunk learns if its learning rate is not 0. Banks and code have a checkpoint and log each.

    Args:
        crops: a table of boxes (`geomatch crops`); of a photograph with boxes only what lies in them is then seen.
        validate: scores a network, every ``validate_every`` steps and at the end of each part; that of banks with the
            principal components of their responses as their code. The weights written are then those of the code's best
            score.
        on_progress: called with what is learnt, ``banks`` or ``code``, and how far it is.

    Raises:
        InputError: if data, weights or settings cannot be used.
        TrainingError: if a loss diverges.
    """
    run.check_outputs("banks", "code")
    table = None if crops is None else read_input(crops)
    trunk_name, trunk = _initial_trunk(run, recipe.network)
    trunk.check_stages(f"--stages: {trunk_name}", list(map(parse_stage, recipe.network.stages)))
    recipe = replace(recipe, network=replace(recipe.network, trunk=trunk_name))
    _check_memory(recipe, find_device(run.device))
    photographs = _photographs(run, recipe, table)
    optimisation = optimisation.for_photographs(len(photographs), recipe.batch_size)
    settings = {**asdict(recipe), "crops": table and table.sha256}
    if run.resume:
        run.files("banks").check_resumable(settings, optimisation)
    reader = ImageReader(len(photographs), run.max_unreadable)
    network = AnchorNet(recipe.network)
    draw_banks(network, recipe.seed)
    _copy_weights(trunk, network.trunk)
    with run.writing("banks", "code"), torchrun_processes(find_device(run.device)) as processes:
        network.to(device := processes.device)
        examples = draw_letterboxes(photographs, reader, recipe.example_size, EXAMPLES, recipe.seed, device)
        views = partial(LabelledViews, recipe, photographs, reader, device, processes.size)
        schedule = validate and _Schedule(validate, validate_every)
        parts = _Parts(run, settings, network, examples, processes, on_progress, schedule)
        parts.fit(fit_taps, precision=optimisation.precision)
        parts.learn_banks(BankTask(network, views(), tune_trunk=optimisation.trunk_learning_rate > 0), optimisation)
        parts.fit(fit_code, precision=optimisation.precision)
        parts.learn_code(CodeTask(network, views()), _for_code(optimisation, recipe))
        parts.fit(fit_means, precision=optimisation.precision)
        if processes.is_main and not (validate and recipe.code_steps):
            parts.save()


@dataclass(frozen=True)
class _Schedule:
    """How to score a network, and every how many steps."""

    validate: Callable[[AnchorNet], float]
    every: int


@dataclass(frozen=True)
class _Parts:
    """What learns: the parts of a network one after another, each with its checkpoint and log."""

    run: TrainingRun
    settings: Mapping[str, object]
    network: AnchorNet
    examples: Sequence[Letterbox]
    processes: ProcessGroup
    on_progress: Callable[[str, Progress], None]
    schedule: _Schedule | None

    def fit(self, *fits: Callable[[AnchorNet, Sequence[Letterbox]], None], precision: Precision) -> None:
        """Fit parts of the network to the examples."""
        with autocast(self.processes.device, precision):
            for each in fits:
                each(self.network, self.examples)

    def learn_banks(self, task: BankTask, optimisation: Optimisation) -> None:
        """Learn banks; their score is that of the code that would be fitted to them, and is only logged."""
        self._learn("banks", task, optimisation, (fit_code, fit_means), lambda: None, task.constrain)

    def learn_code(self, task: CodeTask, optimisation: Optimisation) -> None:
        """Learn the code; if it is scored, the weights of the best score are saved."""
        resumed = self.run.files("code").checkpoint.is_file()
        run = replace(self.run, resume=self.run.resume and resumed)
        replace(self, run=run)._learn("code", task, optimisation, (fit_means,), self.save, lambda: None)

    def save(self) -> None:
        save_weights(self.run.out, "anchornet", asdict(self.network.config), self.network.state_dict())

    def _learn(
        self,
        part: str,
        task: BankTask | CodeTask,
        optimisation: Optimisation,
        fits: tuple[Callable[[AnchorNet, Sequence[Letterbox]], None], ...],
        keep: Callable[[], None],
        constrain: Callable[[], None],
    ) -> None:
        """Learn a part. fits: what is fitted before a score. keep: what is done at the best one."""
        schedule = self.schedule

        def score() -> float:
            assert schedule is not None
            self.fit(*fits, precision=optimisation.precision)
            return schedule.validate(self.network)

        with task.views.load.upcoming:
            train(
                task,
                optimisation,
                self.run.files(part),
                recipe=self.settings,
                resume=self.run.resume,
                on_progress=lambda progress: self.on_progress(part, progress),
                validation=Validation(schedule.every, score, keep) if schedule else None,
                processes=self.processes,
                constrain=constrain,
            )


def _photographs(run: TrainingRun, recipe: AnchorRecipe, crops: InputFile | None) -> Sequence[LabelledImage]:
    """The photographs that banks are learnt from."""
    photographs, _ = hold_out(run.photographs(), recipe.held_out)
    if crops is not None:
        photographs = with_crops(photographs, read_crops(crops))
    return with_known_labels(photographs, recipe.network.classes)


def _initial_trunk(run: TrainingRun, config: AnchorConfig) -> tuple[str, Trunk]:
    """The name and the trunk that training starts from."""
    if not config.trunk.startswith(NAMESPACE):
        return pretrained_trunk(run.only_init())
    file = read_weights_file(run.only_init()) if run.init else None
    state, about = read_tensors(file) if file else ({}, {})
    if file and about.get("format") == FORMAT:
        return pretrained_trunk(file)
    trunk = build_trunk(config.trunk, list(map(parse_stage, config.stages)))
    if file:
        load_pretrained(trunk, state, str(file))
    else:
        fetch_pretrained(trunk)
    return config.trunk, trunk


def _copy_weights(source: Trunk, target: Trunk) -> None:
    """Raises InputError if one trunk has layers that the other lacks."""
    try:
        target.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise InputError("the trunk to start from was built for other stages; give those with --stages") from error


def with_known_labels(photographs: Sequence[LabelledImage], classes: Sequence[str]) -> Sequence[LabelledImage]:
    """The photographs that show one of the classes, and those of the background, which show none.

    Others are left out, since it is not known what they show. Warns of classes with fewer photographs than `FEW`, and
    raises InputError naming those that no photograph shows.
    """
    kept = with_labels(photographs, classes, optional=[BACKGROUND])
    counts = {name: len(group) for name, group in by_label(kept).items()}
    if thin := [f"{name} ({counts[name]})" for name in classes if counts[name] < FEW]:
        warnings.warn(
            f"few photographs of {', '.join(thin)}: their anchors will know little; --classes can leave them out",
            GeomatchWarning,
            stacklevel=2,
        )
    return kept


def _for_code(optimisation: Optimisation, recipe: AnchorRecipe) -> Optimisation:
    """How the code is learnt: as the banks, but for its own steps and learning rate, without warm-up."""
    rate = recipe.code_learning_rate
    return replace(optimisation, steps=recipe.code_steps, epochs=0.0, head_learning_rate=rate, warmup_steps=0)


def _check_memory(recipe: AnchorRecipe, device: torch.device) -> None:
    """Raises InputError if the banks need more memory than there is."""
    needed, memory = recipe.bytes_needed, memory_bytes(device)
    if needed > memory:
        raise InputError(
            f"{len(recipe.network.classes)} classes of {recipe.network.filters} filters need about "
            f"{needed / 2**30:.1f} GiB to learn and there are {memory / 2**30:.1f}: "
            "reduce --batch, --classes or --set filters=K"
        )
