"""The PASCAL-ILSVRC map: which of the 1,000 synsets of ILSVRC belong to one of the 20 classes of PASCAL VOC.

A synset belongs to a class if the root of the class is the synset or one of its WordNet ancestors. The roots: airplane
n02691156, bicycle n02834778, bird n01503061, boat n02858304, bottle n02876657, bus n02924116, car n02958343, cat
n02121620, chair n03001627, cattle n02402425, dining table n03201208, dog n02084071, horse n02374451, motorcycle
n03790512, person n00007846, plant n00017222, sheep n02411705, sofa n04256520, train n04468005, monitor n03782006 and
television n04404412. This gives 231 synsets, listed in ``voc_synsets.txt`` (a line per class: its name, then its
synsets); the other 769 are background, as in AnchorNet's training data (Novotny et al., CVPR 2017).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from geomatch.errors import InputError
from geomatch.io.inputs import STDIN, read_input

TABLE = Path(__file__).with_name("voc_synsets.txt")

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

RIGID_CLASSES = (
    "aeroplane",
    "bicycle",
    "boat",
    "bottle",
    "bus",
    "car",
    "chair",
    "diningtable",
    "motorbike",
    "sofa",
    "train",
    "tvmonitor",
)
"""The 12 rigid classes that Probabilistic Introspection (Novotny et al., CVPR 2018) is trained on."""


_OTHER_NAMES = {
    "airplane": "aeroplane",
    "airplanes": "aeroplane",
    "car_side": "car",
    "duck": "bird",
    "motorbikes": "motorbike",
    "motorcycle": "motorbike",
    "winebottle": "bottle",
}
"""VOC classes by what other benchmarks call them."""


def voc_class(category: str) -> str:
    """The VOC class of a benchmark's category; of a pair across classes, that of its source. Others stay as they are.

    >>> [voc_class(category) for category in ("winebottle(woC)", "bicycle-to-motorbike", "sheep")]
    ['bottle', 'bicycle', 'sheep']
    """
    name = category.partition("-to-")[0].partition("(")[0]
    return _OTHER_NAMES.get(name.lower(), name)


def is_synset(name: str) -> bool:
    """Whether a folder name is a synset of ILSVRC: n and eight digits."""
    return re.fullmatch(r"n\d{8}", name) is not None


@cache
def synset_classes() -> dict[str, str]:
    """The VOC class of each of the 231 synsets."""
    lines = (line.split() for line in TABLE.read_text(encoding="utf-8").splitlines())
    return {synset: name for name, *synsets in lines for synset in synsets}


def named_classes(text: str) -> tuple[str, ...]:
    """Parse class names.

    text: names separated by commas, or the path of a file with one name per line, - for stdin. ``rigid`` stands for
    `RIGID_CLASSES`, ``voc20`` for `VOC_CLASSES`, and ``all`` for the empty tuple.

    Raises InputError if the file cannot be read.
    """
    groups: dict[str, tuple[str, ...]] = {"all": (), "rigid": RIGID_CLASSES, "voc20": VOC_CLASSES}
    path = Path(text)
    if path == STDIN or (path.exists() and not path.is_dir()):
        try:
            text = ",".join(read_input(path).text.splitlines())
        except InputError as error:
            raise InputError(f"{error}: not a list of classes, one on each line") from error
    names = (name.strip() for name in text.split(",") if name.strip())
    return tuple(dict.fromkeys(found for name in names for found in groups.get(name, (name,))))
