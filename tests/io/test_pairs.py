import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geomatch.errors import InputError
from geomatch.io.pairs import read_names, read_pairs

names = st.text(st.characters(exclude_characters="\0\r\n\t", exclude_categories=["Cs"]), min_size=1).filter(
    lambda name: name.strip() not in ("", "-")
)
pairs = st.lists(st.tuples(names, names), min_size=1).filter(lambda each: {"source", "target"} != _lowered(each[0]))


def _lowered(pair: tuple[str, str]) -> set[str]:
    return {name.strip().lower() for name in pair}


def read(content: str, name: str, folder: Path) -> list[tuple[Path, Path]]:
    (folder / name).write_bytes(content.encode())
    return read_pairs(folder / name)


@given(pairs)
def test_read_pairs_of_any_names_in_every_format(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("lists")
    expected = [(Path(a), Path(b)) for a, b in pairs]
    table = io.StringIO()
    csv.writer(table, quoting=csv.QUOTE_ALL).writerows(pairs)
    assert read(table.getvalue(), "list.csv", folder) == expected
    assert read("".join(f"{a}\t{b}\n" for a, b in pairs), "list.tsv", folder) == expected
    entries = [json.dumps({"source": a, "target": b}) for a, b in pairs]
    assert read("\n".join(entries), "list.jsonl", folder) == expected
    assert read("\n".join(entries), "list", folder) == expected


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.csv", "a.jpg;b c.jpg\n#d.jpg;e.jpg\n"),
        ("list.csv", "Source;Target\r\na.jpg;b c.jpg\r\n#d.jpg;e.jpg\r\n"),
        ("list.csv", "# made by hand\na.jpg,b c.jpg\n#d.jpg,e.jpg\n"),
        ("list.tsv", "# made by hand\n\na.jpg\tb c.jpg\n#d.jpg\te.jpg\n"),
        ("list", "# made by hand\na.jpg\tb c.jpg\n#d.jpg\te.jpg\n"),
    ],
)
def test_read_pairs_of_spreadsheets_and_after_comments(name: str, content: str, tmp_path: Path) -> None:
    assert read(content, name, tmp_path) == [(Path("a.jpg"), Path("b c.jpg")), (Path("#d.jpg"), Path("e.jpg"))]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.json", '[["a.jpg", "b c.jpg"], ["#d.jpg", "e.jpg"]]'),
        ("list", ' \n[{"trg": "b c.jpg", "src": "a.jpg", "id": 1}, {"image1": "#d.jpg", "image2": "e.jpg"}]\n'),
        ("list.csv", "Image 2,id,Image_1\nb c.jpg,7,a.jpg\ne.jpg,8,#d.jpg\n"),
        ("list.tsv", "source_image\ttarget_image\na.jpg\tb c.jpg\n#d.jpg\te.jpg\n"),
        ("list.jsonl", '{"src_imname": "a.jpg", "trg_imname": "b c.jpg"}\n{"query": "#d.jpg", "reference": "e.jpg"}\n'),
    ],
)
def test_read_pairs_under_other_names(name: str, content: str, tmp_path: Path) -> None:
    assert read(content, name, tmp_path) == [(Path("a.jpg"), Path("b c.jpg")), (Path("#d.jpg"), Path("e.jpg"))]


@pytest.mark.parametrize("name", ["list.txt", "list.csv", "list"])
def test_read_pairs_between_blanks(name: str, tmp_path: Path) -> None:
    for head in ("", "# made by hand\n", "source target\n"):
        pairs = read(f"{head}a.jpg b.jpg\r\nc.jpg  d.jpg \n", name, tmp_path)
        assert pairs == [(Path("a.jpg"), Path("b.jpg")), (Path("c.jpg"), Path("d.jpg"))]


def test_read_pairs_keeps_a_first_name_with_a_hash(tmp_path: Path) -> None:
    for text in ("# a.jpg\tb.jpg\n", "# a.jpg,b.jpg\n", "# a.jpg;b.jpg\n"):
        assert read(text, "list", tmp_path) == [(Path("# a.jpg"), Path("b.jpg"))]


def test_read_pairs_with_bom_and_names_not_unicode(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"\xef\xbb\xbfa\xff.jpg\tb.jpg")
    assert read_pairs(tmp_path / "list") == [(Path("a\udcff.jpg"), Path("b.jpg"))]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("l.tsv", "a b\n", "line 1: 1 column instead of 2"),
        ("l.tsv", "a\tb\n\na\tb\tc\n", "line 3: 3 columns"),
        ("l.tsv", "a\t\n", "line 1: TARGET is empty"),
        ("l.csv", 'a,b\n"a,b\n', "line 2: not CSV"),
        ("l.csv", "source,target\n", "holds no pairs"),
        ("l.csv", "source,target,id\na,b\n", "line 2: 2 columns instead of 3"),
        ("l", '{"source": "a", "target": "b"}\n{', "line 2: not JSON"),
        ("l", '{"source": "a", "target": 3}', "line 1: write a pair as"),
        ("l.json", '[["a", "b"], ["c"]]', "entry 2: write a pair as"),
    ],
)
def test_read_pairs_names_a_bad_line(name: str, content: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        read(content, name, tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_lists_in_the_encodings_of_windows(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes("a.jpg\r\ncaf\u00e9.jpg\r\n".encode(encoding))
    assert read_names(tmp_path / "list") == [Path("a.jpg"), Path("caf\u00e9.jpg")]
    (tmp_path / "pairs.csv").write_bytes("a.jpg,caf\u00e9.jpg\r\n".encode(encoding))
    assert read_pairs(tmp_path / "pairs.csv") == [(Path("a.jpg"), Path("caf\u00e9.jpg"))]


def test_read_names_keeps_spaces(tmp_path: Path) -> None:
    (tmp_path / "list").write_text(" a b.jpg\r\n\nc.jpg")
    assert read_names(tmp_path / "list") == [Path(" a b.jpg"), Path("c.jpg")]
    (tmp_path / "list").write_text("\n")
    with pytest.raises(InputError, match="names no images"):
        read_names(tmp_path / "list")


@pytest.mark.parametrize("name", ["a\0.jpg", "\ud800.jpg"])
def test_read_pairs_refuses_an_impossible_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"source": "a.jpg", "target": name}))
    with pytest.raises(InputError, match="line 1: no file can be named"):
        read_pairs(path)
