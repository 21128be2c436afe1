"""Label Studio's run lengths of a brush: bits that say which bytes an RGBA image has, row by row.

A head of 32 bits with the number of bytes, 5 with the bits of a value less one, and four times 4 with the bits of a
length less one. Then, until all bytes are said: one bit for whether a value repeats, two for which of the four sizes
the length has, the length less one, and the value, or that many values. What is left of the last byte is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from anymask.errors import DataError
from anymask.geometry.rle import check_pixels

_CHANNELS = 4
_LENGTH_BITS = np.array([3, 4, 8, 16])
_VALUE_BITS = 8
_HEAD_BITS = 32 + 5 + 4 * 4
_LONGEST = 1 << 16
_OPAQUE = 255
_VISIBLE = 127
"""What Label Studio's own converters take for paint: an alpha above it."""


def encode(mask: Bool[np.ndarray, "h w"]) -> list[int]:
    """Return a mask as opaque white on transparent black; raises InputError beyond `rle.MAX_PIXELS`."""
    check_pixels((mask.shape[0], mask.shape[1]))
    flat = np.ascontiguousarray(mask, bool).ravel()
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]) + 1, flat.size)[: flat.size]
    lengths = np.diff(ends, prepend=0) * _CHANNELS
    values = np.where(flat[ends - 1], _OPAQUE, 0) if flat.size else np.zeros(0, np.int64)
    pieces = -(-lengths // _LONGEST)
    first = np.cumsum(pieces) - pieces
    piece = np.full(int(pieces.sum()), _LONGEST)
    piece[first + pieces - 1] = lengths - (pieces - 1) * _LONGEST
    return _packed(flat.size * _CHANNELS, piece, np.repeat(values, pieces))


def decode(source: Sequence[int], size: tuple[int, int]) -> Bool[np.ndarray, "h w"]:
    """Return the mask of an image of `size` = (height, width): where the paint is more opaque than not.

    Raises DataError if the bytes are malformed, or of another size.
    """
    check_pixels(size)
    try:
        content = np.asarray(source, np.int64)
        if content.ndim != 1 or content.size < 8 or content.min() < 0 or content.max() > 255:
            raise ValueError("no list of bytes")
        alpha = _unpacked(content.astype(np.uint8), size[0] * size[1] * _CHANNELS)
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise DataError(f"the run lengths of a brush are malformed ({error})") from error
    mask: Bool[np.ndarray, "h w"] = alpha.reshape(*size, _CHANNELS)[..., 3] > _VISIBLE
    return mask


def _packed(count: int, lengths: Int[np.ndarray, " n"], values: Int[np.ndarray, " n"]) -> list[int]:
    """Pack repeated values into bits, all runs at once."""
    kind = np.searchsorted(1 << _LENGTH_BITS, lengths)
    bits = _LENGTH_BITS[kind]
    codes = (((0b100 | kind) << bits | (lengths - 1)) << _VALUE_BITS) | values
    widths = 3 + bits + _VALUE_BITS
    head = (count << 5 | _VALUE_BITS - 1) << 16
    for place, length in enumerate(_LENGTH_BITS.tolist()):
        head |= (length - 1) << 4 * (3 - place)
    codes, widths = np.append(head, codes), np.append(_HEAD_BITS, widths)
    ends = np.cumsum(widths)
    shifts = np.repeat(ends, widths) - 1 - np.arange(ends[-1])
    stream = (np.repeat(codes, widths) >> shifts & 1).astype(np.uint8)
    packed: list[int] = np.packbits(stream).tolist()
    return packed if ends[-1] % 8 else [*packed, 0]  # as Label Studio's own encoder ends


def _unpacked(content: np.ndarray, expected: int) -> np.ndarray:
    """Return the bytes that are said; raises ValueError."""
    bits = np.unpackbits(content)
    text = bits.tobytes().translate(bytes([48, 49]) + bytes(254)).decode()
    if int(text[:32], 2) != expected:
        raise ValueError(f"{int(text[:32], 2):,} bytes are said, of another image size: {expected:,} were expected")
    word = int(text[32:37], 2) + 1
    sizes = [int(text[37 + 4 * place : 41 + 4 * place], 2) + 1 for place in range(4)]
    if word != _VALUE_BITS:
        raise ValueError(f"values have {word} bits, where 8 were expected")
    out = np.zeros(expected, np.uint8)
    place, filled = _HEAD_BITS, 0
    while filled < expected:
        repeats, size = text[place] == "1", sizes[int(text[place + 1 : place + 3], 2)]
        end = filled + int(text[place + 3 : place + 3 + size], 2) + 1
        place += 3 + size
        num_values = 1 if repeats else end - filled
        after = place + word * num_values
        if after > len(text) or end > expected:
            raise ValueError("they end too early, or say too much")
        out[filled:end] = int(text[place:after], 2) if repeats else np.packbits(bits[place:after])
        place, filled = after, end
    return out
