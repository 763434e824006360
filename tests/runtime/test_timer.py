import pytest

from geomatch.runtime import timer as timing
from geomatch.runtime.timer import Timer


def test_timer_counts_a_stage_without_inner_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 1.0, 3.0, 3.5, 4.5, 10.0, 20.0, 21.0])
    monkeypatch.setattr(timing, "perf_counter", lambda: next(moments))
    watch = Timer()
    with watch.stage("scoring"):  # 0 to 10
        with watch.stage("matching"):  # 1 to 3
            pass
        with watch.stage("matching"):  # 3.5 to 4.5
            pass
    with watch.stage("scoring"):  # 20 to 21
        pass
    assert watch.record() == {"matching": 3.0, "scoring": 8.0}
