"""The tables of nuImages, joined on disk."""

from pathlib import Path

import pytest

from tasks.data.nuimages_tables import annotated_images
from tests.data.nuimages import FRAMES, read_tables, token_of, write_nuimages, write_tables


def test_annotations_come_with_their_image_in_the_order_of_painting(tmp_path: Path) -> None:
    folder = write_nuimages(tmp_path) / "v1.0-train"
    tables = read_tables(folder)
    tables["object_ann"].reverse()
    write_tables(folder, tables)
    found = [image for image, labeled in annotated_images(folder, "") if labeled]
    assert [(f"{image.log}", image.filename.split("/")[1]) for image in found] == [
        (drive, camera) for version, drive, camera in FRAMES if version == "v1.0-train"
    ]
    for number, image in enumerate(found):
        assert image.token == token_of(number)
        assert [one.category for one in image.surfaces] == ["flat.driveable_surface", "vehicle.ego"]
        assert [one.token[0] for one in image.objects] == ["0", "8", "9", "f"]
        assert image.objects[3].box == [2 + 3 * number, 12, 10 + 3 * number, 18]
        assert image.objects[2].mask is None


def test_the_order_of_the_rows_changes_no_image(tmp_path: Path) -> None:
    folder = write_nuimages(tmp_path) / "v1.0-train"
    before = [image for image, _ in annotated_images(folder, "CAM_FRONT")]
    tables = read_tables(folder)
    for name in ("object_ann", "sample", "log", "category", "calibrated_sensor"):
        tables[name].reverse()
    write_tables(folder, tables)
    assert [image for image, _ in annotated_images(folder, "CAM_FRONT")] == before


def test_a_table_of_one_token_twice_is_refused(tmp_path: Path) -> None:
    folder = write_nuimages(tmp_path) / "v1.0-train"
    tables = read_tables(folder)
    tables["sample_data"].append(tables["sample_data"][1])
    write_tables(folder, tables)
    with pytest.raises(ValueError, match=r"sample_data.json: two rows have the same token"):
        list(annotated_images(folder, ""))
