"""What the header of an image says, without its pixels."""

from collections.abc import Sequence

from PIL import ExifTags, Image

from tasks.data.decoding import BROKEN, broken_by
from tasks.data.files import Place, opened

_TURNED = (5, 6, 7, 8)  # orientations of EXIF that swap height and width


def header_size(uri: str, base: Place, modes: Sequence[str] = ()) -> tuple[int, int]:
    """H, W of an image as it is shown, after what its header says of turns.

    FileNotFoundError, or ValueError where it is no image or of none of Pillow's ``modes``; both name the file.
    """
    with opened(uri, base) as file:
        try:
            image = Image.open(file)
            # A PNG without this key would be decoded to its end; of a TIFF, Pillow gives the size as it is shown.
            is_told = image.format != "TIFF" and (image.format != "PNG" or "exif" in image.info)
            exif = image.getexif() if is_told else {}
        except BROKEN as error:
            raise ValueError(
                f"{uri}: has no header that can be read ({broken_by(error)}); expected a JPEG or PNG: "
                f"copy it again or leave it out"
            ) from None
    if modes and image.mode not in modes:
        raise ValueError(f"{uri}: is of mode {image.mode}; expected {' or '.join(modes)}: convert it")
    width, height = image.size
    return (width, height) if exif.get(ExifTags.Base.Orientation) in _TURNED else (height, width)
