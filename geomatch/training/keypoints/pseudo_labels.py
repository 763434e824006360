"""Confident matches between photographs, which stand in for keypoints: pseudo-labels.

Descriptors learn from a matcher that asks for agreement among neighbours, where it is confident, so that each comes to
say alone what took its neighbours to say. No label is read. DIY-SC (Duenkel et al., 2025, arXiv 2506.05312) learns
semantic correspondence from pseudo-labels, too, from chains of matches over views of known poses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from geomatch.annotations import Points
from geomatch.correspondence import Correspondence, FeatureMap
from geomatch.datasets.image_folder import ImageReader
from geomatch.datasets.image_list import LabelledImage
from geomatch.datasets.keypoint_pairs import KeypointPair, KeypointView
from geomatch.errors import InputError
from geomatch.features.weights import read_tensors
from geomatch.io.atomic import write_atomically
from geomatch.io.inputs import read_input
from geomatch.parameters import check_limits
from geomatch.runtime.launcher import process_number


@dataclass(frozen=True)
class PseudoLabelRecipe:
    """Between which photographs matches are found, and which of them are learnt from.

    photographs: drawn in blocks of ``block``. partners: those of its block that a photograph is matched with, the ones
    whose mean descriptors are most like its own. places: along a photograph's longer side that are matched.
    least_confidence: of a match that is kept. least_matches: that a pair must have; most_matches: learnt from at once.
    """

    photographs: int = 800
    block: int = 100
    partners: int = 3
    places: int = 40
    least_confidence: float = 0.5
    least_matches: int = 16
    most_matches: int = 48

    def __post_init__(self) -> None:
        """Raises InputError for a value beyond its limits."""
        owner = "training from matches"
        check_limits(self, owner, "photographs block", 2)
        check_limits(self, owner, "partners places least_matches most_matches", 1)
        check_limits(self, owner, "least_confidence", 0, 1)


class PhotographMatcher(Protocol):
    """What finds the matches; a `Pipeline` does."""

    def extract(self, image: Tensor, /) -> FeatureMap: ...
    def match(self, source: FeatureMap, target: FeatureMap, /) -> Correspondence: ...


@dataclass(frozen=True)
class MatchedPair:
    """Two photographs and matches between them.

    points: (2, K, 2) float32, in pixels of the photographs. confidence: (K,) float32.
    """

    first: LabelledImage
    second: LabelledImage
    points: Points
    confidence: Points


class MatchedPairs:
    """Draws matched pairs to learn from, with up to ``most_matches``, confident ones more often.

    As matches have no names, both photographs are mirrored or neither.
    """

    def __init__(self, pairs: Sequence[MatchedPair], recipe: PseudoLabelRecipe) -> None:
        """Raises InputError if no pair has enough matches."""
        self.pairs = [pair for pair in pairs if len(pair.confidence) >= recipe.least_matches]
        if not self.pairs:
            raise InputError(
                f"no two photographs have {recipe.least_matches} matches of confidence {recipe.least_confidence:g} or "
                "more: lower --set least_confidence, or give more photographs that show the same kinds of object"
            )
        self.most = recipe.most_matches
        self.photographs = len({each for pair in self.pairs for each in (pair.first, pair.second)})

    def draw(self, random: np.random.Generator) -> KeypointPair:
        pair = self.pairs[random.integers(len(self.pairs))]
        weights = pair.confidence.astype(np.float64)
        count = min(self.most, len(weights))
        chosen = random.choice(len(weights), count, replace=False, p=weights / weights.sum())
        mirrored, turned = (bool(flip) for flip in random.random(2) < 0.5)
        points = pair.points[:, chosen].astype(np.float64)
        first = KeypointView(pair.first, points[0], mirrored=mirrored)
        second = KeypointView(pair.second, points[1], mirrored=mirrored)
        return KeypointPair(second, first) if turned else KeypointPair(first, second)


@dataclass(frozen=True)
class PseudoLabeller:
    """Matches blocks of photographs, and keeps the matches in ``file``, so that a stopped run goes on where it was.

    settings: what the matches depend on besides. A file that was made with others, or is damaged, is as none. Of
    several processes the first writes it.
    """

    photographs: Sequence[LabelledImage]
    recipe: PseudoLabelRecipe
    seed: int
    file: Path
    settings: object
    reader: ImageReader

    @property
    def blocks(self) -> int:
        drawn = min(self.recipe.photographs, len(self.photographs))
        return max(1, drawn // self.recipe.block)

    def find(self, matcher: Callable[[], PhotographMatcher], on_block: Callable[[int, int], None]) -> list[MatchedPair]:
        """The matches of all blocks, those in the file included.

        Args:
            matcher: made if there is anything to match.
            on_block: called after each block with the number of blocks and of pairs so far.

        Raises:
            InputError: if too many photographs are damaged, or the file cannot be written.
        """
        blocks = self._read() if self.file.is_file() else []
        order = np.random.default_rng((self.seed, 0, 4)).permutation(len(self.photographs))
        size = self.recipe.block
        made = cache(matcher)
        for number in range(len(blocks), self.blocks):
            blocks.append(self._match(order[number * size : (number + 1) * size], made()))
            if process_number()[0] == 0:
                write_atomically(self.file, self._encoded(blocks))
            on_block(number + 1, sum(map(len, blocks)))
        return [pair for block in blocks for pair in block]

    def _match(self, indices: np.ndarray, matcher: PhotographMatcher) -> list[MatchedPair]:
        photographs = [self.photographs[int(index)] for index in indices]
        features: list[tuple[LabelledImage, FeatureMap]] = []
        for photograph in photographs:
            try:
                features.append((photograph, matcher.extract(photograph.load())))
            except InputError as error:
                self.reader.record({photograph.name: error})
        return [
            self._pair(features[first], features[second], matcher)
            for first, second in most_alike([each for _, each in features], self.recipe.partners)
        ]

    def _pair(
        self,
        first: tuple[LabelledImage, FeatureMap],
        second: tuple[LabelledImage, FeatureMap],
        matcher: PhotographMatcher,
    ) -> MatchedPair:
        found = matcher.match(first[1], second[1])
        here, there, confidence = confident_matches(found, self.recipe)
        return MatchedPair(first[0], second[0], np.stack((here, there)), confidence)

    def _about(self) -> dict[str, object]:
        names = [each.name for each in self.photographs[:: max(1, len(self.photographs) // 50)]]
        return {"photographs": names, "recipe": asdict(self.recipe), "seed": self.seed, "settings": self.settings}

    def _encoded(self, blocks: Sequence[Sequence[MatchedPair]]) -> bytes:
        pairs = [pair for block in blocks for pair in block]
        places = {photograph: index for index, photograph in enumerate(self.photographs)}
        tensors = {
            "block": torch.tensor([number for number, block in enumerate(blocks) for _ in block]),
            "pair": torch.tensor([[places[pair.first], places[pair.second]] for pair in pairs]).reshape(-1, 2),
            "count": torch.tensor([len(pair.confidence) for pair in pairs]),
            "points": torch.cat([torch.from_numpy(pair.points) for pair in pairs], dim=1) if pairs else torch.zeros(0),
            "confidence": torch.cat([torch.from_numpy(pair.confidence) for pair in pairs]) if pairs else torch.zeros(0),
        }
        return save(tensors, {"geomatch": json.dumps({"blocks": len(blocks), **self._about()}, sort_keys=True)})

    def _read(self) -> list[list[MatchedPair]]:
        try:
            tensors, about = read_tensors(read_input(self.file))
            blocks: list[list[MatchedPair]] = [[] for _ in range(int(about.pop("blocks")))]
            ends = tensors["count"].cumsum(0).tolist()
            starts = [0, *ends[:-1]]
            for number, (first, second), start, end in zip(
                tensors["block"].tolist(), tensors["pair"].tolist(), starts, ends, strict=True
            ):
                points, confidence = tensors["points"][:, start:end], tensors["confidence"][start:end]
                photographs = self.photographs[first], self.photographs[second]
                blocks[number].append(MatchedPair(*photographs, points.numpy(), confidence.numpy()))
        except (InputError, LookupError, TypeError, ValueError):
            return []
        return blocks if about == json.loads(json.dumps(self._about())) else []


def most_alike(features: Sequence[FeatureMap], partners: int) -> Iterator[tuple[int, int]]:
    """For each of several images the ``partners`` others whose mean descriptors are most like its own, as (i, j)."""
    if not features:  # all photographs of a block may be damaged
        return iter(())
    means = torch.stack([F.normalize(each.descriptors.flatten(1).mean(dim=1), dim=0) for each in features])
    similarity = (means @ means.mT).fill_diagonal_(-torch.inf)
    order = similarity.argsort(dim=1, descending=True, stable=True)[:, : min(partners, len(features) - 1)]
    return ((first, second) for first, row in enumerate(order.tolist()) for second in row)


def confident_matches(found: Correspondence, recipe: PseudoLabelRecipe) -> tuple[Points, Points, Points]:
    """Matches at evenly spaced places of the source: (K, 2) of it, (K, 2) of the target, and (K,) their confidence."""
    height, width = found.source_size
    spacing = max(height, width) / recipe.places
    rows, columns = (torch.arange(spacing / 2 - 0.5, side - 0.5, spacing).round().long() for side in (height, width))
    y, x = (each.flatten() for each in torch.meshgrid(rows, columns, indexing="ij"))
    confidence = found.confidence.cpu()[y, x]
    kept = found.valid.cpu()[y, x] & (confidence >= recipe.least_confidence)
    here = torch.stack((x[kept], y[kept]), dim=1).float()
    there = here + found.flow.cpu()[:, y[kept], x[kept]].mT
    return here.numpy(), there.float().numpy(), confidence[kept].float().numpy()
