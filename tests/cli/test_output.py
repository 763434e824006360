import pytest

from geomatch.cli.output import panels, print_table

METHODS = [
    f"{features}\n+ {matcher}"
    for features in ("introspection", "hypercolumn:2+3", "anchornet:aeroplane")
    for matcher in ("fusion", "pf-lom", "affine")
]


@pytest.mark.parametrize("width", [60, 80, 200])
def test_numbers_are_never_cut_whatever_the_width(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    values = [f"{place}.{place}{place}{place}" for place in range(len(METHODS))]
    rows = [("per-image PCK@0.05", *values), ("a measure of a long name, which may be folded", *values)]
    print_table("scores", ["score", *METHODS], rows, text=["score"])
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= width
    assert [printed.count(value) for value in values] == [2] * len(values)


def test_panels_hold_all_numbers_once_in_order_and_repeat_text() -> None:
    widths = [0, 5, 0, 9, 5, 40, 5]
    found = panels(widths, 30)
    assert [place for panel in found for place in panel if widths[place]] == [1, 3, 4, 5, 6]
    for panel in found:
        assert {0, 2} <= set(panel)
        numbers = [widths[place] + 3 for place in panel if widths[place]]
        assert len(numbers) == 1 or sum(numbers) <= 30
    assert panels([0, 0], 30) == [[0, 1]]
