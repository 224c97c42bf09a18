"""The labelling configuration says which classes and keypoints there are, and is made from them."""

from xml.etree import ElementTree as XML

import pytest

from tasks.data.label_config import config_of, schema_of_config
from tests.data.label_studio import CONFIG

CATEGORIES = [
    {"id": 1, "name": "arm", "supercategory": "arm", "isthing": 1, "keypoints": ["left", "right"], "skeleton": [],
     "flip_pairs": [[0, 1]]},
    {"id": 2, "name": "bolt", "supercategory": "bolt", "isthing": 1, "keypoints": ["head"], "skeleton": []},
]  # fmt: skip


def test_classes_and_keypoints_in_their_order() -> None:
    """By model_index, not by their places; the class is what a keypoint's label begins with."""
    schema = schema_of_config(CONFIG, "config")
    assert schema.classes == ("arm", "bolt")
    assert [(one.label, one.owner, one.name) for one in schema.keypoints] == [
        ("arm.left", "arm", "left"), ("arm.right", "arm", "right"), ("bolt.head", "bolt", "head"),
    ]  # fmt: skip
    assert schema.image == "image"
    assert schema.categories() == CATEGORIES


def test_there_and_back() -> None:
    text = config_of(CATEGORIES, with_crowd=True)
    assert schema_of_config(text, "made").categories() == CATEGORIES
    root = XML.fromstring(text)
    controls = {one.get("name"): one.tag for one in root if one.get("toName") == "image"}
    assert controls == {
        "poly": "PolygonLabels", "box": "RectangleLabels", "brush": "BrushLabels", "crowd": "BrushLabels",
        "crowd_box": "RectangleLabels", "kp": "KeyPointLabels", "kp_hidden": "KeyPointLabels", "group": "Number",
    }  # fmt: skip
    for name in ("kp", "kp_hidden"):  # without them the server's own COCO export fails
        labels = root.findall(f"./KeyPointLabels[@name='{name}']/Label")
        assert [(one.get("value"), one.get("model_index")) for one in labels] == [
            ("arm.left", "0"), ("arm.right", "1"), ("bolt.head", "2"),
        ]  # fmt: skip


def test_names_are_escaped_and_keypoints_can_be_absent() -> None:
    text = config_of([{"id": 1, "name": 'nut & "bolt" <x>'}])
    assert schema_of_config(text, "made").classes == ('nut & "bolt" <x>',)
    assert "KeyPointLabels" not in text
    assert "crowd" not in text


def test_keypoints_are_given_to_classes() -> None:
    plain = CONFIG.replace('"arm.', '"').replace('"bolt.head"', '"head"')
    schema = schema_of_config(plain, "config")
    assert [one.owner for one in schema.keypoints] == ["", "", ""]
    owned = schema.owned({"bolt": ["head"], "arm": ["left", "right"]})
    assert owned.names("arm") == ["left", "right"]
    assert owned.categories() == CATEGORIES
    with pytest.raises(ValueError, match="'nut' is no class; expected one of arm, bolt"):
        schema.owned({"nut": ["head"]})


def test_what_is_no_configuration() -> None:
    with pytest.raises(ValueError, match=r"config.xml: is no XML .*; expected a labelling configuration"):
        schema_of_config("<View>", "config.xml")
