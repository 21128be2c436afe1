"""COCO run-length encoding, the stored form of a mask.

Runs go down the columns, left to right, alternately outside and inside the mask, beginning outside. Stored
form is COCO's compressed string as `str`, ready for JSON, equal to pycocotools' byte for byte. Encoding works
on a mask's box alone and decoding on the runs, so neither pays for pixels outside; the compressing itself and
the set operations are pycocotools'.

pycocotools trusts its input and may crash on a malformed string: whatever comes from outside goes through
`checked`. `decode`, `runs` and `area` check for themselves. It counts in unsigned 32 bits, so that an image may have
`MAX_PIXELS` at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

import cv2
import numpy as np
from jaxtyping import Bool, Float, Int
from pycocotools import mask as coco

from anymask.errors import DataError, InputError
from anymask.geometry import boxes

MAX_PIXELS = 2**32 - 1
_MAX_DIGITS = 7  # of five bits each: enough for any signed difference of two counts


class RLE(TypedDict):
    """A mask of `size` = [height, width] as compressed `counts`."""

    size: list[int]
    counts: str


def check_pixels(size: tuple[int, int]) -> None:
    """Raise InputError if an image of `size` = (height, width) has more pixels than run lengths can count."""
    height, width = size
    if height * width > MAX_PIXELS:
        raise InputError(f"masks of {height} x {width} pixels cannot be stored: {MAX_PIXELS:,} pixels are the most")


def encode(mask: Bool[np.ndarray, "h w"]) -> RLE:
    """Return a mask's stored form; raises InputError beyond `MAX_PIXELS`."""
    x0, y0, x1, y1 = boxes.from_masks(mask).tolist()
    height, width = mask.shape
    return encode_at(mask[y0:y1, x0:x1], (x0, y0), (height, width))


def encode_many(masks: Bool[np.ndarray, "n h w"]) -> list[RLE]:
    """Return the stored form of each mask."""
    size = (masks.shape[1], masks.shape[2])
    found = boxes.from_masks(masks).tolist()
    return [encode_at(mask[y0:y1, x0:x1], (x0, y0), size) for mask, (x0, y0, x1, y1) in zip(masks, found, strict=True)]


def encode_at(crop: Bool[np.ndarray, "hc wc"], offset: tuple[int, int], size: tuple[int, int]) -> RLE:
    """Encode a mask that is known only inside a crop, without ever holding the whole of it.

    `offset` = (x, y) is the crop's top left corner in the image of `size` = (height, width); all outside the
    crop is outside the mask. Raises InputError if the crop reaches beyond the image, or that beyond `MAX_PIXELS`.
    """
    check_pixels(size)
    (x0, y0), (height, width), (rows, columns) = offset, size, crop.shape
    if x0 < 0 or y0 < 0 or x0 + columns > width or y0 + rows > height:
        raise InputError(f"a crop of {rows} x {columns} pixels at {offset} reaches beyond its image, {size}")
    edges = _edges_down_columns(crop)
    column, row = np.divmod(edges, rows + 1)
    edges = (x0 + column) * height + (y0 + row)
    if rows == height and edges.size > 2:
        # A run that reaches the bottom goes on at the top of the next column.
        apart = edges[1:-1:2] != edges[2::2]
        edges = edges[np.concatenate([[True], np.repeat(apart, 2), [True]])]
    counts = np.diff(edges, prepend=0, append=height * width)
    return _compress(counts[:-1] if counts[-1] == 0 and counts.size > 1 else counts, size)


def _edges_down_columns(crop: Bool[np.ndarray, "hc wc"]) -> Int[np.ndarray, " e"]:
    """Return where runs begin and end, alternately, in the crop read column by column with a zero after each."""
    rows, columns = crop.shape
    if crop.size == 0:
        return np.zeros(0, np.int64)
    padded = np.zeros((columns, rows + 1), np.uint8)
    padded[:, :rows] = cv2.transpose(np.ascontiguousarray(crop, bool).view(np.uint8)).reshape(columns, rows)
    flat = padded.ravel()
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    return np.concatenate([[0], changes]) if flat[0] else changes


def decode(rle: RLE) -> Bool[np.ndarray, "h w"]:
    """Return the mask of a stored form. Raises DataError if it is malformed."""
    return decode_columns(rle, 0, rle["size"][1])


def decode_columns(rle: RLE, start: int, stop: int) -> Bool[np.ndarray, "h c"]:
    """Return the mask's columns from `start` to before `stop`, allocating no others.

    Raises DataError if malformed.
    """
    height, width = rle["size"]
    counts = runs(rle)
    start, stop = max(start, 0), min(stop, width)
    if height == 0 or stop <= start:
        return np.zeros((height, max(stop - start, 0)), bool)
    edges = np.clip(np.cumsum(counts), start * height, stop * height)
    lengths = np.diff(edges, prepend=start * height)
    flat = np.repeat(np.arange(lengths.size, dtype=np.int64) % 2 == 1, lengths)
    return cv2.transpose(flat.view(np.uint8).reshape(stop - start, height)).reshape(height, -1).view(np.bool_)


def decode_box(rle: RLE, box: tuple[int, int, int, int] | None = None) -> Bool[np.ndarray, "h w"]:
    """Return the mask within a box (x, y, width, height) in pixels, its own by default, allocating no other columns.

    The box lies in the image. Raises DataError if the mask is malformed.
    """
    x, y, width, height = bbox(rle) if box is None else box
    return decode_columns(rle, x, x + width)[y : y + height]


def decode_grid(rle: RLE, rows: Int[np.ndarray, " r"], columns: Int[np.ndarray, " c"]) -> Bool[np.ndarray, "r c"]:
    """Return the mask where the given rows and columns cross: a smaller picture of it, decoding no other pixel.

    Raises DataError if malformed.
    """
    height, _ = rle["size"]
    places = columns[:, None] * height + rows[None, :]
    inside = np.searchsorted(np.cumsum(runs(rle)), places, side="right") % 2 == 1
    return np.ascontiguousarray(inside.T)


def runs(rle: RLE) -> Int[np.ndarray, " runs"]:
    """Return the uncompressed counts as int64. Raises DataError if the string or its sum makes no sense."""
    height, width = rle["size"]
    counts = _decompress(rle["counts"])
    _check_sum(counts, height, width)
    return counts


def from_uncompressed(counts: Sequence[int] | Int[np.ndarray, " runs"], size: tuple[int, int]) -> RLE:
    """Return the stored form of plain counts, runs of length zero merged away.

    Raises DataError if they do not fit.
    """
    try:
        lengths = np.asarray(counts)
    except ValueError:  # lists within the list, of unequal lengths
        lengths = np.zeros((1, 1))
    if lengths.ndim != 1 or (lengths.size and lengths.dtype.kind not in "iu"):
        raise DataError(f"RLE counts must be a flat list of whole numbers, not {str(counts)[:60]}")
    lengths = lengths.astype(np.int64)
    _check_sum(lengths, *size)
    return _compress(_canonical(lengths), size)


def area(rle: RLE) -> int:
    """Return the mask's pixels. Raises DataError if it is malformed."""
    return int(runs(rle)[1::2].sum())


def bbox(rle: RLE) -> tuple[int, int, int, int]:
    """Return COCO's (x, y, width, height), which counts pixels; all 0 for an empty mask."""
    x, y, width, height = coco.toBbox(rle).tolist()
    return int(x), int(y), int(width), int(height)


def pairwise_iou(a: Sequence[RLE], b: Sequence[RLE]) -> Float[np.ndarray, "n m"]:
    """Return the intersection over union of each mask of `a` with each of `b`; 0 where both are empty.

    Raises InputError unless all are of one size.
    """
    _one_size([*a, *b])
    if not a or not b:
        return np.zeros((len(a), len(b)))
    return np.asarray(coco.iou(list(a), list(b), [False] * len(b)), np.float64).reshape(len(a), len(b))


def merge(rles: Sequence[RLE], *, intersect: bool = False) -> RLE:
    """Return the union, or the intersection, of one or more masks of one size."""
    if not rles:
        raise InputError("nothing to merge: give at least one mask")
    _one_size(rles)
    return _stored(coco.merge(list(rles), intersect=intersect))


def checked(source: object, size: tuple[int, int] | None = None) -> RLE:
    """Return the stored form of an RLE from outside, compressed (str or bytes) or not, or raise DataError.

    Checked are the keys, the size (against `size` = (height, width) if given), the string's digits, every
    count and their sum. Runs of length zero inside are merged away, so that equal masks have equal strings.
    """
    if not isinstance(source, Mapping) or "size" not in source or "counts" not in source:
        raise DataError(f"an RLE is an object with size and counts, not {str(source)[:60]!r}")
    height, width = _checked_size(source["size"])
    if size is not None and (height, width) != tuple(size):
        raise DataError(f"RLE of {height} x {width} pixels does not fit its image of {size[0]} x {size[1]}")
    counts = source["counts"]
    if isinstance(counts, (list, tuple, np.ndarray)):
        return from_uncompressed(counts, (height, width))
    if not isinstance(counts, (str, bytes)):
        raise DataError(f"RLE counts must be a string or a list of whole numbers, not {type(counts).__name__}")
    return from_uncompressed(_decompress(counts), (height, width))


def _checked_size(size: object) -> tuple[int, int]:
    match size:
        case [int(height), int(width)] if min(height, width) >= 0 and height * width <= MAX_PIXELS:
            return height, width
    raise DataError(f"RLE size must be [height, width], at most {MAX_PIXELS} pixels, not {str(size)[:60]}")


def _check_sum(counts: Int[np.ndarray, " runs"], height: int, width: int) -> None:
    if height * width > MAX_PIXELS:
        raise DataError(f"RLE of {height} x {width} pixels is too large: {MAX_PIXELS:,} pixels are the most")
    if counts.size and int(counts.min()) < 0:
        raise DataError(f"RLE of {height} x {width} pixels has a negative count; no run may be below 0")
    total = int(counts.sum())
    if total != height * width or (counts.size and int(counts.max()) > total):
        raise DataError(f"RLE of {height} x {width} pixels has counts for {total} instead of {height * width}")


def _canonical(counts: Int[np.ndarray, " runs"]) -> Int[np.ndarray, " runs"]:
    """Merge runs around a run of length zero, keeping only a first one of zero."""
    inside = np.arange(counts.size) % 2 == 1
    inside, counts = inside[counts > 0], counts[counts > 0]
    if counts.size == 0:
        return np.zeros(1, np.int64)
    begins = np.flatnonzero(np.diff(inside, prepend=~inside[0]))
    merged = np.add.reduceat(counts, begins)
    return np.concatenate([[0], merged]) if inside[0] else merged


def _compress(counts: Int[np.ndarray, " runs"], size: tuple[int, int]) -> RLE:
    height, width = size
    return _stored(coco.frPyObjects({"size": [height, width], "counts": counts}, height, width))


def _stored(rle: Mapping[str, object]) -> RLE:
    """Turn what pycocotools returns into the stored form."""
    size, counts = rle["size"], rle["counts"]
    assert isinstance(size, list) and isinstance(counts, bytes)
    return {"size": [int(side) for side in size], "counts": counts.decode("ascii")}


def _decompress(counts: str | bytes) -> Int[np.ndarray, " runs"]:
    """Read COCO's string of signed numbers; from the fourth on each adds to the number two before.

    A number is digits of five bits, low first, with a sixth bit that says whether more follow.
    """
    text = counts.encode("utf-8", "surrogatepass") if isinstance(counts, str) else counts
    if not text:
        return np.zeros(0, np.int64)
    digits = np.frombuffer(text, np.uint8).astype(np.int64) - 48
    if int(digits.min()) < 0 or int(digits.max()) > 63:
        raise DataError("RLE string has characters outside COCO's alphabet ('0' to 'o')")
    last = np.flatnonzero(digits < 32)
    lengths = np.diff(last, prepend=-1)
    if last.size == 0 or last[-1] != digits.size - 1 or int(lengths.max()) > _MAX_DIGITS:
        raise DataError("RLE string is cut short or has a number of more than 32 bits")
    first = last - lengths + 1
    shifts = 5 * (np.arange(digits.size) - np.repeat(first, lengths))
    numbers = np.add.reduceat((digits & 31) << shifts, first)
    numbers -= np.where(digits[last] & 16, np.int64(1) << (5 * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _one_size(rles: Sequence[RLE]) -> None:
    sizes = {tuple(rle["size"]) for rle in rles}
    if len(sizes) > 1:
        raise InputError(f"masks must be of one size, not {sorted(sizes)}")
