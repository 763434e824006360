from geomatch.cli.manual import manual
from tests.conftest import ROOT


def test_the_manual_is_what_the_commands_say_today() -> None:
    assert (ROOT / "docs" / "manual.md").read_text() == manual() + "\n", "run `make manual`"


def test_the_manual_leads_to_every_command_with_its_options() -> None:
    page = manual()
    for anchor, heading in (
        ("geomatch-match", "geomatch match"),
        ("geomatch-train-anchornet", "geomatch train anchornet"),
    ):
        assert f"(#{anchor})" in page
        assert f"\n## {heading}\n" in page
    assert "* `--min-confidence P`: Confidence that a match needs to be valid." in page
    assert "\x1b" not in page
