"""Pasting: cut-outs, seams that hide, and seams that mean nothing."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from anymask.data.synthetic.canvas import Canvas, Layer
from anymask.data.synthetic.light import Light
from anymask.data.synthetic.textures import log_uniform, noise, photographic
from anymask.errors import DataError

RGBA = UInt8[np.ndarray, "h w 4"]
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")


def load_tar_images(
    path: str | Path, *, alpha: bool = False, limit: int | None = None
) -> list[UInt8[np.ndarray, "h w c"]]:
    """The first `limit` pictures of a tar as RGB arrays, or RGBA if `alpha`; broken ones are passed over.

    Raises DataError when there is no such tar or no picture in it.
    """
    images: list[UInt8[np.ndarray, "h w c"]] = []
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                if not member.name.lower().endswith(_SUFFIXES):
                    continue
                if limit is not None and len(images) >= limit:
                    break
                stored = tar.extractfile(member)
                if stored is None:
                    continue
                try:
                    picture = Image.open(io.BytesIO(stored.read()))
                    images.append(np.array(picture.convert("RGBA" if alpha else "RGB")))
                except OSError:
                    continue
    except (OSError, tarfile.TarError) as error:
        raise DataError(
            f"cannot read pictures from {path}: {error}; expected a tar of jpg, png or webp files"
        ) from error
    if not images:
        raise DataError(f"no picture in {path}; expected jpg, png or webp files in the tar")
    return images


def cut_out(image: UInt8[np.ndarray, "h w 3"], mask: Bool[np.ndarray, "h w"], margin: int = 2) -> RGBA:
    """A masked object as an RGBA cut-out, cropped to its box; the mask must not be empty."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(ys):
        raise DataError("cannot cut out an empty mask; it needs at least one pixel")
    top, left = max(0, ys[0] - margin), max(0, xs[0] - margin)
    region = np.s_[top : ys[-1] + margin + 1, left : xs[-1] + margin + 1]
    soft = cv2.GaussianBlur(mask[region].astype(np.float32), (3, 3), 0)
    return np.dstack([image[region], (soft * 255).astype(np.uint8)])


def cutout_layer(
    rng: np.random.Generator, cutout: RGBA, size: tuple[int, int], *, scale: float, centre: tuple[float, float]
) -> Layer | None:
    """A cut-out warped by a random affine or perspective map into a canvas of `size`; None if it lies outside.

    `scale` is half its longer side in pixels. Colours are jittered; the one mask is where alpha ≥ ½.
    """
    height, width = cutout.shape[:2]
    half = np.array([width, height]) * (scale / max(height, width))
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32) * half
    angle = rng.normal(0, 0.35) if rng.random() < 0.8 else rng.uniform(0, 2 * np.pi)
    stretch = np.exp(rng.normal(0, 0.15))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) @ np.diag([stretch, 1 / stretch])
    corners = corners @ turn
    if rng.random() < 0.5:
        corners = corners + rng.normal(0, 0.07 * scale, (4, 2))
    corners = corners + centre
    (x0, y0), (x1, y1) = corners.min(axis=0), corners.max(axis=0)
    top, left = max(0, int(y0) - 1), max(0, int(x0) - 1)
    bottom, right = min(size[0], int(y1) + 2), min(size[1], int(x1) + 2)
    if bottom - top < 4 or right - left < 4:
        return None
    source = cutout if rng.random() < 0.5 else np.ascontiguousarray(cutout[:, ::-1])
    shrink = 2.0 * scale / max(height, width)
    if shrink < 0.6:
        factor = 1.2 * shrink
        source = cv2.resize(source, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    frame = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32) * [source.shape[1] - 1, source.shape[0] - 1]
    matrix = cv2.getPerspectiveTransform(frame.astype(np.float32), (corners - (left, top)).astype(np.float32))
    warped = cv2.warpPerspective(source, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR)
    alpha = warped[:, :, 3] * np.float32(1 / 255)
    colour = _jitter(rng, warped[:, :, :3].astype(np.float32))
    return Layer(top=top, left=left, colour=colour, alpha=alpha, label=np.zeros(alpha.shape, np.int16), parents=(-1,))


def _jitter(rng: np.random.Generator, colour: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
    """Other colours for a drawing: channels mixed, contrast and brightness changed, and a little texture on top."""
    mix = np.eye(3, dtype=np.float32)
    kind = rng.random()
    if kind < 0.25:
        mix = mix[rng.permutation(3)]
    elif kind < 0.45:
        grey = np.float32(rng.uniform(0.3, 1.0))
        mix = mix * (1 - grey) + grey / 3
    mix = mix + rng.normal(0, 0.08, (3, 3)).astype(np.float32)
    colour = cv2.transform(colour, mix * np.float32(rng.uniform(0.4, 1.15))) + np.float32(rng.uniform(-15, 60))
    if rng.random() < 0.6:
        grain = noise(rng, colour.shape[:2], cell=log_uniform(rng, 2, 40), octaves=4, gain=0.8)
        colour *= (1 + (grain - np.float32(0.5)) * np.float32(rng.uniform(0, 0.9)))[:, :, None]
    return colour


def blend(rng: np.random.Generator, canvas: Canvas, layer: Layer, light: Light) -> None:
    """Lay an object on the canvas with its shadow and one of several kinds of seam; its mask is the same with all."""
    if rng.random() < 0.8:
        canvas.cast(layer, light)
    height, width = layer.alpha.shape
    region = np.s_[layer.top : layer.top + height, layer.left : layer.left + width]
    alpha, colour = layer.alpha, layer.colour
    kind = rng.random()
    if kind < 0.25 and min(height, width) > 12:
        side = int(rng.choice([3, 3, 5]))
        alpha = cv2.GaussianBlur(alpha, (side, side), 0)
        inside = layer.alpha[:, :, None]
        if side > 3:
            colour = np.where(inside > 0, colour, cv2.blur(colour, (side, side)))
    elif kind < 0.45:
        colour = _match(rng, colour, alpha, canvas.image[region])
    canvas.add(layer, alpha, colour)
    if kind > 0.85:
        _soften(canvas, layer)


def _match(
    rng: np.random.Generator,
    colour: Float32[np.ndarray, "h w 3"],
    alpha: Float32[np.ndarray, "h w"],
    behind: Float32[np.ndarray, "h w 3"],
) -> Float32[np.ndarray, "h w 3"]:
    """The colours moved towards the mean of what is behind: camouflage."""
    solid = (alpha >= 0.5).astype(np.uint8)
    shift = np.array(cv2.mean(behind)[:3], np.float32) - np.array(cv2.mean(colour, solid)[:3], np.float32)
    matched: Float32[np.ndarray, "h w 3"] = colour + shift * np.float32(rng.uniform(0.4, 1.0))
    return matched


def _soften(canvas: Canvas, layer: Layer) -> None:
    """Blur the canvas in a narrow band along the layer's seam."""
    height, width = layer.alpha.shape
    region = np.s_[layer.top : layer.top + height, layer.left : layer.left + width]
    solid = (layer.alpha >= 0.5).astype(np.float32)
    band = 1 - np.abs(cv2.blur(solid, (5, 5)) * 2 - 1)
    canvas.image[region] = cv2.blendLinear(cv2.blur(canvas.image[region], (3, 3)), canvas.image[region], band, 1 - band)


def false_seam(rng: np.random.Generator, canvas: Canvas, photographs: list[UInt8[np.ndarray, "h w 3"]]) -> None:
    """Paste a tint or a piece of a photograph that is no object, with a soft unlabelled seam.

    It changes the paint under everything alike, so that a seam by itself never means a mask.
    """
    height, width = canvas.owner.shape
    side = log_uniform(rng, 0.1, 0.7) * min(height, width)
    tall, wide = (min(limit, max(8, int(side * rng.uniform(0.6, 1.6)))) for limit in (height, width))
    top, left = int(rng.integers(0, height - tall + 1)), int(rng.integers(0, width - wide + 1))
    region = np.s_[top : top + tall, left : left + wide]
    soft = noise(rng, (tall, wide), cell=max(tall, wide) / 3, octaves=2)
    fade_y, fade_x = (np.sin(np.linspace(0, np.pi, n, dtype=np.float32)) for n in (tall, wide))
    share = np.clip(soft * np.sqrt(np.maximum(fade_y[:, None] * fade_x[None, :], 0)) * np.float32(2), 0, 1)
    patch = canvas.image[region]
    kind = rng.random()
    if kind < 0.5 or not photographs:
        patch = patch * np.float32(rng.uniform(0.55, 1.35)) + rng.normal(0, 8, 3).astype(np.float32)
    else:
        other = photographic(rng, (tall, wide), photographs[int(rng.integers(len(photographs)))], least=0.1)
        tone = np.array(cv2.mean(patch)[:3], np.float32) - np.array(cv2.mean(other)[:3], np.float32)
        patch = patch * np.float32(0.6) + (other.astype(np.float32) + tone) * np.float32(0.4)
    canvas.image[region] = cv2.blendLinear(patch, canvas.image[region], share, 1 - share)
