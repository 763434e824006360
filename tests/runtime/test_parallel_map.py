import threading
import time

import torch
from torch import Tensor

from geomatch.correspondence import FeatureMap
from geomatch.errors import InputError
from geomatch.options import PresetSettings
from geomatch.pipeline import Pipeline
from geomatch.runtime.parallel_map import error_message, map_in_order
from tests.stub import Colours, picture, stub_pipeline, to_tensor


def test_map_in_order_is_ordered_and_not_far_ahead() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.002 * (item % 3))
        return item * item

    results = map_in_order(work, range(200))
    assert next(results) == 0
    assert len(begun) < 40, "far ahead of the reader"
    assert list(results) == [item * item for item in range(1, 200)]


def test_map_in_order_stops_its_threads_when_closed() -> None:
    before = threading.active_count()
    results = map_in_order(lambda item: item, range(100))
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
    features = list(map_in_order(lambda _: shared.extract(image), range(20)))
    assert most == 1
    found = shared.match(features[0], features[1])
    torch.testing.assert_close(found.flow, stub_pipeline().match(image, image).flow)


def test_error_message_names_unexpected_errors() -> None:
    assert error_message(InputError("a.jpg: no such file")) == "a.jpg: no such file"
    assert error_message(KeyError("x")) == "unexpected KeyError: 'x'"
