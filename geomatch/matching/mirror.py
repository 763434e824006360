"""Whether a pair matches better with its source flipped left to right.

After the adaptive flip of GeoAware-SC (Zhang et al., CVPR 2024), which matches the flipped source, too, and keeps the
match with the smaller distance between descriptors. Ours compares confidence, under a rule that is learnt.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from geomatch.correspondence import Correspondence, FeatureMap, MirrorChoice, RegionMatches
from geomatch.errors import InputError
from geomatch.matching.base import MatchContext
from geomatch.matching.confidence import CueSettings, compute_cues, match_probability
from geomatch.matching.nearest import nearest_partners
from geomatch.options import Mirror


@dataclass(frozen=True)
class MirrorModel:
    """The rule by which ``auto`` decides.

        log-odds = weight gain + prior,    gain = log(f' / f) + log(b' / b)

    f and b are the mean confidences of the nearest neighbours of all source and of all target cells, f' and b' those
    with the flipped source. The constants were fitted by logistic regression on the validation pairs of SPair-71k and
    animal-parts, as ``scripts/fit_mirror.py`` prints them; each pair weighs as much as its PCK changes, because a wrong
    flip loses more than a right one gains.
    """

    weight: float = 3.67
    prior: float = -1.16

    def probability(self, gain: float) -> float:
        """The probability that the pair matches better with the flipped source."""
        return 1 / (1 + math.exp(-(self.weight * gain + self.prior)))


def choose_mirror(
    source: FeatureMap, target: FeatureMap, mirror: Mirror, model: MirrorModel, max_bytes: int
) -> MirrorChoice | None:
    """Whether to flip the source of a pair; None if ``mirror`` is off.

    Args:
        source: with ``mirrored``, unless ``mirror`` is off.
        max_bytes: bound on the memory that comparing nearest neighbours takes.

    Raises:
        InputError: if the features of the flipped source are missing.
        OutOfMemoryError: if ``max_bytes`` cannot hold a row of scores.
    """
    if mirror is Mirror.off:
        return None
    if source.mirrored is None:
        raise InputError(
            f"mirror {mirror}: the features of the source lack those of the flipped image; extract them with a "
            "pipeline that has the same mirror"
        )
    if mirror is Mirror.on:
        return MirrorChoice(mirrored=True)
    probability = model.probability(mirror_gain(source, target, max_bytes))
    return MirrorChoice(probability > 0.5, probability)


def matched_source(source: FeatureMap, choice: MirrorChoice | None) -> FeatureMap:
    """The features that a source was matched by, in the frame of the image as given."""
    return source.mirrored.flipped() if choice and choice.mirrored and source.mirrored else source


def flip_source(found: Correspondence, choice: MirrorChoice | None) -> Correspondence:
    """A correspondence in the frame of the images as given: x of a source that was flipped becomes W - 1 - x."""
    if choice is None or not choice.mirrored:
        return replace(found, mirror=choice)
    x, y = found.flow.flip(-1)
    regions = found.regions
    return replace(
        found,
        flow=torch.stack((x + _way_across(found.source_size[1], found), y)),
        confidence=found.confidence.flip(-1),
        valid=found.valid.flip(-1),
        regions=regions and replace(regions, source=_flip_boxes(regions.source, found.source_size[1])),
        mirror=choice,
        source_mask=None if found.source_mask is None else found.source_mask.flip(-1),
    )


def flip_target(found: Correspondence, choice: MirrorChoice | None) -> Correspondence:
    """`flip_source` of the correspondence from the target to the source that was flipped."""
    if choice is None or not choice.mirrored:
        return replace(found, mirror=choice)
    x, y = found.flow
    regions = found.regions
    return replace(
        found,
        flow=torch.stack((_way_across(found.target_size[1], found) - x, y)),
        regions=regions and _with_flipped_target(regions, found.target_size[1]),
        mirror=choice,
        target_mask=None if found.target_mask is None else found.target_mask.flip(-1),
    )


def _way_across(width: int, found: Correspondence) -> Tensor:
    """For each column x of the source, width - 1 - 2 x: from x to where a flip of ``width`` pixels takes it."""
    return width - 1 - 2 * torch.arange(found.source_size[1], device=found.flow.device)


def _with_flipped_target(regions: RegionMatches, width: int) -> RegionMatches:
    candidates = None if regions.candidates is None else _flip_boxes(regions.candidates, width)
    return replace(regions, target=_flip_boxes(regions.target, width), candidates=candidates)


def _flip_boxes(boxes: Tensor, width: int) -> Tensor:
    """Boxes (R, 4) of an image ``width`` pixels wide after it is flipped left to right."""
    left, top, right, bottom = boxes.unbind(dim=1)
    return torch.stack((width - 1 - right, top, width - 1 - left, bottom), dim=1)


def mirror_gain(source: FeatureMap, target: FeatureMap, max_bytes: int) -> float:
    """How much more confident nearest neighbours are with the flipped source; see `MirrorModel`."""
    assert source.mirrored is not None, "the caller checks it"
    means = [_mean_confidence(MatchContext(each, target, max_bytes)) for each in (source.mirrored, source)]
    flipped, plain = torch.stack(means).tolist()  # at once, since a GPU waits for every number that is read
    return sum(math.log(mean + 1e-12) for mean in flipped) - sum(math.log(mean + 1e-12) for mean in plain)


def _mean_confidence(context: MatchContext) -> Tensor:
    """The mean confidence of nearest neighbours, there and back: (2,) float64."""
    partners = nearest_partners(context)
    means = []
    for each, cells in ((context, partners.forward), (context.reversed, partners.backward)):
        points = each.target.grid.centres(cells.device)[cells]
        cues = compute_cues(each, points, CueSettings(), each.similarity)
        means.append(match_probability(cues, each.source.calibration.alone).double().mean())
    return torch.stack(means)
