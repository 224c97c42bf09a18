"""What may be labeled in Label Studio: its labelling configuration (XML) out of classes, and classes out of one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from xml.etree import ElementTree as XML

from tasks.data.combined import flip_pairs

_SHAPES = ("PolygonLabels", "RectangleLabels", "BrushLabels", "Labels")


@dataclass(frozen=True)
class KeypointLabel:
    """One keypoint, as it is labeled."""

    label: str  # as Label Studio has it
    owner: str = ""  # the class whose objects have it; "" = that is not said
    flip: str = ""  # the label that it becomes in a mirrored image

    @property
    def name(self) -> str:
        """Its name within its class: "tip" of "rocker_arm.tip"."""
        return self.label.removeprefix(f"{self.owner}.")


@dataclass(frozen=True)
class LabelSchema:
    """Classes and keypoints, both in their order."""

    classes: tuple[str, ...]
    keypoints: tuple[KeypointLabel, ...] = ()
    image: str = ""  # key of a task's data that holds the image; "" = that is not said

    def owned(self, lists: Mapping[str, Sequence[str]]) -> "LabelSchema":
        """The same with these keypoints for some classes: ``{class: labels}``. ValueError for another class."""
        for name in lists:
            if name not in self.classes:
                raise ValueError(
                    f"keypoints: {name!r} is no class; expected one of {', '.join(self.classes)}: rename it"
                )
        known = {one.label: one for one in self.keypoints}
        chosen = [
            replace(known.get(label, KeypointLabel(label)), owner=name) for name in lists for label in lists[name]
        ]
        rest = [one for one in self.keypoints if one.label not in {other.label for other in chosen}]
        return replace(self, keypoints=(*chosen, *rest))

    def of(self, label: str) -> tuple[KeypointLabel, ...]:
        """The keypoints that have a label, one for each class that has it."""
        return tuple(one for one in self.keypoints if one.label == label)

    def names(self, owner: str) -> list[str]:
        """The names of the keypoints of a class."""
        return [one.name for one in self.keypoints if one.owner == owner]

    def categories(self) -> list[dict[str, Any]]:
        """The categories of a combined COCO file, numbered from 1."""
        found: list[dict[str, Any]] = []
        for number, name in enumerate(self.classes, start=1):
            category: dict[str, Any] = {"id": number, "name": name, "supercategory": name, "isthing": 1}
            own = [one for one in self.keypoints if one.owner == name]
            if own:
                category |= {"keypoints": [one.name for one in own], "skeleton": []}
                places = {one.label: i for i, one in enumerate(own)}
                pairs = [[i, places[one.flip]] for i, one in enumerate(own) if one.flip in places]
                if pairs:
                    category["flip_pairs"] = [pair for pair in pairs if pair[0] < pair[1]]
            found.append(category)
        return found


def schema_of_config(text: str, where: str) -> LabelSchema:
    """What a labelling configuration offers. ValueError where it is no XML."""
    try:
        root = XML.fromstring(text)
    except XML.ParseError as error:
        raise ValueError(
            f"{where}: is no XML ({error}); expected a labelling configuration: copy it from the project's settings"
        ) from None
    classes: dict[str, None] = {}
    points: dict[str, tuple[float, KeypointLabel]] = {}
    for tag in root.iter():
        for one in tag.iter("Label") if tag.tag in (*_SHAPES, "KeyPointLabels") else ():
            label = one.get("alias") or one.get("value") or ""
            if tag.tag in _SHAPES:
                classes.setdefault(label)
            else:
                place = _number(one.get("model_index"), len(points))
                points.setdefault(label, (place, KeypointLabel(label, one.get("object", ""), one.get("flip", ""))))
    ordered = [point for _, point in sorted(points.values(), key=lambda found: found[0])]
    names = sorted(classes, key=len, reverse=True)  # the longest class that a label begins with is its own
    owned = [
        one if one.owner else replace(one, owner=next((c for c in names if one.label.startswith(f"{c}.")), ""))
        for one in ordered
    ]
    image = next((tag.get("value", "").removeprefix("$") for tag in root.iter("Image")), "")
    return LabelSchema(tuple(classes), tuple(owned), image)


def label_of(category: Mapping[str, Any], name: str) -> str:
    """The label of a keypoint: unique among all classes."""
    return name if name.startswith(f"{category['name']}.") else f"{category['name']}.{name}"


def config_of(categories: Sequence[Mapping[str, Any]], with_crowd: bool = False) -> str:
    """The labelling configuration (XML) for the categories of a combined COCO file.

    Polygons, boxes, brushes and keypoints on one image. A hidden keypoint has a control of its own (``kp_hidden``), as
    the short export (JSON-MIN) loses choices that belong to a region; ``group`` numbers the parts of one object; crowds
    have the controls ``crowd`` and ``crowd_box``. ``model_index`` is there for the server's own COCO export,
    which fails without it.
    """
    view = XML.Element("View")
    XML.SubElement(view, "Image", name="image", value="$image", zoom="true", rotateControl="true")
    shapes = [("PolygonLabels", "poly"), ("RectangleLabels", "box"), ("BrushLabels", "brush")]
    if with_crowd:
        shapes += [("BrushLabels", "crowd"), ("RectangleLabels", "crowd_box")]
    for tag, name in shapes:
        control = XML.SubElement(view, tag, name=name, toName="image")
        for one in categories:
            XML.SubElement(control, "Label", value=str(one["name"]), category_id=str(one["id"]))
    if any(one.get("keypoints") for one in categories):
        for name in ("kp", "kp_hidden"):
            _keypoint_labels(XML.SubElement(view, "KeyPointLabels", name=name, toName="image"), categories)
    XML.SubElement(view, "Number", name="group", toName="image", perRegion="true")
    XML.indent(view)
    return XML.tostring(view, encoding="unicode") + "\n"


def _keypoint_labels(control: XML.Element, categories: Sequence[Mapping[str, Any]]) -> None:
    index = 0
    for one in categories:
        names: list[str] = list(one.get("keypoints") or ())
        mirror: dict[int, int] = {}
        for a, b in flip_pairs(one):
            mirror |= {a: b, b: a}
        for i, name in enumerate(names):
            label = XML.SubElement(control, "Label", value=label_of(one, name), model_index=str(index))
            label.set("object", str(one["name"]))
            if i in mirror:
                label.set("flip", label_of(one, names[mirror[i]]))
            index += 1


def _number(text: str | None, default: int) -> float:
    try:
        return float(text) if text else float(default)
    except ValueError:
        return float(default)
