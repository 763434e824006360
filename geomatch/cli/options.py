"""Options that several commands share, and how their values are read."""

from __future__ import annotations

import functools
import inspect
import math
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from geomatch.errors import GeomatchWarning, InputError
from geomatch.options import PRESETS, Device, EngineName, Mirror, Precision, Preset, Refine, Zoom
from geomatch.registry import FEATURES, MATCHERS, Registry

if TYPE_CHECKING:
    from geomatch.pipeline import Pipeline
    from geomatch.runtime.engines.engine import Engine, Once

_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def parse_size(text: str) -> int:
    """The bytes that ``--max-memory`` stands for: 512MiB, 2GiB, 1.5g or 1000000. Raises InputError."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", text.lower())
    size = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 1 <= size < math.inf:
        raise InputError(f"--max-memory {text}: not a size; write it as 512MiB or 2GiB")
    return int(size)


def parse_assignments(texts: Sequence[str]) -> dict[str, str]:
    """The values by name that ``--set NAME=VALUE`` gave. Raises InputError."""
    given = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not (name and sign and value):
            raise InputError(f"--set {text}: write it as NAME=VALUE")
        given[name] = value
    return given


def names_in(registry: Registry) -> Callable[[str], list[str]]:
    """Completes a name of a registry, in the shell."""
    return lambda incomplete: [name for name in registry.names() if name.startswith(incomplete)]


MATCHING, PERFORMANCE, OUTPUT = "Matching", "Performance", "Output"
"""Headings of the options in the help."""

PresetChoice = Annotated[
    Preset,
    typer.Option(
        metavar="NAME", help="fast, default or precise: the more precise, the slower.", rich_help_panel=MATCHING
    ),
]
Features = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        autocompletion=names_in(FEATURES),
        help=f"{', '.join(FEATURES.entries)}; anchornet:cat and timm:resnet50@3 have an argument.",
        rich_help_panel=MATCHING,
    ),
]
MatcherName = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        autocompletion=names_in(MATCHERS),
        help=f"{', '.join(MATCHERS.entries)}.",
        rich_help_panel=MATCHING,
    ),
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=VALUE", help="A parameter of the matcher; repeatable.", rich_help_panel=MATCHING
    ),
]
WeightsFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Weights instead of the shipped ones; .pth for hypercolumn and timm.",
        rich_help_panel=MATCHING,
    ),
]
MinConfidence = Annotated[
    float,
    typer.Option(
        min=0, max=1, metavar="P", help="Confidence that a match needs to be valid.", rich_help_panel=MATCHING
    ),
]
MirrorMode = Annotated[
    Mirror,
    typer.Option(
        help="Flip sources left to right; auto decides for each pair.",
        rich_help_panel=MATCHING,
    ),
]
RefineChoice = Annotated[
    Refine | None,
    typer.Option(
        help="Search again on a finer map, if both show one object.",
        rich_help_panel=MATCHING,
    ),
]
ZoomChoice = Annotated[Zoom | None, typer.Option(help="Look again, closer, at the object.", rich_help_panel=MATCHING)]
DeviceChoice = Annotated[Device, typer.Option(help="Where to compute.", rich_help_panel=PERFORMANCE)]
PrecisionChoice = Annotated[
    Precision,
    typer.Option(
        help="Arithmetic of the networks; auto: bfloat16 where the hardware has it natively.",
        rich_help_panel=PERFORMANCE,
    ),
]
MaxMemory = Annotated[
    str,
    typer.Option(
        metavar="SIZE", help="Memory the matcher may work in, as 512MiB or 2GiB.", rich_help_panel=PERFORMANCE
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Images in one pass; default 8 on cuda, else 1.",
        rich_help_panel=PERFORMANCE,
    ),
]
CacheFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder that stores features for later runs, in half precision.",
        rich_help_panel=PERFORMANCE,
    ),
]
EngineChoice = Annotated[
    EngineName, typer.Option(help="By default this process.", rich_help_panel=PERFORMANCE, show_default=False)
]
Address = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Of Ray; by default this machine.", rich_help_panel=PERFORMANCE),
]
SourceMask = Annotated[
    str | None,
    typer.Option(
        metavar="MASK",
        help="Match only this part of SOURCE: a mask image, or a box X,Y,W,H.",
        rich_help_panel=MATCHING,
    ),
]
TargetMask = Annotated[
    str | None,
    typer.Option(metavar="MASK", help="The same of TARGET.", rich_help_panel=MATCHING),
]
DatasetFolder = Annotated[
    Path | None,
    typer.Option("--root", metavar="DIR", help="Folder of the dataset; by default $GEOMATCH_DATA/NAME or ./data/NAME."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Write over what exists.", rich_help_panel=OUTPUT)]


def _silence_notes(quiet: bool) -> bool:
    if quiet:
        warnings.simplefilter("ignore", GeomatchWarning)
    return quiet


Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet",
        "-q",
        callback=_silence_notes,
        help="Print data and errors alone.",
        rich_help_panel=OUTPUT,
    ),
]
NullNames = Annotated[bool, typer.Option("--null", "-0", help="Names on stdin end in NUL, as find -print0's.")]


@dataclass(frozen=True)
class PipelineOptions:
    """The options of a pipeline, shared by the commands that match images; see `pipeline_options`.

    refine, zoom: None is the preset's choice.
    """

    preset: PresetChoice = Preset.default
    features: Features = None
    matcher: MatcherName = None
    parameters: Parameters = None
    weights: WeightsFile = None
    mirror: MirrorMode = Mirror.off
    min_confidence: MinConfidence = 0.0
    refine: RefineChoice = None
    zoom: ZoomChoice = None
    device: DeviceChoice = Device.auto
    precision: PrecisionChoice = Precision.auto
    max_memory: MaxMemory = "2GiB"
    batch: BatchSize = None
    cache: CacheFolder = None

    def build(self, parameters: Mapping[str, object] | None = None) -> Pipeline:
        """Load the pipeline. parameters: of the matcher, by default those of ``--set``. Raises GeomatchError."""
        from geomatch.pipeline import Pipeline

        typed = self._typed_parameters() if parameters is None else parameters
        options = vars(self) | {"parameters": typed, "max_memory": parse_size(self.max_memory)}
        mirror = options.pop("mirror")
        return Pipeline(**options).with_mirror(mirror)

    def builder(self, engine: Engine) -> Once[Pipeline]:
        """Makes the pipeline once a process; it remembers features where a process gets one chunk after the other."""
        from geomatch.runtime.engines.engine import Once

        return Once(self._build_remembering if engine.remote else self.build)

    def _build_remembering(self) -> Pipeline:
        pipeline = self.build()
        remember_features(pipeline)
        return pipeline

    def _typed_parameters(self) -> dict[str, object]:
        """The values of ``--set``, of the types of the matcher's parameters."""
        if not self.parameters:
            return {}
        assignments = parse_assignments(self.parameters)
        from geomatch.matching.load import parse_matcher_parameters

        return parse_matcher_parameters(self.matcher or PRESETS[self.preset].matcher, assignments)

    def check(self) -> None:
        """Raise InputError for an option that cannot be read, before any work."""
        parse_size(self.max_memory)
        parse_assignments(self.parameters or ())


def remember_features(pipeline: Pipeline) -> None:
    """Let a pipeline keep the features of the images that it extracted last."""
    from geomatch.features.caches.recent import RecentFeatures

    pipeline.extractor = RecentFeatures(pipeline.extractor)


@dataclass(frozen=True)
class EngineOptions:
    """The options that say who does the work on a list; see `engine_options`."""

    engine: EngineChoice = EngineName.local
    address: Address = None

    def open(self, device: Device) -> Engine:
        """The engine. device: where the work computes. Raises InputError for options that do not go together."""
        from geomatch.runtime.engines.engine import open_engine

        return open_engine(self.engine, self.address, device)


DEFAULTS = PipelineOptions()
THIS_PROCESS = EngineOptions()


def pipeline_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of these names in place of its parameter ``pipeline: PipelineOptions``.

    A command without ``zoom`` looks at images as a whole.
    """
    options = {name: parameter for name, parameter in parameters_of(PipelineOptions).items() if name in names}
    make = PipelineOptions if "zoom" in names else functools.partial(PipelineOptions, zoom=Zoom.off)
    return lambda command: replace_parameter(command, "pipeline", options, make)


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``--engine`` and ``--address`` in place of its parameter ``engine: EngineOptions``."""
    return replace_parameter(command, "engine", parameters_of(EngineOptions), EngineOptions)


def replace_parameter(
    command: Callable[..., None], name: str, options: Mapping[str, inspect.Parameter], make: Callable[..., object]
) -> Callable[..., None]:
    """The command with ``options`` in place of its parameter ``name``; ``make`` turns their values into its value."""
    parameters: list[inspect.Parameter] = []
    for each, parameter in parameters_of(command).items():
        parameters += options.values() if each == name else [parameter]

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        values = {option: given.pop(option) for option in options}
        command(**given, **{name: make(**values)})

    del with_options.__wrapped__
    with_options.__annotations__ = {}
    with_options.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    return with_options


def parameters_of(function: Callable[..., object]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a function by name, their annotations evaluated."""
    return inspect.signature(function, eval_str=True).parameters
