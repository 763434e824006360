"""`geomatch crops`: find the labelled objects in images and write their boxes as a table for training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from geomatch.cli.console import counting_bar, notify
from geomatch.cli.options import DeviceChoice, Overwrite, Quiet, WeightsFile
from geomatch.cli.output import print_json, print_table
from geomatch.options import Detector, Device, Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geomatch.annotations import Box
    from geomatch.datasets.crops import Crop
    from geomatch.evaluation.metrics.localisation import LabelCorLoc
    from geomatch.training.objects.crops import CellDescriptors

    Scores = Mapping[str, dict[str, LabelCorLoc]]

WORKING_SIZE = 224
WHOLE, CENTRED = (0.0, 0.0, 1.0, 1.0), (0.15, 0.15, 0.85, 0.85)


def crops(
    data: Annotated[
        list[Path],
        typer.Option(
            metavar="PATH",
            help="Folder of images, folder of .tar shards, or one shard; repeatable.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Table to write (CSV).", show_default=False)],
    detector: Annotated[
        Detector,
        typer.Option(
            help="centre: the box that looks most like the middle of the label's images; wsddn: a network trained on "
            "the labels (Bilen and Vedaldi, CVPR 2016), slower."
        ),
    ] = Detector.centre,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of wsddn's training over the images.")] = 20,
    weights: WeightsFile = None,
    max_unreadable: Annotated[
        float, typer.Option(min=0, max=1, help="Largest share of damaged images; they are listed.")
    ] = 0.01,
    device: DeviceChoice = Device.auto,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object, not a table.")] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Find the objects of the labels in images, from image labels alone.

    OUT has a row for each image and label: file, label, left, top, right, bottom, score. Edges are in pixels of the
    upright image, pixel centres at integers: a whole image is -0.5, -0.5, width - 0.5, height - 0.5. If the label table
    has true boxes, CorLoc is printed: the share of the images of a label with IoU >= .5.
    """
    from geomatch.datasets.crops import read_true_boxes, write_crops
    from geomatch.datasets.image_folder import ImageReader, find_images
    from geomatch.datasets.image_list import by_label
    from geomatch.features.load import load_features
    from geomatch.io.atomic import check_new_file
    from geomatch.runtime.device import find_device
    from geomatch.training.objects.crops import extract_descriptors, find_crops
    from geomatch.training.objects.wsddn import detect_crops

    check_new_file(out, overwrite=overwrite, suffixes=(".csv",))
    images = find_images(data)
    true = read_true_boxes(data)
    on, size = find_device(device), WORKING_SIZE
    extractor = load_features("introspection", working_size=size, device=on, weights=weights, precision=Precision.auto)
    reader = ImageReader(len(images), max_unreadable)
    labelled = sum(bool(by_label([image])) for image in images)
    with counting_bar("extracting", labelled, quiet=quiet) as advance:
        cells = extract_descriptors(images, extractor, reader, advance)
        advance(0, doing="finding")
        found = find_crops(cells) if detector is Detector.centre else detect_crops(cells, epochs=epochs)
    write_crops(out, found)
    if reader.unreadable:
        notify(f"{len(reader.unreadable)} photographs cannot be read and have no crop: {', '.join(reader.unreadable)}")
    scores = _scores(cells, found, true) if true else {}
    if json:
        _print_json(out, len(found), reader.unreadable, scores)
    elif scores:
        _print_table(scores)


def _scores(cells: CellDescriptors, found: list[Crop], true: Mapping[tuple[str, str], list[Box]]) -> Scores:
    """CorLoc of the crops found and, for comparison, of two fixed boxes."""
    from geomatch.evaluation.metrics.localisation import Localisation, corloc
    from geomatch.training.objects.crops import fixed_crops

    methods = {
        "found": found,
        "whole photograph": fixed_crops(cells, WHOLE),
        "centred, 70 % of each side": fixed_crops(cells, CENTRED),
    }
    return {
        method: corloc(
            Localisation(crop.label, crop.box, true[crop.file, crop.label])
            for crop in crops
            if (crop.file, crop.label) in true
        )
        for method, crops in methods.items()
    }


def _print_json(out: Path, count: int, unreadable: list[str], scores: Scores) -> None:
    from dataclasses import asdict

    from geomatch.evaluation.metrics.localisation import mean_corloc

    record = {
        method: {
            "mean": mean_corloc(labels) if labels else None,
            "labels": {label: asdict(score) for label, score in labels.items()},
        }
        for method, labels in scores.items()
    }
    print_json({"output": str(out), "crops": count, "unreadable": unreadable, "corloc": record})


def _print_table(scores: Scores) -> None:
    from geomatch.evaluation.metrics.localisation import mean_corloc

    rows = [
        (label, f"{score.photographs:,}", *(f"{labels[label].share:.3f}" for labels in scores.values()))
        for label, score in scores["found"].items()
    ]
    means = ("mean over labels", "", *(f"{mean_corloc(labels):.3f}" for labels in scores.values()))
    print_table("CorLoc", ["label", "photographs", *scores], rows, text=["label"], totals=[means])
