"""PF-WILLOW (Ham et al., CVPR 2016): ten classes of ten images, ten keypoints each; all 900 ordered pairs."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from geomatch.datasets.pairs import AnnotatedPair, PairDataset, Points
from geomatch.errors import InputError

HOME = "https://www.di.ens.fr/willow/research/proposalflow/"
CLASSES = (
    "car(G)",
    "car(M)",
    "car(S)",
    "duck(S)",
    "motorbike(G)",
    "motorbike(M)",
    "motorbike(S)",
    "winebottle(M)",
    "winebottle(wC)",
    "winebottle(woC)",
)


def load_pf_willow(root: Path) -> PairDataset:
    """Read ``<root>/<class>/<name>.png`` and ``.mat`` (``pts_coord``: 2 x 10, rows x and y, 1-based).

    Raises InputError naming what is missing or malformed and where the benchmark comes from.
    """
    missing = [name for name in CLASSES if not (root / name).is_dir()]
    if missing:
        raise InputError(
            f"{root}: no PF-WILLOW here, the folder '{missing[0]}' is missing: unpack PF-dataset.zip from {HOME} "
            "and give its PF-dataset folder as --root"
        )
    pairs = []
    for category in CLASSES:
        annotations = sorted((root / category).glob("*.mat"))
        if not annotations:
            raise InputError(f"{root / category}: holds no .mat annotation; unpack PF-dataset.zip from {HOME} anew")
        points = {path.with_suffix(".png"): _read_points(path) for path in annotations}
        for source, target in permutations(points, 2):
            pairs.append(AnnotatedPair(source, target, points[source], points[target], category))
    return PairDataset("pf-willow", "test", pairs)


def _read_points(path: Path) -> Points:
    if not path.with_suffix(".png").is_file():
        raise InputError(f"{path.with_suffix('.png')}: missing, though it is annotated in {path.name}")
    try:
        points = np.asarray(scipy.io.loadmat(path)["pts_coord"], dtype=np.float64)
    except (OSError, ValueError, KeyError, IndexError, TypeError, RuntimeError, MatReadError) as error:
        raise InputError(f"{path}: not a PF-WILLOW annotation ({error})") from error
    if points.ndim != 2 or points.shape[0] != 2 or not np.isfinite(points).all():
        raise InputError(f"{path}: 'pts_coord' should be 2 x K finite numbers and is {points.shape}")
    return points.T - 1
