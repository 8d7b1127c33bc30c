"""Distances as text: whole numbers of 1/10,000, packed and written in base 64.

A matrix of 161 epochs has 12,880 pairs. In digits that is 60 kB, and a run has several: packed, a
whole result stays below 200 kB. Any language reads it back: undo base 64, then zlib; the first half
of the bytes are the numbers modulo 256, the second half how often 256 goes into them; divide by
10,000.
"""

import base64
import binascii
import zlib

import numpy as np
import torch
from torch import Tensor

PARTS = 10_000
UNIT = 1 / PARTS


def pack(values: Tensor) -> str:
    """Write distances as text, rounded to four decimals.

    Parameters
    ----------
    values : Tensor, in [0, 1]
        Of any shape, row after row.

    Returns
    -------
    str

    Raises
    ------
    ValueError
        NaN or a number outside [0, 1].

    Examples
    --------
    >>> unpack(pack(torch.tensor([0.5, 0.12344])), (2,))
    tensor([0.5000, 0.1234], dtype=torch.float64)
    """
    values = values.detach().double().cpu()
    if not ((values >= 0) & (values <= 1)).all():  # NaN is neither
        raise ValueError("distances hold NaN or numbers outside [0, 1]")
    whole = (values.flatten() * PARTS).round().numpy().astype("<u2")
    low_then_high = whole.view(np.uint8).reshape(-1, 2).T.tobytes()  # packs better than in pairs
    return base64.b64encode(zlib.compress(low_then_high, 9)).decode("ascii")


def unpack(text: str, shape: tuple[int, ...]) -> Tensor:
    """Read what :func:`pack` wrote.

    Parameters
    ----------
    text : str
    shape : tuple of int

    Returns
    -------
    Tensor of that shape, float64

    Raises
    ------
    ValueError
        Text that was not packed so, or holds another number of values.
    """
    try:
        raw = zlib.decompress(base64.b64decode(text, validate=True))
        low, high = np.frombuffer(raw, np.uint8).reshape(2, *shape).astype(np.int64)
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ValueError(f"these are no {shape} packed distances ({error})") from error
    return torch.from_numpy((low + 256 * high) / PARTS)


def pack_pairs(matrix: Tensor) -> str:
    """Write a symmetric matrix ``(T, T)`` with zero diagonal by the pairs above it.

    >>> m = torch.tensor([[0, 0.2, 0.3], [0.2, 0, 0.1], [0.3, 0.1, 0]]).double()
    >>> torch.allclose(unpack_pairs(pack_pairs(m), 3), m)
    True
    """
    rows, columns = torch.triu_indices(*matrix.shape, offset=1)
    return pack(matrix.cpu()[rows, columns])


def unpack_pairs(text: str, size: int) -> Tensor:
    """Read what :func:`pack_pairs` wrote: ``(size, size)``, float64."""
    rows, columns = torch.triu_indices(size, size, offset=1)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix[rows, columns] = unpack(text, (len(rows),))
    return matrix + matrix.T
