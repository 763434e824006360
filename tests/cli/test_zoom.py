"""`--zoom`: the preset's for its own features, and for none where a matcher reads the image."""

from geomatch.cli.commands.evaluate import _groups
from geomatch.cli.options import PipelineOptions
from geomatch.options import Preset, Zoom


def zoom_of(options: PipelineOptions, features: list[str] | None = None) -> Zoom | None:
    (group,) = _groups(options, features, None, [], [])
    return group.options.zoom


def test_eval_zooms_as_the_preset_with_its_own_features_alone() -> None:
    assert zoom_of(PipelineOptions()) is Zoom.on
    assert zoom_of(PipelineOptions(preset=Preset.fast)) is Zoom.off
    assert zoom_of(PipelineOptions(), ["introspection"]) is Zoom.off
    assert zoom_of(PipelineOptions(zoom=Zoom.on), ["sift"]) is Zoom.on
    assert zoom_of(PipelineOptions(zoom=Zoom.off)) is Zoom.off


def test_eval_looks_at_whole_images_if_one_of_the_matchers_reads_them() -> None:
    (group,) = _groups(PipelineOptions(), None, ["nn", "pf-nam"], [], [])
    assert [each.zoom for each in group.build()] == [Zoom.off, Zoom.off]
    (group,) = _groups(PipelineOptions(), None, ["nn", "affine"], [], [])
    assert [each.zoom for each in group.build()] == [Zoom.on, Zoom.on]
