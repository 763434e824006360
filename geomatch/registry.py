"""Features, matchers, datasets and protocols by name. Imports nothing heavy.

A name stands for "module:attribute", which is imported when it is used. The same table serves look-up, shell
completion, help texts and error messages. Other installed packages add features and matchers by entry points.

>>> FEATURES.canonical("joined")
'combined'
>>> MATCHERS.load("nn").__name__
'NearestNeighbours'
>>> MATCHERS.canonical("hugh")  # doctest: +ELLIPSIS
Traceback (most recent call last):
geomatch.errors.InputError: unknown matcher 'hugh' (did you mean 'hough'?): the known ones are nn, mutual, ...
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from typing import Any, TypeVar

from geomatch.errors import InputError
from geomatch.runtime.plugins import make_plugin, plugin_names

Made = TypeVar("Made")


@dataclass(frozen=True)
class Entry:
    """A choice.

    target: the object it stands for, as "module:attribute"; "" if it is only a name. about: one line about it.
    """

    target: str
    about: str

    def load(self) -> Any:
        """Import the object."""
        module, _, attribute = self.target.partition(":")
        return getattr(import_module(module), attribute)


@dataclass(frozen=True)
class Registry:
    """All choices of one kind, by name.

    kind: what they are, for messages. aliases: old names, and the names of today. group: the entry points by which
    other packages add choices; "" if they cannot.
    """

    kind: str
    entries: Mapping[str, Entry]
    aliases: Mapping[str, str] = field(default_factory=dict)
    group: str = ""

    def names(self) -> list[str]:
        """Every name, geomatch's own first. No code of other packages is run."""
        return [*self.entries, *(plugin_names(self.group) if self.group else ())]

    def canonical(self, name: str) -> str:
        """The name of today for a name or an alias. Raises InputError, with a similar name, for an unknown one."""
        name = self.aliases.get(name, name)
        known = self.names()
        if name not in known:
            similar = get_close_matches(name, known, n=1)
            hint = f" (did you mean '{similar[0]}'?)" if similar else ""
            raise InputError(f"unknown {self.kind} '{name}'{hint}: the known ones are {', '.join(known)}")
        return name

    def load(self, name: str) -> Any:
        """Import the object that one of geomatch's own names stands for. Raises InputError for an unknown name."""
        return self.entries[self.canonical(name)].load()

    def make(self, name: str, wanted: type[Made], *arguments: object) -> Made:
        """Call the object that a name stands for, geomatch's own or a plug-in's, with ``arguments``.

        Raises:
            InputError: for an unknown name.
            GeomatchError: naming the package, if a plug-in fails or makes an object that is not a ``wanted``.
        """
        name = self.canonical(name)
        if name in self.entries:
            return self.entries[name].load()(*arguments)  # type: ignore[no-any-return]
        return make_plugin(self.kind, self.group, name, wanted, *arguments)


FEATURES = Registry(
    "features",
    {
        "introspection": Entry("geomatch.features.introspection:load", "stable under warps, with a confidence"),
        "anchornet": Entry(
            "geomatch.features.anchornet:load", "parts of objects; anchornet:CLASS takes one class alone"
        ),
        "combined": Entry(
            "geomatch.features.combined:load", "introspection and anchornet; combined:1+0.8 at two scales"
        ),
        "hypercolumn": Entry("geomatch.features.hypercolumn:load", "stages of the trunk, as hypercolumn:2+3"),
        "sift": Entry("geomatch.features.handcrafted.sift:load", "dense SIFT; needs the extra baselines"),
        "hog": Entry("geomatch.features.handcrafted.hog:load", "dense HOG; needs the extra baselines"),
    },
    aliases={"joined": "combined"},
    group="geomatch.features",
)

MATCHERS = Registry(
    "matcher",
    {
        "nn": Entry("geomatch.matching.nearest:NearestNeighbours", "nearest neighbours"),
        "mutual": Entry(
            "geomatch.matching.mutual:MutualNeighbours", "mutual nearest neighbours, other cells filled in"
        ),
        "hough": Entry("geomatch.matching.hough:HoughVoting", "Hough voting on displacements, local"),
        "dsp": Entry("geomatch.matching.spatial_pyramid.spatial_pyramid:SpatialPyramid", "deformable spatial pyramid"),
        "pf-nam": Entry("geomatch.matching.proposal_flow.proposal_flow:NaiveAppearance", "Proposal Flow, appearance"),
        "pf-phm": Entry("geomatch.matching.proposal_flow.proposal_flow:ProbabilisticHough", "Proposal Flow, Hough"),
        "pf-lom": Entry("geomatch.matching.proposal_flow.proposal_flow:LocalOffsets", "Proposal Flow, local offsets"),
        "affine": Entry(
            "geomatch.matching.affine_consistency.affine:AffineConsistency", "affine consistency of neighbours"
        ),
        "fusion": Entry("geomatch.matching.fusion:Fusion", "the most probable of several matchers at each cell"),
    },
    aliases={"coherence": "affine"},
    group="geomatch.matchers",
)

DATASETS = Registry(
    "dataset",
    {
        "pf-pascal": Entry("geomatch.datasets.benchmarks.pf_pascal:PF_PASCAL", "PF-PASCAL"),
        "pf-willow": Entry("geomatch.datasets.benchmarks.pf_willow:PF_WILLOW", "PF-WILLOW"),
        "spair-71k": Entry("geomatch.datasets.benchmarks.spair:SPAIR_71K", "SPair-71k"),
        "tss": Entry("geomatch.datasets.benchmarks.tss:TSS", "TSS"),
        "caltech-101": Entry("geomatch.datasets.benchmarks.caltech101:CALTECH_101", "Caltech-101"),
        "pascal-parts": Entry("geomatch.datasets.benchmarks.pascal_parts:PASCAL_PARTS", "PASCAL-Part"),
        "animal-parts": Entry("geomatch.datasets.benchmarks.spair:ANIMAL_PARTS", "Animal-Pose pairs"),
        "warps": Entry("geomatch.datasets.benchmarks.known_warps:WARPS", "known warps of your own images"),
    },
)

PROTOCOLS = Registry(
    "protocol",
    {
        "geomatch": Entry("", "geomatch's own: original pixels, the benchmark's own length"),
        "pf": Entry("", "as Proposal Flow evaluates"),
        "scnet": Entry("", "as SCNet evaluates"),
        "hpf": Entry("", "as Hyperpixel Flow evaluates"),
        "dhpf": Entry("", "as Dynamic Hyperpixel Flow evaluates"),
        "cats": Entry("", "as CATs evaluates"),
        "dift": Entry("", "as DIFT evaluates"),
        "geoaware": Entry("", "as GeoAware-SC evaluates"),
        "all": Entry("", "every protocol of the benchmark"),
    },
)
"""A protocol differs from benchmark to benchmark; `geomatch.evaluation.protocols.find_protocols` gives it."""
