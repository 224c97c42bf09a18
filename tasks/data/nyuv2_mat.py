"""The frames of nyu_depth_v2_labeled.mat, and the two small files beside it.

The file is of MATLAB 7.3, which is HDF5, 2.8 GB large: it is read frame by frame. MATLAB's axes come reversed.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from tasks.data.files import Place, read_bytes
from tasks.data.label_maps import objects_of
from tasks.data.manifest import ObjectRecord
from tasks.data.s3 import AT_FAULT

_PER_LABEL = 256  # numbers of the instances of a label, which are 8-bit
_CHUNKS = 64 << 20  # bytes of decompressed chunks that are kept: a chunk may hold parts of several frames


class LabeledMat:
    """An open nyu_depth_v2_labeled.mat; frames are numbered from 0.

    ValueError, naming the file and the frame, for what is broken.
    """

    def __init__(self, path: Place, file: Any, nyu40: NDArray[np.uint8], depths: str) -> None:
        self.path, self._file, self._nyu40, self._depths = path, file, nyu40, depths
        shape = self._shape("images", 4)
        self.count, self.size = shape[0], (shape[3], shape[2])  # H, W
        self.has_instances = "instances" in file
        for name in ("labels", depths, *(["instances"] if self.has_instances else [])):
            if self._shape(name, 3) != (shape[0], *shape[2:]) or shape[1] != 3:
                raise ValueError(
                    f"{path}: images is of {shape} and {name} of {self._shape(name, 3)}; expected N x 3 x W x H and "
                    f"N x W x H: download it again"
                )

    def image(self, frame: int) -> NDArray[np.uint8]:
        """The photo ``[H, W, 3]``."""
        return np.ascontiguousarray(self._read("images", frame).transpose(2, 1, 0), np.uint8)

    def depth(self, frame: int) -> NDArray[np.float32]:
        """Metres ``[H, W]``, NaN where there is no depth."""
        metres = self._read(self._depths, frame).T.astype(np.float32)
        return np.ascontiguousarray(np.where(np.isfinite(metres) & (metres > 0), metres, np.float32(np.nan)))

    def labels(self, frame: int) -> NDArray[np.int64]:
        """The file's own labels ``[H, W]``, 1..894; 0 = none."""
        found = self._read("labels", frame).T.astype(np.int64)
        if not 0 <= found.min() <= found.max() < len(self._nyu40):
            raise ValueError(
                f"{self.path}: frame {frame + 1} has the label {found.max()}; expected 0..{len(self._nyu40) - 1}, as "
                f"there are names: download it again"
            )
        return found

    def nyu40(self, labels: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The NYU-40 labels ``[H, W]`` of the file's own, 1..40; 0 = none."""
        return self._nyu40[labels]

    def objects(
        self, frame: int, labels: NDArray[np.int64], classes: Mapping[int, int]
    ) -> tuple[ObjectRecord, ...] | None:
        """The instances of some NYU-40 labels (label -> class); None where the file has no instances."""
        if not self.has_instances:
            return None
        instances = self._read("instances", frame).T.astype(np.int64)  # numbered within a label; 0 = none
        ids = np.where((labels > 0) & (instances > 0), labels * _PER_LABEL + instances, 0)

        def kind(value: int) -> tuple[int, bool] | None:
            label = int(self._nyu40[value // _PER_LABEL])
            return (classes[label], False) if label in classes else None

        return objects_of(ids, kind)

    def scene(self, frame: int) -> str:
        """The name of its scene; "" where the file has none."""
        if "scenes" not in self._file:
            return ""
        return _text(self._file, "scenes", frame, self.path)

    def _shape(self, name: str, axes: int) -> tuple[int, ...]:
        shape = tuple(getattr(self._file.get(name), "shape", ()))
        if len(shape) != axes:
            raise ValueError(
                f"{self.path}: has no array {name!r} of {axes} axes; expected the labeled set of NYU Depth V2: "
                f"download it again"
            )
        return shape

    def _read(self, name: str, frame: int) -> NDArray[Any]:
        try:
            found: NDArray[Any] = self._file[name][frame]
        except AT_FAULT:
            raise  # the storage is at fault, not the file
        except (OSError, RuntimeError) as error:
            raise ValueError(
                f"{self.path}: {name} of frame {frame + 1} cannot be read ({error}); expected a whole file: download "
                f"it again"
            ) from None
        return found


@contextmanager
def opened(path: Place, mapping: Place, depths: str) -> Iterator[LabeledMat]:
    """The open file, with ``mapping`` from its 894 labels to 40, and with the depth of its array ``depths``.

    ValueError names what is wrong with either file.
    """
    if find_spec("h5py") is None:
        raise ValueError(
            f"{path}: reading it needs the package 'h5py', which is not installed; type pip install 'mtal[nyuv2]'"
        )
    content = read_mat(mapping, ("mapClass",))
    try:
        source = path if isinstance(path, Path) else path.open()  # an object is read by ranges
        file = import_module("h5py").File(source, "r", rdcc_nbytes=_CHUNKS)
    except AT_FAULT:
        raise
    except OSError as error:
        raise ValueError(f"{path}: is no whole HDF5 file ({error}); expected MATLAB 7.3: download it again") from None
    with file:
        yield LabeledMat(path, file, _nyu40(file, path, content, mapping), depths)


def _nyu40(file: Any, path: Place, content: dict[str, Any], mapping: Place) -> NDArray[np.uint8]:
    """NYU-40 label of each label of the file; 0 stays 0. The names of both files must agree, where both have them."""
    to = content["mapClass"].ravel()
    if not (to.dtype.kind in "iu" and len(to) and to.min() >= 0 and to.max() <= 40):
        raise ValueError(f"{mapping}: mapClass holds others than 0..40; expected NYU-40 labels: download it again")
    names = [str(one.item()) for one in content["allClassName"].ravel()] if "allClassName" in content else None
    found = [_text(file, "names", i, path) for i in range(file["names"].size)] if "names" in file else names
    if found is not None and (len(found) != len(to) or names not in (None, found)):
        raise ValueError(f"{mapping}: maps other labels than {path} has; expected the same {len(found)} names")
    return np.concatenate([[0], to]).astype(np.uint8)


def _text(file: Any, name: str, index: int, path: Place) -> str:
    """One of the texts of a MATLAB cell: a reference to its characters."""
    try:
        return "".join(map(chr, file[file[name][0, index]][:].ravel()))
    except AT_FAULT:
        raise
    except (OSError, RuntimeError, KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path}: {name}[{index}] cannot be read ({error}); expected a text: download it again"
        ) from None


def read_splits(path: Place) -> dict[str, list[int]]:
    """The official lists of splits.mat: {"train": ..., "test": ...}, numbers from 1."""
    content = read_mat(path, ("trainNdxs", "testNdxs"))
    return {name: [int(one) for one in content[f"{name}Ndxs"].ravel()] for name in ("train", "test")}


def check_frames(where: str, frames: Mapping[str, Sequence[int]], count: int) -> None:
    """ValueError, naming ``where``, for a number that is no frame, or that comes twice."""
    seen: set[int] = set()
    for split, numbers in frames.items():
        for number in numbers:
            if not 1 <= number <= count or number in seen:
                found = "twice" if number in seen else f"in {split}"
                raise ValueError(
                    f"{where}: lists frame {number} {found}; expected each of 1..{count} at most once: correct it"
                )
            seen.add(number)


def read_mat(path: Place, names: Sequence[str]) -> dict[str, Any]:
    """The arrays of a small MATLAB file (before 7.3); ValueError names what is missing."""
    data = read_bytes(str(path), Path())
    try:
        content: dict[str, Any] = loadmat(BytesIO(data))
    except (OSError, ValueError, TypeError, EOFError, NotImplementedError, MatReadError, zlib.error) as error:
        raise ValueError(f"{path}: is no MATLAB file that can be read ({error}); download it again") from None
    for name in names:
        if name not in content or content[name].dtype.kind not in "iuf":
            raise ValueError(f"{path}: holds no numbers {name!r}; expected {', '.join(names)}: download it again")
    return content
