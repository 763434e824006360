from pathlib import Path

import pytest

from geomatch.datasets.base import read_rows
from geomatch.errors import InputError


def test_a_list_s_rows_are_numbered_as_in_an_editor_and_blank_ones_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("\ufeffa, b\r\n1, 2\r\n\r\n3,4\r\n", encoding="utf-8")
    rows = read_rows(path)
    assert [row.origin for row in rows] == ["pairs.csv, row 2", "pairs.csv, row 4"]
    assert rows[0].take("b", "a") == ["2", "1"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty; its first row should name the columns"),
        (b"a,b\n1,2\n\xff\xfe,3\n", "no list of pairs after row"),
        (b"a,b\n1,2\n" + b"3" * 200_000, "no list of pairs after row 2"),
    ],
)
def test_a_file_that_is_no_list_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "pairs.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"pairs\.csv: {reason}"):
        read_rows(path)


def test_a_list_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_rows(tmp_path)
