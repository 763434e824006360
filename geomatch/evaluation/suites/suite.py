"""The tables of the two papers: which methods, on which benchmarks, under which score, and what was published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Method:
    """A row that can be computed. parameters: of the matcher, by name, that differ from its defaults."""

    features: str
    matcher: str
    parameters: Mapping[str, object] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.features} + {self.matcher}"


@dataclass(frozen=True)
class Published:
    """A row of a paper: its mean over classes or pairs, as that paper defines it, and the paper."""

    name: str
    value: float
    source: str


@dataclass(frozen=True)
class Bound:
    """The row of what no method with these boxes can exceed: a measure of the rows of a matcher."""

    matcher: str
    measure: str

    @property
    def name(self) -> str:
        return f"upper bound of {self.matcher}"


@dataclass(frozen=True)
class PaperTable:
    """A table, method by class. protocol, alpha: of a PCK; measure: the name of any other score."""

    title: str
    dataset: str
    protocol: str = ""
    alpha: float = 0.0
    measure: str = ""
    published: Sequence[Published] = ()
    bound: Bound | None = None

    @property
    def score(self) -> str:
        """What the numbers are."""
        return self.measure or f"PCK@{self.alpha:.2f}, protocol {self.protocol}"


@dataclass(frozen=True)
class Suite:
    """The tables of a paper, and their rows. about: the paper."""

    about: str
    methods: Sequence[Method]
    tables: Sequence[PaperTable]

    @property
    def datasets(self) -> list[str]:
        """The benchmarks of the tables, each once."""
        return list(dict.fromkeys(table.dataset for table in self.tables))


MATCHERS = ("nn", "dsp", "pf-lom")

PUBLISHED_PARAMETERS: Mapping[tuple[str, str], Mapping[str, object]] = MappingProxyType(
    {
        ("sift", "dsp"): {
            "levels": 3,
            "truncation": 0.98,
            "smoothness": 0.005,
            "smoothness_truncation": 0.25,
            "iterations": 50,
            "cell_reach": 2,
            "cell_weight": 0.05,
        },
        ("hog", "pf-lom"): {
            "appearance": "hog",
            "bins": 8,
            "proposals": "full-selective-search",
            "count": 1000,
            "overlap": 1.0,
            "agreement": 0.0,
            "lattice": 100,
        },
    }
)
"""The constants of the two papers for the features that they use; ours are fitted to learnt features."""

UNTRAINED = "hypercolumn:1+3+4"
"""The hypercolumn that both papers compare with: stages 2, 4 and 5 of ResNet-50, counted from 1, as published."""

NEEDS_WEIGHTS: Mapping[str, str] = MappingProxyType(
    {
        "scnet": "train its weights with `geomatch train scnet`, and give --weights scnet=FILE",
        UNTRAINED: f"give a ResNet-50 as torchvision publishes it, --weights {UNTRAINED}=FILE.pth",
    }
)
"""Features without shipped weights, and how to get these."""

SCNET = tuple(Method("scnet", matcher) for matcher in ("scnet-a", "scnet-ag", "scnet-ag+"))
"""Rows of the supervised rival, for those who have trained its weights."""

_PF16 = "Ham et al., Proposal Flow, CVPR 2016"
_SCNET = "Han et al., SCNet, ICCV 2017"
_CNNGEO = "Rocco et al., CNNGeo, CVPR 2017"

_WILLOW = PaperTable(
    "PF-WILLOW keypoints",
    "pf-willow",
    protocol="pf",
    alpha=0.1,
    published=(
        Published("SIFT + DSP", 0.29, _CNNGEO),
        Published("HOG + LOM", 0.568, _PF16),
        Published("SCNet-A", 0.725, _SCNET),
        Published("SCNet-AG+", 0.704, _SCNET),
    ),
)
_PASCAL = PaperTable(
    "PF-PASCAL keypoints",
    "pf-pascal",
    protocol="scnet",
    alpha=0.1,
    published=(
        Published("HOG + LOM", 0.625, _SCNET),
        Published("SCNet-A", 0.663, _SCNET),
        Published("SCNet-AG", 0.697, _SCNET),
        Published("SCNet-AG+", 0.722, _SCNET),
    ),
)
_PARTS = PaperTable(
    "PASCAL-Part part masks",
    "pascal-parts",
    measure="part IoU",
    published=(
        Published("SIFT + DSP", 0.39, _SCNET),
        Published("HOG + LOM", 0.41, _SCNET),
        Published("FlowWeb", 0.43, _SCNET),
        Published("SCNet-AG+", 0.48, _SCNET),
    ),
)
_PART_KEYPOINTS = PaperTable(
    "PASCAL-Part keypoints",
    "pascal-parts",
    protocol="geomatch",
    alpha=0.05,
    published=(
        Published("SIFT + DSP", 0.17, _SCNET),
        Published("HOG + LOM", 0.17, _SCNET),
        Published("FlowWeb", 0.26, _SCNET),
        Published("SCNet-AG+", 0.18, _SCNET),
    ),
)
_ACROSS = PaperTable("PASCAL-Part across classes", "pascal-parts-across", measure="part IoU")
_PART_MASKS = PaperTable("PASCAL-Part object masks", "pascal-parts", measure="mask IoU")
_REGIONS = PaperTable(
    "PF-PASCAL regions, PCR", "pf-pascal", measure="PCR AuC", bound=Bound("roi-nn", "PCR AuC, upper bound")
)
_RANKED_REGIONS = PaperTable("PF-PASCAL regions, mIoU@k", "pf-pascal", measure="mIoU@k AuC, SCNet")


def _grid(features: Sequence[str]) -> tuple[Method, ...]:
    return tuple(
        Method(name, matcher, PUBLISHED_PARAMETERS.get((name, matcher), {}))
        for name in features
        for matcher in MATCHERS
    )


def suites() -> dict[str, Suite]:
    """The suites by name."""
    learnt = [UNTRAINED, "hypercolumn", "anchornet", "introspection"]
    return {
        "anchornet": Suite(
            "AnchorNet (Novotny, Larlus, Vedaldi, CVPR 2017)",
            (*_grid(["sift", "hog", UNTRAINED, "hypercolumn", "anchornet:auto", "anchornet"]), *SCNET),
            (_PARTS, _PART_KEYPOINTS, _PART_MASKS, _ACROSS, _WILLOW),
        ),
        "introspection": Suite(
            "Probabilistic introspection (Novotny, Albanie, Larlus, Vedaldi, CVPR 2018)",
            (*_grid(["sift", "hog", *learnt]), *(Method(name, "roi-nn") for name in learnt), *SCNET),
            (_PASCAL, _REGIONS, _RANKED_REGIONS, _WILLOW),
        ),
    }


def chosen_methods(suite: Suite, features: Sequence[str], matchers: Sequence[str]) -> list[Method]:
    """The methods of a suite with one of these features and one of these matchers; empty means all."""
    return [
        method
        for method in suite.methods
        if (not features or method.features in features) and (not matchers or method.matcher in matchers)
    ]
