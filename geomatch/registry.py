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
from importlib import import_module
from typing import Any, TypeVar

from geomatch.errors import InputError, unknown_name
from geomatch.runtime.plugins import make_plugin, plugin_names

Made = TypeVar("Made")


@dataclass(frozen=True)
class Registry:
    """All choices of one kind, by name.

    kind: what they are, for messages. entries: "module:attribute" by name; "" if a choice is only a name. aliases:
    current names by old names. group: the entry points by which other packages add choices; "" if they cannot.
    """

    kind: str
    entries: Mapping[str, str]
    aliases: Mapping[str, str] = field(default_factory=dict)
    group: str = ""

    def names(self) -> list[str]:
        """Every name, geomatch's own first. No code of other packages is run."""
        return [*self.entries, *(plugin_names(self.group) if self.group else ())]

    def canonical(self, name: str) -> str:
        """The current name for a name or an alias. Raises InputError, with a similar name, for an unknown one."""
        name = self.aliases.get(name, name)
        known = self.names()
        if name not in known:
            raise InputError(unknown_name(self.kind, name, known))
        return name

    def load(self, name: str) -> Any:
        """Import the object that one of geomatch's own names stands for. Raises InputError for an unknown name."""
        module, _, attribute = self.entries[self.canonical(name)].partition(":")
        return getattr(import_module(module), attribute)

    def make(self, name: str, wanted: type[Made], *arguments: object) -> Made:
        """Call the object that a name stands for, geomatch's own or a plug-in's, with ``arguments``.

        Raises:
            InputError: for an unknown name.
            GeomatchError: naming the package, if a plug-in fails or makes an object that is not a ``wanted``.
        """
        name = self.canonical(name)
        if name in self.entries:
            return self.load(name)(*arguments)  # type: ignore[no-any-return]
        return make_plugin(self.kind, self.group, name, wanted, *arguments)


FEATURES = Registry(
    "features",
    {
        "introspection": "geomatch.features.introspection:load",
        "anchornet": "geomatch.features.anchornet:load",
        "combined": "geomatch.features.combined:load",
        "hypercolumn": "geomatch.features.hypercolumn:load",
        "distilled": "geomatch.features.introspection:load_distilled",
        "keypoints": "geomatch.features.introspection:load_keypoints",
        "scnet": "geomatch.features.scnet:load",
        "timm": "geomatch.features.timm:load",
        "sift": "geomatch.features.handcrafted.sift:load",
        "hog": "geomatch.features.handcrafted.hog:load",
    },
    aliases={"joined": "combined"},
    group="geomatch.features",
)

MATCHERS = Registry(
    "matcher",
    {
        "nn": "geomatch.matching.nearest:NearestNeighbours",
        "mutual": "geomatch.matching.mutual:MutualNeighbours",
        "hough": "geomatch.matching.hough:HoughVoting",
        "dsp": "geomatch.matching.spatial_pyramid.spatial_pyramid:SpatialPyramid",
        "pf-nam": "geomatch.matching.proposal_flow.proposal_flow:NaiveAppearance",
        "pf-phm": "geomatch.matching.proposal_flow.proposal_flow:ProbabilisticHough",
        "pf-lom": "geomatch.matching.proposal_flow.proposal_flow:LocalOffsets",
        "roi-nn": "geomatch.matching.proposal_flow.proposal_flow:RegionNeighbours",
        "scnet-a": "geomatch.matching.proposal_flow.scnet:SCNetA",
        "scnet-ag": "geomatch.matching.proposal_flow.scnet:SCNetAG",
        "scnet-ag+": "geomatch.matching.proposal_flow.scnet:SCNetAGPlus",
        "affine": "geomatch.matching.affine_consistency.affine:AffineConsistency",
        "fusion": "geomatch.matching.fusion:Fusion",
    },
    aliases={"coherence": "affine"},
    group="geomatch.matchers",
)

DATASETS = Registry(
    "dataset",
    {
        "pf-pascal": "geomatch.datasets.benchmarks.pf_pascal:PF_PASCAL",
        "pf-willow": "geomatch.datasets.benchmarks.pf_willow:PF_WILLOW",
        "spair-71k": "geomatch.datasets.benchmarks.spair:SPAIR_71K",
        "spair-u": "geomatch.datasets.benchmarks.spair:SPAIR_U",
        "ap-10k": "geomatch.datasets.benchmarks.ap10k:AP_10K_SPECIES",
        "ap-10k-cross-species": "geomatch.datasets.benchmarks.ap10k:AP_10K_FAMILY",
        "ap-10k-cross-family": "geomatch.datasets.benchmarks.ap10k:AP_10K_FAMILIES",
        "cub-200": "geomatch.datasets.benchmarks.cub200:CUB_200",
        "tap-vid-davis": "geomatch.datasets.benchmarks.tapvid_davis:TAP_VID_DAVIS",
        "tss": "geomatch.datasets.benchmarks.tss:TSS",
        "caltech-101": "geomatch.datasets.benchmarks.caltech101:CALTECH_101",
        "pascal-parts": "geomatch.datasets.benchmarks.pascal_part.pascal_parts:PASCAL_PARTS",
        "pascal-parts-across": "geomatch.datasets.benchmarks.pascal_part.pascal_parts:PASCAL_PARTS_ACROSS",
        "animal-parts": "geomatch.datasets.benchmarks.spair:ANIMAL_PARTS",
        "warps": "geomatch.datasets.benchmarks.known_warps:WARPS",
    },
)

PROTOCOLS = Registry(
    "protocol",
    dict.fromkeys(
        ("geomatch", "pf", "scnet", "ncnet", "hpf", "dhpf", "cats", "dift", "geoaware", "asic", "tapvid", "all"), ""
    ),
)
"""A protocol differs from benchmark to benchmark; `geomatch.evaluation.protocols.find_protocols` gives it."""
