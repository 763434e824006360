"""What is chosen by name: features, matchers, datasets and protocols. Imports nothing heavy.

A name stands for "module:attribute", imported when it is used. One table serves look-up, shell completion, help texts
and error messages; features and matchers of other installed packages are found by their entry points.
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
    """A choice: the object it stands for, as "module:attribute" ("" for a name alone), and a line about it."""

    target: str
    about: str

    def load(self) -> Any:
        """Import the object."""
        module, _, attribute = self.target.partition(":")
        return getattr(import_module(module), attribute)


@dataclass(frozen=True)
class Registry:
    """All choices of one kind, by name.

    kind: what they are, for messages. aliases: old names and what they are called now. group: the entry points under
    which other packages add to them; "" if they cannot.
    """

    kind: str
    entries: Mapping[str, Entry]
    aliases: Mapping[str, str] = field(default_factory=dict)
    group: str = ""

    def names(self) -> list[str]:
        """Every name, geomatch's own first; no code of other packages is run."""
        return [*self.entries, *(plugin_names(self.group) if self.group else ())]

    def canonical(self, name: str) -> str:
        """The name that a choice goes by today. Raises InputError for an unknown name, with names like it."""
        name = self.aliases.get(name, name)
        known = self.names()
        if name not in known:
            near = get_close_matches(name, known, n=1)
            meant = f" (did you mean '{near[0]}'?)" if near else ""
            raise InputError(f"unknown {self.kind} '{name}'{meant}: the known ones are {', '.join(known)}")
        return name

    def load(self, name: str) -> Any:
        """The object that one of geomatch's own names stands for. Raises InputError for an unknown name."""
        return self.entries[self.canonical(name)].load()

    def make(self, name: str, wanted: type[Made], *arguments: object) -> Made:
        """Call what a name stands for, ours or a plug-in, with ``arguments``.

        Raises:
            InputError: for an unknown name.
            GeomatchError: naming the package, if a plug-in fails or makes something that is not ``wanted``.
        """
        name = self.canonical(name)
        if name in self.entries:
            return self.entries[name].load()(*arguments)  # type: ignore[no-any-return]
        return make_plugin(self.kind, self.group, name, wanted, *arguments)


FEATURES = Registry(
    "features",
    {
        "introspection": Entry("geomatch.features.introspection:load", "geometrically stable, with confidence"),
        "anchornet": Entry("geomatch.features.anchornet:load", "anchors; anchornet:CLASS takes one class's alone"),
        "combined": Entry("geomatch.features.combined:load", "both learners; combined:1+0.8 at several sizes"),
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
        "mutual": Entry("geomatch.matching.mutual:MutualNeighbours", "mutual nearest neighbours, the rest filled in"),
        "hough": Entry("geomatch.matching.hough:HoughVoting", "Hough voting on displacements, local"),
        "dsp": Entry("geomatch.matching.spatial_pyramid.spatial_pyramid:SpatialPyramid", "deformable spatial pyramid"),
        "pf-nam": Entry("geomatch.matching.proposal_flow.proposal_flow:NaiveAppearance", "Proposal Flow, appearance"),
        "pf-phm": Entry("geomatch.matching.proposal_flow.proposal_flow:ProbabilisticHough", "Proposal Flow, Hough"),
        "pf-lom": Entry("geomatch.matching.proposal_flow.proposal_flow:LocalOffsets", "Proposal Flow, local offsets"),
        "affine": Entry(
            "geomatch.matching.affine_consistency.affine:AffineConsistency", "affine consistency of neighbours"
        ),
        "fusion": Entry("geomatch.matching.fusion:Fusion", "per cell the most probable of several matchers"),
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
        "geomatch": Entry("", "ours: original pixels, the benchmark's own length"),
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
"""What a protocol means depends on the benchmark: `geomatch.evaluation.protocols.find_protocols` knows."""
