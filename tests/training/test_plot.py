import math
import re

import pytest

from geomatch.training.monitoring.log import TrainingLog
from geomatch.training.monitoring.plot import COLUMNS, training_page

STEPS = list(range(50))
LOG = TrainingLog(
    {
        "sigma": (STEPS, [0.2] * 50),
        "loss": (STEPS, [1 / (step + 1) for step in STEPS]),
        "seconds": (STEPS, [6.0] * 50),
        "own term": (STEPS, [float(step) for step in STEPS]),
        "validation": ([20, 40, 50], [0.31, 0.4321, 0.38]),
    },
    ("<b>.png",),
)


def headings(page: str) -> list[str]:
    return re.findall(r"<h3>(.*?)</h3>", page)


def test_training_page_panel_for_every_number() -> None:
    page = training_page({"mine": LOG})
    assert headings(page) == ["Loss", "own term", "Sigma", "Validation", "Seconds a step"]
    assert "50 steps · 5.0 minutes · 1 unreadable: &lt;b&gt;.png" in page
    assert "://" not in page


def test_training_page_best_validation() -> None:
    page = training_page({"mine": LOG})
    assert "best 0.4321 after 40 steps" in page
    rings = re.findall(r'<circle [^>]*class="best"[^>]*><title>(.*?)</title>', page)
    assert rings == ["best: 0.4321 after 40 steps"]


def test_training_page_several_logs() -> None:
    other = TrainingLog({"validation": ([10], [0.2])}, ())
    page = training_page({"mine": LOG, "<other>": other})
    panel = page[page.index("<h3>Validation</h3>") : page.index("<h3>Seconds a step</h3>")]
    assert re.findall(r'<g class="series-(\d)">', panel) == ["0", "1"]
    assert "&lt;other&gt;" in page
    assert "<other>" not in page


def test_training_page_smoothing_keeps_gaps() -> None:
    values = [2.0] * 30 + [math.nan] * 5 + [2.0] * 465
    page = training_page({"mine": TrainingLog({"loss": (list(range(500)), values)}, ())})
    assert "2 at the end" in page
    curve = re.findall(r'<path d="([^"]*)" class="curve">', page)[0]
    heights = {point.split()[1] for point in re.split("[ML]", curve) if point}
    assert len(heights) == 1
    assert curve.count("M") == 2


def test_training_page_long_log_keeps_extremes() -> None:
    steps = list(range(10_000))
    values = [math.sin(step / 5) for step in steps]
    page = training_page({"mine": TrainingLog({"loss": (steps, values)}, ())})
    raw = re.findall(r'<path d="([^"]*)" class="raw">', page)[0]
    heights = [float(point.split()[1]) for point in re.split("[ML]", raw) if point]
    assert len(heights) == 2 * COLUMNS
    assert min(heights) == pytest.approx(12, abs=0.1)  # the axis runs from -1 to 1
    assert max(heights) == pytest.approx(226, abs=0.1)


@pytest.mark.parametrize("values", [[math.nan], [0.5], [-3.0]])
def test_training_page_one_step(values: list[float]) -> None:
    assert headings(training_page({"mine": TrainingLog({"loss": ([0], values)}, ())})) == ["Loss"]
