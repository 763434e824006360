"""The pictures of example pairs, embedded in the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from geomatch.evaluation.report.wording import ALPHA, counted, selection_label
from geomatch.evaluation.results import Evaluation, alpha_text
from geomatch.visualize.markup import Markup, element, joined
from geomatch.visualize.page import data_uri

_WEIGHT = 1_800_000
"""The bytes of all pictures of a page; encoded as text they take a third more."""
_WEIGHT_OF_ONE = 220_000


@dataclass(frozen=True)
class PairPicture:
    """An example pair.

    rank: "best", "median" or "worst" among the pairs of an evaluation.
    correct: the number of correct points, of ``points``, at threshold ``alpha`` if given.
    """

    rank: str
    source: str
    target: str
    category: str
    correct: int
    points: int
    picture: Image.Image
    alpha: float | None = None


def picture_section(evaluations: Sequence[Evaluation], pictures: Sequence[Sequence[PairPicture]]) -> Markup:
    """The example pairs of each evaluation; empty if there are none."""
    count = sum(map(len, pictures))
    if count == 0:
        return Markup()
    limit = min(_WEIGHT_OF_ONE, _WEIGHT // count)
    return joined(
        _LEAD,
        *(
            joined(
                element("h3", selection_label(evaluation, place)),
                element("div", *(_figure(pair, limit) for pair in chosen), class_="pairs"),
            )
            for place, (evaluation, chosen) in enumerate(zip(evaluations, pictures, strict=True))
            if chosen
        ),
    )


_LEAD = element(
    "p",
    "Source on the left, target on the right. A dot is the predicted position of a point, the ring of the same colour "
    "its true position; the line between them is ",
    element("span", "green", class_="right"),
    " if the prediction is correct and ",
    element("span", "red", class_="wrong"),
    " if not. Click a picture to enlarge it.",
    class_="lead",
)


def _figure(pair: PairPicture, limit: int) -> Markup:
    image = element(
        "img",
        src=data_uri(pair.picture, limit),
        alt=f"{pair.source} (source) beside {pair.target} (target): "
        f"{counted(pair.points, 'point')}, {pair.correct} of them correct",
        width=pair.picture.width,
        height=pair.picture.height,
    )
    # A hidden checkbox enlarges the picture without a script.
    switch = element("input", type="checkbox", aria_label="Enlarge")
    return element("figure", element("label", switch, image), _caption(pair), class_="pair")


def _caption(pair: PairPicture) -> Markup:
    condition = "" if pair.alpha is None else f" at {ALPHA} = {alpha_text(pair.alpha)}"
    return element(
        "figcaption",
        element("span", pair.rank, class_="rank"),
        element("span", element("b", f"{pair.correct}/{pair.points}"), f" points correct{condition}", class_="found"),
        element("span", pair.category, class_="category"),
        element("span", pair.source, " → ", pair.target, class_="names"),
    )
