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
            mode, image = file.mode, file.convert("RGB")
    except Exception as error:  # damaged bytes make Pillow's decoders raise errors of any kind
        raise ValueError(f"{name} is no readable image ({error}): repair or remove it") from error
    if mode.startswith(("I", "F")):  # Pillow would clip their values to 255
        raise ValueError(f"{name} has more than 8 bits a channel ({mode}): convert it to 8 bits")
    return image
