"""Bits in words: packing, unpacking and counting, each in a few operations on whole tensors."""

import torch
from torch import Tensor

GATHER = 0x0102040810204080  # sum of 2^(56 - 7 i): brings the lowest bit of byte i to bit 56 + i
EVERY_2 = 0x5555555555555555  # 01 01 01 ...
EVERY_4 = 0x3333333333333333  # 0011 0011 ...
EVERY_8 = 0x0F0F0F0F0F0F0F0F
ONES = 0x0101010101010101


def pack(bits: Tensor) -> Tensor:
    """Pack bits into words of 64, the first one lowest; the last word is filled up with zeros.

    Parameters
    ----------
    bits : Tensor (B, w), bool

    Returns
    -------
    Tensor (B, ceil(w / 64)), int64

    Examples
    --------
    >>> pack(torch.tensor([[True, False, True]])).tolist()
    [[5]]
    """
    rows, width = bits.shape
    if width % 64 or bits.storage_offset() % 8 or bits.stride() != (width, 1):
        whole = bits.new_zeros(rows, width + -width % 64)
        whole[:, :width] = bits
        bits = whole
    # Eight bytes that hold 0 or 1 each are one word: one product moves all eight bits together.
    eights = bits.view(torch.int64) * GATHER >> 56  # -128 to 127, for 0 to 255
    return eights.to(torch.uint8).view(torch.int64)


def unpack(packed: Tensor, width: int) -> Tensor:
    """Bits of bytes, the lowest first.  packed (..., n) uint8 -> bool (..., width).

    >>> unpack(torch.tensor([[5]], dtype=torch.uint8), 3).tolist()
    [[True, False, True]]
    """
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    return ((packed.unsqueeze(-1) >> places) & 1).flatten(-2)[..., :width].bool()


def popcount(words: Tensor) -> Tensor:
    """Count the ones of each word.  words (...) int64 -> int64 (...), from 0 to 64.

    Neighbouring fields of 1, 2, then 4 bits are added inside each word; one product adds its bytes.

    >>> popcount(torch.tensor([0, 5, -1])).tolist()
    [0, 2, 64]
    """
    x = words - ((words >> 1) & EVERY_2)  # the shift repeats the sign; the mask takes it off
    x = (x & EVERY_4) + ((x >> 2) & EVERY_4)
    x = (x + (x >> 4)) & EVERY_8
    return (x * ONES) >> 56
