"""Tables of tables read into rows."""

from pathlib import Path

import pytest

from geomatch.errors import InputError
from geomatch.io.tables import Layout, Row, kinds_of, parse_table, read_table, split_rows

NAMED = Layout(("x", "y"))
POINTS = Layout(("x", "y"), bare=lambda values: ("x", "y") if kinds_of(values) == "##" else None)


def values(text: str, *, header_optional: bool = False) -> list[tuple[str, dict[str, str]]]:
    return [(row.origin, row.fields) for row in parse_table(text, "t", POINTS if header_optional else NAMED)]


def test_read_table_numbers_lines_and_skips_blank_ones(tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    path.write_text("\ufeffa, b\r\n1, 2\r\n\r\n,\n3,4\r\n", encoding="utf-8")
    rows = list(read_table(path, name="pairs.csv"))
    assert [row.origin for row in rows] == ["pairs.csv, line 2", "pairs.csv, line 5"]
    assert rows[0].take("b", "a") == ["2", "1"]


@pytest.mark.parametrize("text", ["x,y\n1,2\n", "x\ty\n1\t2\n", 'y,"x"\r\n2," 1"\r\n', "z,x,y\n0,1,2,3"])
def test_parse_table_reads_commas_and_tabs(text: str) -> None:
    [(origin, fields)] = values(text)
    assert (origin, fields["x"], fields["y"]) == ("t, line 2", "1", "2")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("x;y\n12,5;-7,25\n", 2),
        ("Name;X;Y\r\nnose;12,5;-7,25\r\n", 2),
        ("NAME\tX\tY\nnose\t12,5\t-7.25\n", 2),
        ('sep=;\r\n"x";"y"\r\n"12,5";-7.25\r\n', 3),
        ('"SEP=,"\nX,Y\n12.5,-7.25\n', 3),
        ("# drawn by hand\n#\nx,y\n12.5,-7.25\n", 4),
        ("# x,y\n12.5,-7.25\n", 2),
        (",x,y\n0,12.5,-7.25\n", 2),
        ('\n  x ; y \n"12,5"; -7,25\n', 3),
    ],
)
def test_parse_table_reads_dialects_of_spreadsheets_and_programs(text: str, line: int) -> None:
    [row] = parse_table(text, "t", NAMED)
    assert (row.origin, row.position("x"), row.position("y")) == (f"t, line {line}", 12.5, -7.25)


def test_parse_table_keeps_other_columns_as_written() -> None:
    [row] = parse_table("Id;X;y;Label\n7;1;2;Cat", "t", Layout(("x", "y"), optional=("label",)))
    assert row.fields == {"Id": "7", "x": "1", "y": "2", "label": "Cat"}
    [row] = parse_table("A,X;1\n1;2,3", "t")  # the columns of a benchmark are as it writes them
    assert row.fields == {"A": "1;2", "X;1": "3"}


def test_parse_table_between_blanks() -> None:
    for text in ("x  y z\n 1.5 2 nose\n", "# x y z\n1.5   2 nose\n"):
        [row] = parse_table(text, "t", NAMED)
        assert row.fields == {"x": "1.5", "y": "2", "z": "nose"}


def test_parse_table_knows_columns_by_other_names() -> None:
    layout = Layout(
        ("x", "y"), (("far", "near"),), aliases={"pos_x": ["x"], "pos_y": ["y"], "d": ["far"], "e": ["far", "near"]}
    )
    for head, value in {"Pos X;pos-y": "x", "D;near": "far", "D;E": "far", "pos_x;x;y": "x", "d;e;x;y": "x"}.items():
        [row] = parse_table(f"{head}\n1;2;3;4", "t", layout)
        assert row.fields[value] == ("2" if head == "pos_x;x;y" else "3" if head == "d;e;x;y" else "1")
    with pytest.raises(InputError, match="columns x, y, or far, near; 'near' is not there"):
        list(parse_table("far;z\n1;2", "t", layout))


def test_kinds_of_values() -> None:
    assert kinds_of(["1e3", "-2", "nose", "", "a.b/c.JPG", "left.eye", ".png", "v1.5", "x y.tif"]) == "##ttftttf"


@pytest.mark.parametrize("text", ['x,y\n"12,5",1\n', "x;y\n1,2,3;1\n", "x;y\n1.234,5;1\n", "x,y\n6_4,1\n"])
def test_parse_table_refuses_marks_that_may_divide_thousands(text: str) -> None:
    [row] = parse_table(text, "t", NAMED)
    with pytest.raises(InputError, match=r"t, line 2, column 'x': .* is not a number"):
        row.position("x")


def test_parse_table_without_header_between_semicolons() -> None:
    rows = list(parse_table("12,5;-7,25\n1;2", "t", POINTS))
    assert [(row.position("x"), row.position("y")) for row in rows] == [(12.5, -7.25), (1, 2)]


def test_parse_table_without_header() -> None:
    assert values("1,2\n3,4", header_optional=True) == [
        ("t, line 1", {"x": "1", "y": "2"}),
        ("t, line 2", {"x": "3", "y": "4"}),
    ]
    assert values("x,y\n3,4", header_optional=True) == [("t, line 2", {"x": "3", "y": "4"})]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "table.csv: its first line should name the columns x, y; 'x' is not there"),
        (b"x,z\n", "table.csv: its first line should name the columns x, y; 'y' is not there"),
        (b"x,y\n1,2\n\xff\xfe,3\n", "table.csv: not text in UTF-8"),
        (b"x,y\n1,2\n" + b"3" * 200_000, "table.csv, line 3: not CSV"),
        (b'x,y\n"1,2\n', "table.csv, line 2: not CSV"),
        (b'x\ty\n"1"2\t2\n', "table.csv, line 2: not TSV"),
    ],
)
def test_read_table_names_what_is_wrong(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        list(read_table(path, NAMED))
    assert reason in str(raised.value)


@pytest.mark.parametrize(("name", "reason"), [("", "is a folder"), ("none.csv", "no such file")])
def test_read_table_needs_a_file(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        list(read_table(tmp_path / name))


def test_split_rows_unquoted_keeps_quotes_and_spaces() -> None:
    assert [row.values for row in split_rows('"a\t b\r\n\n', "t", "\t", quoted=False)] == [['"a', " b"]]


def test_row_names_a_missing_column() -> None:
    row = Row("t, line 2", ("x", "y"), ["1"])
    assert row.position("x") == 1
    for access in (lambda: row.take("x", "y"), lambda: row.first(2), lambda: row.position("y")):
        with pytest.raises(InputError, match="t, line 2"):
            access()
