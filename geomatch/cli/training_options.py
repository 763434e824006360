"""Options that the training commands share, and the settings that ``--set`` takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_args

import typer

from geomatch.cli.console import notify
from geomatch.cli.options import DeviceChoice, Overwrite, Quiet, parameters_of, parse_assignments, replace_parameter
from geomatch.errors import InputError
from geomatch.options import Device, Precision, Recipe

if TYPE_CHECKING:
    from geomatch.datasets.pairs import PairDataset
    from geomatch.features.anchornet import AnchorNet
    from geomatch.features.introspection import IntrospectionNet
    from geomatch.training.anchornet.recipe import AnchorRecipe
    from geomatch.training.introspection.recipe import IntrospectionRecipe
    from geomatch.training.keypoints.recipe import KeypointRecipe
    from geomatch.training.scnet.recipe import SCNetRecipe
    from geomatch.training.trainer import Optimisation, TrainingRun

    AnyRecipe = TypeVar("AnyRecipe", IntrospectionRecipe, AnchorRecipe, KeypointRecipe, SCNetRecipe)


def of_preset(about: str, **more: Any) -> Any:
    """An option that changes a value of the preset."""
    return typer.Option(help=about, show_default="the preset's", **more)


@dataclass(frozen=True)
class TrainingOptions:
    """The values of the options that training commands have. settings: texts NAME=VALUE."""

    data: Annotated[
        list[Path],
        typer.Option(metavar="PATH", help="Folder of photographs, folder of .tar shards, or one shard; repeatable."),
    ]
    out: Annotated[Path, typer.Option(metavar="FILE", help="Weights file to write (safetensors).")]
    init: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Pretrained trunk to start from (safetensors, .pth), once for each part of it; or geomatch's weights. "
            "Without it, timm's own weights of --set trunk=timm:NAME.",
        ),
    ] = None
    preset: Annotated[
        Recipe, typer.Option(help="Settings of the shipped weights, or of the paper; options change them.")
    ] = Recipe.shipped
    classes: Annotated[
        str | None,
        of_preset(
            "Labels to learn from, separated by commas or one on each line of a file; rigid: the paper's 12; "
            "voc20: VOC's; all: no selection.",
            metavar="NAMES|FILE",
        ),
    ] = None
    crops: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Table of `geomatch crops`: learn only from the boxes in it.")
    ] = None
    stages: Annotated[
        str | None, of_preset("Stages of the trunk to read, separated by commas, as 1,3,4.", metavar="NAMES")
    ] = None
    steps: Annotated[int | None, of_preset("Steps to train for; for anchornet, those of the banks.", min=1)] = None
    epochs: Annotated[
        float | None, of_preset("Train for as many photographs as so many times all there are; instead of --steps.")
    ] = None
    batch: Annotated[int | None, of_preset("Photographs a batch; each gives two views.", min=1)] = None
    accumulate: Annotated[
        int | None, of_preset("Batches whose gradients make one step; divided among torchrun's processes.", min=1)
    ] = None
    size: Annotated[int | None, of_preset("Side of the square views, in pixels.", min=64)] = None
    val: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="Benchmark to validate on (split val, or the only one); repeatable."),
    ] = None
    val_every: Annotated[int, typer.Option(min=1, help="Steps between validations.")] = 400
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 0
    precision: Annotated[Precision, typer.Option(help="Arithmetic of the network.")] = Precision.auto
    device: DeviceChoice = Device.auto
    checkpoint_every: Annotated[float, typer.Option(min=0, help="Minutes between checkpoints.")] = 5.0
    max_unreadable: Annotated[
        float, typer.Option(min=0, max=1, help="Share of photographs that may be damaged; they are named in the log.")
    ] = 0.01
    resume: Annotated[bool, typer.Option("--resume", help="Continue from OUT's checkpoint.")] = False
    overwrite: Overwrite = False
    quiet: Quiet = False
    settings: list[str] | None = None

    def run(self) -> TrainingRun:
        from geomatch.training.trainer import TrainingRun

        return TrainingRun(
            self.data, self.init or [], self.out, self.device, self.resume, self.max_unreadable, self.overwrite
        )

    def validation(self) -> Callable[[IntrospectionNet | AnchorNet], float] | None:
        """What scores a network on the benchmarks of ``--val``; None without any. Raises InputError."""
        from geomatch.evaluation.validation import validation_score

        benchmarks = [_validation_pairs(text) for text in self.val or ()]
        return (lambda network: validation_score(network, benchmarks)) if benchmarks else None

    def recipe(
        self, recipes: Mapping[Recipe, tuple[AnyRecipe, Optimisation]], **more: object
    ) -> tuple[AnyRecipe, Optimisation]:
        """The preset's recipe and optimisation with the values that were given, and ``more``. Raises InputError."""
        from geomatch.datasets.pascal_ilsvrc import named_classes
        from geomatch.training.recipes import with_settings

        if self.steps and self.epochs:
            raise InputError("--steps and --epochs both say how long to train: give one of them")
        if self.epochs is not None and not self.epochs > 0:
            raise InputError(f"--epochs {self.epochs:g}: should be more than 0")
        settings = parse_assignments(self.settings or ())
        given = self.steps or any(name.rpartition(".")[2] == "steps" for name in settings)
        epochs = 0.0 if given else self.epochs
        stages = None if self.stages is None else tuple(name.strip() for name in self.stages.split(","))
        if stages is not None and not all(stages):
            raise InputError(f"--stages '{self.stages}': write stages separated by commas, as 1,3,4")
        return with_settings(
            *recipes[self.preset],
            settings,
            classes=None if self.classes is None else named_classes(self.classes),
            stages=stages,
            steps=self.steps,
            epochs=epochs,
            batch_size=self.batch,
            batches_per_step=self.accumulate,
            view_size=self.size,
            seed=self.seed,
            precision=self.precision,
            checkpoint_minutes=self.checkpoint_every,
            **more,
        )

    @contextmanager
    def resumable(self, part: str = "") -> Iterator[None]:
        """Mention ``--resume`` if the training inside is interrupted and the checkpoint of ``part`` exists."""
        try:
            yield
        except KeyboardInterrupt:
            checkpoint = self.run().files(part).checkpoint
            if checkpoint.is_file():
                notify(f"interrupted; --resume goes on from {checkpoint}")
            raise


@dataclass(frozen=True)
class SettingNames:
    """The settings that a training command takes by ``--set``: those without an option of their own.

    names: fields of the recipe, its parts and the optimisation, separated by spaces. old: hidden options of version 0.1
    that still work, as OPTION:SETTING, or OPTION if both have one name. about: help of options that mean something else
    here. absent: shared options that the command does not have.
    """

    names: str
    old: str = ""
    about: Mapping[str, str] = field(default_factory=dict)
    absent: tuple[str, ...] = ()

    @property
    def old_options(self) -> dict[str, str]:
        """The settings by the names of the old options, both with underscores."""
        parts = (each.partition(":") for each in self.old.split())
        return {option: setting or option for option, _, setting in parts}


_SHARED = (
    "ema_decay wise_ft_alpha warmup_steps trunk_learning_rate head_learning_rate weight_decay max_gradient_norm "
    "smallest_view largest_view rotation_degrees aspect shear perspective translation "
    "brightness contrast saturation tint shading grey_probability"
)
INTROSPECTION = SettingNames(
    names="trunk descriptor_size context sigma_floor sigma_ceiling batches similarity_weight similarity_cells "
    "teacher_size teacher_shares teacher_weight classifier_block transformer_stages " + _SHARED,
    old="trunk stage:stages descriptor_size batches warm_up:warmup_steps average:ema_decay share_kept:wise_ft_alpha "
    "trunk_rate:trunk_learning_rate head_rate:head_learning_rate keep_similarity:similarity_weight",
)
ANCHORNET = SettingNames(
    names="trunk tap_size stride filters code_size mean_share dilated centre_descriptors discriminability auxiliary "
    "filter_diversity response_diversity max_filter_norm dropout code_steps code_learning_rate held_out "
    "example_size " + _SHARED,
    old="trunk filters code_size mean_share tap_size stride form:discriminability auxiliary filter_diversity "
    "response_diversity code_steps held_out rate:head_learning_rate trunk_rate:trunk_learning_rate",
)
_HEADS = (
    "context column_size contrastive_weight temperature spread hardest "
    "positive_radius negative_radius similarity_weight similarity_cells similarity_views "
    "photographs block partners places least_confidence least_matches most_matches " + _SHARED
)
KEYPOINTS = SettingNames(
    names="left_out across least_shared " + _HEADS,
    about={
        "data": "COCO file with keypoints, or folder of SPair-71k or PF-PASCAL with pairs for training; repeatable.",
        "init": "Weights of introspection, keypoints or distilled to start from (safetensors).",
        "classes": "Categories to learn from, separated by commas or one on each line of a file.",
        "batch": "Pairs a batch; each gives a view of both photographs.",
    },
    absent=("preset", "crops", "stages", "epochs"),
)

DISTILLED = SettingNames(
    names=_HEADS,
    about={name: KEYPOINTS.about[name] for name in ("init", "batch")},
    absent=(*KEYPOINTS.absent, "classes"),
)

SCNET = SettingNames(
    names="variant trunk bins embedding_size left_out across least_shared boxes positive_overlap "
    "negative_overlap margin " + _SHARED,
    about={
        **KEYPOINTS.about,
        "init": "Weights of introspection, keypoints, distilled or scnet to start from (safetensors), or a pretrained "
        "trunk, once for each part of it.",
    },
    absent=("crops", "epochs"),
)


def training_options(settings: SettingNames) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `TrainingOptions`, and the old ones, in place of its parameter ``training``."""
    about = f"Another setting; repeatable. One of {', '.join(settings.names.split())}."
    options = {name: each for name, each in parameters_of(TrainingOptions).items() if name not in settings.absent}
    for name, text in settings.about.items():
        kind, option = get_args(options[name].annotation)
        changed = copy(option)
        changed.help = text
        options[name] = options[name].replace(annotation=Annotated[kind, changed])
    texts = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help=about)]
    options["settings"] = options["settings"].replace(annotation=texts)
    hidden = Annotated[str | None, typer.Option(hidden=True)]
    for old in settings.old_options:
        options[old] = inspect.Parameter(old, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hidden)

    def make(**given: Any) -> TrainingOptions:
        old = {setting: given.pop(option) for option, setting in settings.old_options.items()}
        texts = [f"{setting}={text}" for setting, text in old.items() if text is not None]
        return TrainingOptions(**given | {"settings": [*texts, *(given["settings"] or ())]})

    return lambda command: replace_parameter(command, "training", options, make)


def _validation_pairs(text: str) -> PairDataset:
    from geomatch.datasets.load import choose_split, find_benchmark, find_root, load_dataset

    name, given, folder = text.partition("=")
    if not given or not folder:
        raise InputError(f"--val {text}: write NAME=DIR, as spair-71k=SPair-71k")
    benchmark = find_benchmark(name)
    root = find_root(benchmark, Path(folder))
    split = "val" if "val" in benchmark.splits(root) else choose_split(benchmark, root, None)
    return load_dataset(name, root, split=split)
