from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geomatch.datasets.benchmarks.tss import GROUPS, TSS
from geomatch.datasets.pairs import AnnotatedPair, Mask, PairErrors
from geomatch.errors import InputError
from geomatch.io.flow import FlowField, encode_flo

SIZES = {1: (30, 40), 2: (20, 50)}
UNKNOWN = 1e10


def foreground(side: int) -> Mask:
    mask = np.zeros(SIZES[side], dtype=bool)
    mask[5:15, 5 + side : 25] = True
    return mask


def write_mask(path: Path, mask: Mask) -> None:
    Image.fromarray(np.where(mask, 128, 127).astype(np.uint8)).save(path)


def write_flow(path: Path, flow: tuple[float, float], size: tuple[int, int]) -> None:
    """Constant, but unknown on the third row from the foreground's first."""
    values = np.broadcast_to(np.array(flow, dtype=np.float32)[:, None, None], (2, *size)).copy()
    values[:, 7] = UNKNOWN
    path.write_bytes(encode_flo(FlowField(values, np.ones(size, dtype=bool))))


@pytest.fixture
def tss(tmp_path: Path) -> Path:
    """TSS's layout with a pair a group, images of 40x30 and 50x20 pixels."""
    root = tmp_path / "TSS_CVPR2016"
    for group in GROUPS:
        folder = root / group / "001_005"
        folder.mkdir(parents=True)
        for side, (height, width) in SIZES.items():
            Image.new("RGB", (width, height)).save(folder / f"image{side}.png")
            write_mask(folder / f"mask{side}.png", foreground(side))
            write_flow(folder / f"flow{side}.flo", (side, -side), (height, width))
    return root


def load(root: Path) -> list[AnnotatedPair]:
    return TSS.load(root, "test", PairErrors())


def test_pairs_in_both_directions(tss: Path) -> None:
    pairs = load(tss)
    assert [pair.category for pair in pairs] == ["FG3DCar", "FG3DCar", "JODS", "JODS", "PASCAL", "PASCAL"]
    assert [(pair.source.name, pair.target.name) for pair in pairs[:2]] == [
        ("FG3DCar/001_005/image1.png", "FG3DCar/001_005/image2.png"),
        ("FG3DCar/001_005/image2.png", "FG3DCar/001_005/image1.png"),
    ]
    assert pairs[1].origin == "FG3DCar/001_005, flow2.flo"
    assert {path.name for path in pairs[1].annotation_files} == {"flow2.flo", "mask1.png", "mask2.png"}


def test_parent_folder_is_accepted(tss: Path) -> None:
    assert TSS.splits(tss.parent) == ["test"]
    assert len(load(tss.parent)) == 6


@pytest.mark.parametrize("side", [1, 2])
def test_flow_is_valid_on_known_foreground(tss: Path, side: int) -> None:
    pair = load(tss)[side - 1]
    assert pair.flow is not None
    field = pair.flow()
    known = foreground(side)
    known[7] = False
    assert np.array_equal(field.valid, known)
    assert set(field.flow[0, known]) == {side}
    assert set(field.flow[1, known]) == {-side}


def test_masks_of_source_then_target(tss: Path) -> None:
    forth, back = load(tss)[:2]
    assert forth.masks is not None
    assert back.masks is not None
    for masks, sides in ((forth.masks(), (1, 2)), (back.masks(), (2, 1))):
        assert all(np.array_equal(mask, foreground(side)) for mask, side in zip(masks, sides, strict=True))


@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("flow1.flo", r"FG3DCar/001_005/flow1\.flo: 50x20 pixels, but image1\.png is 40x30 pixels"),
        ("mask1.png", r"FG3DCar/001_005/mask1\.png: 50x20 pixels, but image1\.png is 40x30 pixels"),
    ],
)
def test_flow_or_mask_of_other_size_is_named(tss: Path, file: str, reason: str) -> None:
    folder = tss / "FG3DCar" / "001_005"
    (folder / file).write_bytes((folder / file.replace("1", "2")).read_bytes())
    pair = load(tss)[0]
    assert pair.flow is not None
    with pytest.raises(InputError, match=reason):
        pair.flow()


def test_damaged_flow_and_empty_mask_are_named(tss: Path) -> None:
    folder = tss / "FG3DCar" / "001_005"
    flow, masks = load(tss)[0].flow, load(tss)[0].masks
    assert flow is not None
    assert masks is not None
    (folder / "flow1.flo").write_bytes(b"no flow")
    with pytest.raises(InputError, match=r"001_005/flow1\.flo: not a \.flo file"):
        flow()
    write_mask(folder / "mask2.png", np.zeros(SIZES[2], dtype=bool))
    with pytest.raises(InputError, match=r"001_005/mask2\.png: has no foreground"):
        masks()


@pytest.mark.parametrize(
    ("file", "lost", "reason"),
    [
        ("flow2.flo", 1, r"JODS/001_005/flow2\.flo: missing; unpack TSS_CVPR2016\.zip again"),
        ("mask1.png", 2, r"JODS/001_005/mask1\.png: missing; unpack TSS_CVPR2016\.zip again"),
        ("image1.png", 2, r"JODS/001_005, flow1\.flo: .*image1\.png is missing"),
    ],
)
def test_missing_file_is_named_or_counted(tss: Path, file: str, lost: int, reason: str) -> None:
    (tss / "JODS" / "001_005" / file).unlink()
    with pytest.raises(InputError, match=reason):
        load(tss)
    bad = PairErrors(skip=True)
    assert len(TSS.load(tss, "test", bad)) == 6 - lost
    assert len(bad.reasons) == lost


def test_missing_group_is_named(tss: Path) -> None:
    (tss / "JODS").rename(tss / "jods")
    assert TSS.splits(tss) == []
    with pytest.raises(InputError, match=r"tss needs .*/JODS; download TSS_CVPR2016\.zip from https://"):
        load(tss)


def test_training_split_is_refused(tss: Path) -> None:
    with pytest.raises(InputError, match="tss has no split 'trn'; choose from test"):
        TSS.load(tss, "trn", PairErrors())
