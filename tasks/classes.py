"""The class map of a data set. No torch: manifests and reports read it too."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ClassMap:
    """The classes of a data set: what is detected, what is segmented, and how the two relate.

    ``det_to_seg[c]`` is the segmentation class of detection class ``c``, or -1 where there is none; several detection
    classes may share one. Labels are 0-based and hold no background.
    """

    detection: tuple[str, ...] = ()
    segmentation: tuple[str, ...] = ()
    det_to_seg: tuple[int, ...] = ()
    keypoints: tuple[str, ...] = ()  # names of the P keypoints of an object, the same for every class
    flip_pairs: tuple[tuple[int, int], ...] = ()  # keypoints that change places in a mirrored image
    skeleton: tuple[tuple[int, int], ...] = field(default=(), compare=False)  # keypoints that pictures join by a line

    def __post_init__(self) -> None:
        if len(self.det_to_seg) != len(self.detection):
            raise ValueError(
                f"ClassMap.det_to_seg has {len(self.det_to_seg)} entries for {len(self.detection)} detection classes; "
                "give one segmentation class (or -1) for each"
            )
        for name, target in zip(self.detection, self.det_to_seg, strict=True):
            if not -1 <= target < len(self.segmentation):
                raise ValueError(
                    f"ClassMap.det_to_seg maps {name!r} to {target}; expected -1 or a segmentation class below "
                    f"{len(self.segmentation)}"
                )
