from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from geomatch.datasets.image_list import LabelledImage
from geomatch.errors import InputError
from geomatch.options import Batches
from geomatch.training.sampler import BatchSampler


def photographs(**counts: int) -> list[LabelledImage]:
    return [
        LabelledImage(f"{label}/{n}", Path(label), (label,)) for label, count in counts.items() for n in range(count)
    ]


def names(sampler: BatchSampler, batch: int) -> tuple[list[str], int]:
    drawn, count, _ = sampler.draw(batch)
    return [photograph.name for photograph in drawn], count


def test_draw_depends_on_seed_and_number_alone() -> None:
    everything = photographs(cat=30, car=30)
    first, again = (BatchSampler(everything, Batches.one_class, 4, seed=3) for _ in range(2))
    for batch in (5, 0, 5, 9):
        again.draw(batch)
    assert names(first, 5) == names(again, 5)
    assert first.draw(5)[2].initial_seed() == again.draw(5)[2].initial_seed()
    assert names(first, 5) != names(first, 6)
    assert first.draw(5)[2].initial_seed() != first.draw(6)[2].initial_seed()
    assert names(first, 5) != names(BatchSampler(everything, Batches.one_class, 4, seed=4), 5)


def test_draw_offers_each_photograph_once() -> None:
    sampler = BatchSampler(photographs(cat=7, car=3), Batches.one_class, 4, seed=0)
    for batch in range(5):
        drawn, count = names(sampler, batch)
        assert count == 4
        assert sorted(drawn) == [f"cat/{n}" for n in range(7)]  # cars are too few for a batch of one class
    drawn, count = names(BatchSampler(photographs(cat=2, car=1), Batches.mixed, 4, seed=0), 0)
    assert count == 3
    assert sorted(drawn) == ["car/0", "cat/0", "cat/1"]


def test_draw_class_by_square_root_of_size() -> None:
    sampler = BatchSampler(photographs(cat=90, car=10), Batches.one_class, 2, seed=1)
    drawn = Counter(names(sampler, batch)[0][0].split("/")[0] for batch in range(600))
    assert drawn["cat"] / 600 == pytest.approx(0.75, abs=0.06)


def test_sampler_refuses_too_small_classes() -> None:
    with pytest.raises(InputError, match=r"no label has the 4 photographs.*--set batches=mixed"):
        BatchSampler(photographs(cat=3, car=3), Batches.one_class, 4, seed=0)


def test_draw_balanced_labels_and_background() -> None:
    sampler = BatchSampler(photographs(cat=90, car=10, background=40), Batches.balanced, 3, seed=1)
    counted: Counter[str] = Counter()
    for batch in range(300):
        drawn, count, _ = sampler.draw(batch)
        counted.update(photograph.labels[0] for photograph in islice(drawn, count))
    roots = {"cat": 90**0.5, "car": 10**0.5, "background": 40**0.5}
    for label, root in roots.items():
        assert counted[label] / 900 == pytest.approx(root / sum(roots.values()), abs=0.05)


def test_sampler_balanced_needs_a_label() -> None:
    with pytest.raises(InputError, match="no photograph has a label"):
        BatchSampler([LabelledImage("a", Path("a"), ())], Batches.balanced, 3, seed=1)
