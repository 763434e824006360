"""`scripts/cli_reference.py`, which writes docs/cli.md."""

import sys

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from cli_reference import PAGE, cli_reference


def test_cli_reference_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == cli_reference(), "help texts have changed: run `make reference`"


def test_cli_reference_has_every_command_and_option() -> None:
    page = cli_reference()
    for anchor, heading in (
        ("geomatch-match", "geomatch match"),
        ("geomatch-train-anchornet", "geomatch train anchornet"),
    ):
        assert f"(#{anchor})" in page
        assert f"\n## {heading}\n" in page
    assert "* `--min-confidence P`: Confidence that a match needs to be valid." in page
    assert "\x1b" not in page
