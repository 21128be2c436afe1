"""Cut-outs: pictures with an alpha channel, read from tars or cut from labelled photographs, warped and recoloured."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from PIL import Image

from anymask.data.open import open_data, open_images
from anymask.data.synthetic.canvas import Layer
from anymask.data.synthetic.light import Light, draw_surface
from anymask.data.synthetic.outlines import shrunk_size
from anymask.data.synthetic.textures import log_uniform, noise
from anymask.errors import AnymaskError, DataError

RGBA = UInt8[np.ndarray, "h w 4"]
_MIN_AREA, _MIN_SIDE = 40 * 40, 56
"""Pixels of an object that is worth cutting out, and of the longer side of its box."""
_MAX_FILL = 0.97
"""Of its box: what fills more of it was outlined by a rectangle."""


def load_pictures(
    where: str | Path, *, alpha: bool = False, limit: int | None = None
) -> list[UInt8[np.ndarray, "h w c"]]:
    """The first `limit` images of a tar, a folder or a file of annotations as RGB arrays, or RGBA if `alpha`.

    Broken ones are passed over. Raises DataError when there is no such place or no image in it.
    """
    files = open_images(where)
    images: list[UInt8[np.ndarray, "h w c"]] = []
    for index in range(len(files)):
        if limit is not None and len(images) >= limit:
            break
        try:
            picture = Image.open(io.BytesIO(files.image_bytes(index)))
            images.append(np.array(picture.convert("RGBA" if alpha else "RGB")))
        except (OSError, DataError):
            continue
    if not images:
        raise DataError(f"no image in {where} can be read")
    return images


def load_cutouts(where: str | Path, *, per_image: int = 4) -> list[RGBA]:
    """Cut-outs: images with their alpha, or where they are labelled the objects that are outlined in them.

    Of a labelled image at most `per_image` objects are cut out, drawn at random but the same every time: such as are
    whole in it, and neither tiny nor mere boxes. Raises DataError where there is no cut-out.
    """
    try:
        files = open_data(where)
    except DataError:
        return load_pictures(where, alpha=True)
    rng = np.random.default_rng(0)
    found: list[RGBA] = []
    for index in range(len(files)):
        try:
            sample = files.sample(index)
        except AnymaskError:
            continue
        objects = [mask for mask in sample.masks if _is_whole_object(mask)]
        found += [cut_out(sample.image, objects[i]) for i in rng.permutation(len(objects))[:per_image]]
    if not found:
        raise DataError(f"no object in {where} is large enough, and whole in its image, to be cut out")
    return found


def _is_whole_object(mask: Bool[np.ndarray, "h w"]) -> bool:
    if mask[[0, -1]].any() or mask[:, [0, -1]].any():
        return False
    area = int(mask.sum())
    if area < _MIN_AREA:
        return False
    tall, wide = (int(np.ptp(np.flatnonzero(mask.any(axis)))) + 1 for axis in (1, 0))
    return max(tall, wide) >= _MIN_SIDE and area <= _MAX_FILL * tall * wide


def cut_out(image: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"], *, margin: int = 2) -> RGBA:
    """A masked object as an RGBA cut-out, cropped to its box with a margin. Raises DataError on an empty mask."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(ys):
        raise DataError("cannot cut out an empty mask; it needs at least one pixel")
    top, left = max(0, ys[0] - margin), max(0, xs[0] - margin)
    region = np.s_[top : ys[-1] + margin + 1, left : xs[-1] + margin + 1]
    soft = cv2.GaussianBlur(mask[region].astype(np.float32), (3, 3), 0)
    return np.dstack([image[region], (soft * 255).astype(np.uint8)])


def cutout_layer(
    rng: np.random.Generator,
    cutout: RGBA,
    light: Light,
    size: tuple[int, int],
    *,
    scale: float,
    centre: tuple[float, float],
) -> Layer | None:
    """A cut-out warped by a random affine or perspective map into a canvas of `size`; None if it lies outside.

    `scale` is half its longer side in pixels. Colours are jittered; the one mask is where alpha ≥ ½.
    """
    corners = _corners(rng, cutout, scale) + centre
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    top, left = max(0, int(y0) - 1), max(0, int(x0) - 1)
    bottom, right = min(size[0], int(y1) + 2), min(size[1], int(x1) + 2)
    if bottom - top < 4 or right - left < 4:
        return None
    source = cutout if rng.random() < 0.5 else cv2.flip(cutout, 1)
    factor = 2.4 * scale / max(cutout.shape[:2])
    if factor < 0.7:
        source = cv2.resize(source, shrunk_size(source, factor), interpolation=cv2.INTER_AREA)
    frame = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * [source.shape[1] - 1, source.shape[0] - 1]
    matrix = cv2.getPerspectiveTransform(frame.astype(np.float32), (corners - (left, top)).astype(np.float32))
    warped = cv2.warpPerspective(source, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    colour = _jitter(rng, warped[:, :, :3].astype(np.float32))
    if rng.random() < 0.3:
        draw_surface(rng, light).shade(rng, colour, warped[:, :, 3])
    alpha = warped[:, :, 3] * np.float32(1 / 255)
    label = np.zeros(alpha.shape, np.int16)
    return Layer(top=top, left=left, colour=colour, alpha=alpha, label=label, parents=(-1,))


def _corners(rng: np.random.Generator, cutout: RGBA, scale: float) -> Float[np.ndarray, "4 2"]:
    """Where the corners of a cut-out go, around the origin: clockwise from its top left."""
    height, width = cutout.shape[:2]
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * np.array([width, height]) * (scale / max(height, width))
    angle = rng.normal(0, 0.35) if rng.random() < 0.75 else rng.uniform(0, 2 * np.pi)
    c, s, stretch = np.cos(angle), np.sin(angle), np.exp(rng.normal(0, 0.15))
    corners = corners @ np.diag([stretch, 1 / stretch]) @ np.array([[c, s], [-s, c]])
    if rng.random() < 0.5:
        corners = corners + rng.normal(0, 0.07 * scale, (4, 2))
    return np.asarray(corners, np.float64)


def _jitter(rng: np.random.Generator, colour: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """Other colours for a picture: channels mixed, contrast and brightness changed, and a little texture on top."""
    mix = np.eye(3, dtype=np.float32)
    kind = rng.random()
    if kind < 0.15:
        mix = mix[rng.permutation(3)]
    elif kind < 0.35:
        grey = np.float32(rng.uniform(0.3, 1.0))
        mix = mix * (1 - grey) + grey / 3
    if kind < 0.7:
        mix = mix + rng.normal(0, 0.07, (3, 3)).astype(np.float32)
    colour = cv2.transform(colour, mix * np.float32(rng.uniform(0.45, 1.15))) + np.float32(rng.uniform(-15, 45))
    if rng.random() < 0.5:
        grain = noise(rng, colour.shape[:2], cell=log_uniform(rng, 2, 40), octaves=4, gain=0.8)
        colour *= (1 + (grain - np.float32(0.5)) * np.float32(rng.uniform(0, 0.9)))[:, :, None]
    return colour
