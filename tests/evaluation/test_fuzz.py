"""Whatever stands in the JSON of an evaluation, it is compared or refused."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomatch.cli.scores import print_comparison
from geomatch.evaluation.compare import compare, parse_scored
from tests.fuzzing import assert_read_or_refused, fuzzed, junk, mutations, odd_numbers

RECORD = {
    "dataset": "pf-willow",
    "split": "test",
    "features": "introspection",
    "matcher": "nn",
    "results": [
        {"protocol": "geomatch", "average": average, "alpha": alpha}
        for average in ("per-image", "per-point", "per-class")
        for alpha in (0.05, 0.1)
    ],
    "measures": [{"name": "end-point error", "better": "lower", "per_pair": [1.0, None, 3.5]}],
    "pair_list": [
        {"source": f"{name}.png", "target": "b.png", "category": category, "points": points, "correct": correct}
        for name, category, points, correct in (
            ("a", "duck", 4, {"geomatch": {"0.05": 1, "0.1": 3}}),
            ("c", "duck", 3, {"geomatch": {"0.1": 2}}),
            ("d", "car", 0, {}),
        )
    ],
}
TEXT = json.dumps(RECORD)


def compared(text: str, capsys: pytest.CaptureFixture[str]) -> bool:
    """Whether the evaluation could be compared with itself and with a sound one, one way or the other."""

    def with_itself() -> None:
        scored = parse_scored(text, "a.json")
        for json_ in (False, True):
            print_comparison(scored, scored, compare(scored, scored), json=json_)
        printed = capsys.readouterr().out
        assert "\x1b" not in printed
        json.loads(printed.splitlines()[-1], parse_constant=not_json)

    def with_another() -> None:
        compare(parse_scored(TEXT, "b.json"), parse_scored(text, "a.json"))

    done = assert_read_or_refused(with_itself)
    assert_read_or_refused(with_another)
    return done


def not_json(constant: str) -> None:
    raise AssertionError(f"{constant} is printed as JSON")


def test_undamaged_evaluation_is_comparable(capsys: pytest.CaptureFixture[str]) -> None:
    assert compared(TEXT, capsys)


@given(mutations(TEXT.encode()))
@fuzzed(80)
def test_damaged_evaluations(capsys: pytest.CaptureFixture[str], content: bytes) -> None:
    compared(content.decode(errors="replace"), capsys)


@given(st.data())
@fuzzed(120)
def test_arbitrary_values_in_evaluation(capsys: pytest.CaptureFixture[str], data: st.DataObject) -> None:
    compared(json.dumps(changed(copy.deepcopy(RECORD), data)), capsys)


def changed(value: object, data: st.DataObject) -> object:
    """The value with something else in one place of it."""
    if isinstance(value, dict | list) and value and data.draw(st.integers(0, 9)):
        key = data.draw(st.sampled_from(list(value) if isinstance(value, dict) else range(len(value))))
        value[key] = changed(value[key], data)
        return value
    odd = odd_numbers | junk | st.sampled_from(["[/red]", "[bold]", "\x1b[31m", "a\nb", "0.1", "per-point"])
    return data.draw(odd | st.lists(odd_numbers, min_size=3, max_size=3))
