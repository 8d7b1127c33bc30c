"""One image file as RGB, or an error that names it."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image


def rgb(name: str, source: bytes | str | Path) -> "Image":
    """Decode one image to RGB, 8 bits a channel.

    Parameters
    ----------
    name : str
        What an error calls it.
    source : bytes or path
        The file's content, or where it lies.

    Returns
    -------
    PIL.Image.Image
        In mode "RGB". Grey levels are repeated, and a transparency is dropped, as torchvision does.

    Raises
    ------
    ValueError
        A file that is damaged or no image, or one with more than 8 bits a channel.
    """
    from PIL import Image  # here, since the library's import should stay light

    try:
        with Image.open(BytesIO(source) if isinstance(source, bytes) else source) as file:
            depth = _too_deep(file)
            file.info.pop("transparency", None)  # of a palette: Pillow would warn that it drops it
            image = file.convert("RGB")
    except Exception as error:  # damaged bytes make Pillow's decoders raise errors of any kind
        raise ValueError(f"{name} is no readable image ({error}): repair or remove it") from error
    if depth:
        raise ValueError(f"{name} has more than 8 bits a channel ({depth}): convert it to 8 bits")
    return image


def _too_deep(file: "Image") -> str:
    """How an image not yet decoded stores more than 8 bits, which Pillow would cut; else ""."""
    if file.mode.startswith(("I", "F")):
        return file.mode
    for codec, _, _, args in file.tile:
        # A raw mode as "RGB;16B" has 16 bits a channel, but BMP's "BGR;16" has them a pixel.
        if ";16" in str(args).replace("BGR;16", "") or (codec.startswith("ppm") and args[1] > 255):
            return str(args)
    return ""
