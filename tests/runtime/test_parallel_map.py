import threading
import time

import torch
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import InputError
from geomatch.options import PresetSettings
from geomatch.pipeline import Pipeline
from geomatch.runtime.parallel_map import in_order, why
from tests.stub import Colours, picture, stub_pipeline, to_tensor


def test_results_come_in_order_from_threads_that_do_not_run_away() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.002 * (item % 3))
        return item * item

    results = in_order(work, range(200))
    assert next(results) == 0
    assert len(begun) < 40, "far ahead of who reads them"
    assert list(results) == [item * item for item in range(1, 200)]


def test_who_stops_reading_stops_the_threads() -> None:
    before = threading.active_count()
    results = in_order(lambda item: item, range(100))
    next(results)
    results.close()
    assert threading.active_count() == before


def test_pipeline_extracts_one_image_at_a_time() -> None:
    image, inside, most = to_tensor(picture(64, 64)), 0, 0

    class Watched(Colours):
        def __call__(self, image: Tensor) -> FeatureMap:
            nonlocal inside, most
            inside, most = inside + 1, max(most, inside + 1)
            time.sleep(0.002)
            inside -= 1
            return super().__call__(image)

    shared = Pipeline(features=Watched(), matcher="nn", preset=PresetSettings(cells=1), device="cpu")
    features = list(in_order(lambda _: shared.extract(image), range(20)))
    assert most == 1
    found = shared.match(features[0], features[1])
    torch.testing.assert_close(found.flow, stub_pipeline().match(image, image).flow)


def test_what_failed_is_told_in_its_own_words_or_named_as_a_fault_of_ours() -> None:
    assert why(InputError("a.jpg: no such file")) == "a.jpg: no such file"
    assert why(KeyError("x")) == "unexpected KeyError: 'x'"
