"""The names of Meta's `segment_anything` package over anymask's model, so that its scripts run as they are.

    from anymask.compat.segment_anything import SamPredictor, sam_model_registry

Signatures, shapes, dtypes and the order of masks are that package's: masks come in the order of the model's tokens,
not best first, and points outside the image are not refused. The three parts of a model can be called one by one, as
loops that fine-tune them do; that package's modules (`modeling`, `predictor`, `utils.transforms`, …) are here too.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from anymask import model
from anymask.checkpoints.load import load_model
from anymask.compat.automatic_mask_generator import SamAutomaticMaskGenerator
from anymask.compat.parts import ImageEncoderFace, MaskDecoderFace, PromptEncoderFace, prompts_of, with_face
from anymask.errors import CheckpointError, ImageError, PromptError
from anymask.geometry.frames import Frame, resized_size
from anymask.inference.answers import chunk_size
from anymask.inference.resize import resize_image, upsample_logits
from anymask.model import MASK_THRESHOLD, SIZES, Embedding, Prompts, SamConfig

__all__ = [
    "ResizeLongestSide",
    "Sam",
    "SamAutomaticMaskGenerator",
    "SamPredictor",
    "build_sam",
    "build_sam_vit_b",
    "build_sam_vit_h",
    "build_sam_vit_l",
    "sam_model_registry",
]

_FACES = {
    "image_encoder": ImageEncoderFace,
    "prompt_encoder": PromptEncoderFace,
    "mask_decoder": MaskDecoderFace,
}

CheckpointPath = str | os.PathLike[str]


class Sam(model.Sam):
    """anymask's model with what scripts ask of Meta's: `image_encoder.img_size`, and calls with a list of dicts."""

    mask_threshold: float = MASK_THRESHOLD
    image_format: str = "RGB"

    @classmethod
    def of(cls, other: model.Sam) -> Sam:
        """Return the same model, its modules shared, with this class's face."""
        sam = cls.__new__(cls)
        vars(sam).update(vars(other))
        vars(sam)["_modules"] = dict(other._modules)
        for name, face in _FACES.items():
            sam._modules[name] = with_face(other.get_submodule(name), face)
        vars(sam.image_encoder)["img_size"] = other.image_size
        return sam

    def encode(self, images: Float[Tensor, "b 3 s s"]) -> Embedding:
        """Encode preprocessed images, with what the decoder needs beside the embedding."""
        encoder: Any = self.image_encoder
        return self.embedding_of(*encoder.with_early(images))

    @torch.no_grad()
    def forward(  # type: ignore[override]  # Meta's call is another than ours
        self, batched_input: list[dict[str, Any]], multimask_output: bool
    ) -> list[dict[str, Tensor]]:
        """Answer a list of records, each an `image` (3, h, w), resized already, its `original_size`, and prompts.

        Prompts are `point_coords` (b, n, 2) with `point_labels` (b, n), `boxes` (b, 4) and `mask_inputs`
        (b, 1, hm, wm), in the model's frame. Returns `masks` (b, c, h, w), bool, `iou_predictions` (b, c) and
        `low_res_logits` (b, c, hm, wm) for each record.
        """
        embedding = self.encode(torch.stack([self.preprocess(record["image"]) for record in batched_input]))
        answers = []
        for index, record in enumerate(batched_input):
            prompts = prompts_of(
                self.device,
                record.get("point_coords"),
                record.get("point_labels"),
                record.get("boxes"),
                record.get("mask_inputs"),
            )
            one = embedding.map(itemgetter(slice(index, index + 1)))
            logits, iou = _decode(self, one, prompts, multimask_output)
            masks = self.postprocess_masks(logits, record["image"].shape[-2:], record["original_size"])
            answers.append({"masks": masks > self.mask_threshold, "iou_predictions": iou, "low_res_logits": logits})
        return answers

    def postprocess_masks(
        self, masks: Float[Tensor, "b c hm wm"], input_size: tuple[int, ...], original_size: tuple[int, ...]
    ) -> Float[Tensor, "b c h w"]:
        """Bring low-resolution logits to the original (height, width)."""
        return upsample_logits(
            masks,
            model_size=self.image_size,
            resized=(input_size[0], input_size[1]),
            original=(original_size[0], original_size[1]),
        )


def build_sam_vit_h(checkpoint: CheckpointPath | None = None) -> Sam:
    """Build SAM with ViT-H, in evaluation mode; without a checkpoint its weights are random."""
    return _build("vit_h", checkpoint)


def build_sam_vit_l(checkpoint: CheckpointPath | None = None) -> Sam:
    """Build SAM with ViT-L, in evaluation mode; without a checkpoint its weights are random."""
    return _build("vit_l", checkpoint)


def build_sam_vit_b(checkpoint: CheckpointPath | None = None) -> Sam:
    """Build SAM with ViT-B, in evaluation mode; without a checkpoint its weights are random."""
    return _build("vit_b", checkpoint)


build_sam = build_sam_vit_h

sam_model_registry: dict[str, Callable[..., Sam]] = {
    "default": build_sam_vit_h,
    "vit_h": build_sam_vit_h,
    "vit_l": build_sam_vit_l,
    "vit_b": build_sam_vit_b,
}


class ResizeLongestSide:
    """Images, points and boxes from the original frame to one whose long side is `target_length`."""

    def __init__(self, target_length: int) -> None:
        self.target_length = target_length

    def apply_image(self, image: UInt8[np.ndarray, "h w *c"]) -> UInt8[np.ndarray, "rh rw *c"]:
        """Resize an image of uint8."""
        return resize_image(image, self.get_preprocess_shape(image.shape[0], image.shape[1], self.target_length))

    def apply_coords(
        self, coords: Shaped[np.ndarray, "*n 2"], original_size: tuple[int, ...]
    ) -> Float[np.ndarray, "*n 2"]:
        """Scale points (x, y) of an image of `original_size` = (height, width); float64."""
        return np.asarray(np.asarray(coords, np.float64) * self._scale(original_size))

    def apply_boxes(
        self, boxes: Shaped[np.ndarray, "*n 4"], original_size: tuple[int, ...]
    ) -> Float[np.ndarray, "b 4"]:
        """Scale boxes (x0, y0, x1, y1); (b, 4), float64."""
        return self.apply_coords(np.asarray(boxes).reshape(-1, 2, 2), original_size).reshape(-1, 4)

    def apply_image_torch(self, image: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c rh rw"]:
        """Resize a batch of float images; not quite as `apply_image` does, which is what the model expects."""
        size = self.get_preprocess_shape(image.shape[2], image.shape[3], self.target_length)
        return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)

    def apply_coords_torch(
        self, coords: Shaped[Tensor, "*n 2"], original_size: tuple[int, ...]
    ) -> Float[Tensor, "*n 2"]:
        """Scale points (x, y) as float32."""
        scale = torch.tensor(self._scale(original_size), dtype=torch.float32, device=coords.device)
        return coords.to(torch.float32) * scale

    def apply_boxes_torch(self, boxes: Shaped[Tensor, "*n 4"], original_size: tuple[int, ...]) -> Float[Tensor, "b 4"]:
        """Scale boxes (x0, y0, x1, y1); (b, 4), float32."""
        return self.apply_coords_torch(boxes.reshape(-1, 2, 2), original_size).reshape(-1, 4)

    @staticmethod
    def get_preprocess_shape(oldh: int, oldw: int, long_side_length: int) -> tuple[int, int]:
        """Return the (height, width) after resizing."""
        return resized_size((oldh, oldw), long_side_length)

    def _scale(self, original_size: tuple[int, ...]) -> tuple[float, float]:
        return Frame((original_size[0], original_size[1]), self.target_length).scale


class SamPredictor:
    """Masks for prompts about one image, with Meta's signatures."""

    features: Tensor | None
    _embedding: Embedding | None
    original_size: tuple[int, ...]
    input_size: tuple[int, ...]

    def __init__(self, sam_model: model.Sam) -> None:
        self.model = sam_model if isinstance(sam_model, Sam) else Sam.of(sam_model)
        self.transform = ResizeLongestSide(sam_model.image_size)
        self.reset_image()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    def set_image(self, image: UInt8[np.ndarray, "h w 3"], image_format: str = "RGB") -> None:
        """Encode an image of uint8, its channels in the order of `image_format`, "RGB" or "BGR"."""
        if image_format not in ("RGB", "BGR"):
            raise ImageError(f'image_format is {image_format!r}; it must be "RGB" or "BGR"')
        if image_format != self.model.image_format:
            image = image[..., ::-1]
        pixels = torch.as_tensor(self.transform.apply_image(image), device=self.device)
        self.set_torch_image(pixels.permute(2, 0, 1).contiguous()[None], image.shape[:2])

    @torch.no_grad()
    def set_torch_image(
        self, transformed_image: Shaped[Tensor, "1 3 rh rw"], original_image_size: tuple[int, ...]
    ) -> None:
        """Encode an image of values 0 to 255 that is resized already, of `original_image_size` before."""
        size, side = transformed_image.shape, self.model.image_size
        if len(size) != 4 or size[1] != 3 or max(size[2:]) != side:
            raise ImageError(f"the image has shape {tuple(size)}; (1, 3, h, w) with a long side of {side} was expected")
        self.reset_image()
        self.original_size = original_image_size
        self.input_size = tuple(size[-2:])
        embedding = self.model.encode(self.model.preprocess(transformed_image))
        self.features, self._embedding = embedding.features, embedding
        self.is_image_set = True

    def predict(
        self,
        point_coords: Shaped[np.ndarray, "n 2"] | None = None,
        point_labels: Shaped[np.ndarray, " n"] | None = None,
        box: Shaped[np.ndarray, "*one 4"] | None = None,
        mask_input: Float[np.ndarray, "1 hm wm"] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Bool[np.ndarray, "c h w"], Float[np.ndarray, " c"], Float[np.ndarray, "c hm wm"]]:
        """Return masks (logits of that size if `return_logits`), predicted IoUs and low-resolution logits.

        Prompts are in the original image's pixels; `mask_input` is an earlier call's low-resolution logits.
        """
        self._require_image()
        coords = labels = boxes = mask = None
        if point_coords is not None:
            if point_labels is None:
                raise PromptError("point_coords came without point_labels: give one label for each point")
            coords = self._tensor(self.transform.apply_coords(point_coords, self.original_size))[None]
            labels = torch.as_tensor(point_labels, dtype=torch.int, device=self.device)[None]
        if box is not None:
            boxes = self._tensor(self.transform.apply_boxes(box, self.original_size))
            if len(boxes) != 1:
                raise PromptError(f"predict takes one box, but got {len(boxes)}: give many to predict_torch")
        if mask_input is not None:
            mask = self._tensor(mask_input)[None]
        masks, iou, logits = self.predict_torch(
            coords, labels, boxes, mask, multimask_output, return_logits=return_logits
        )
        return masks[0].cpu().numpy(), iou[0].cpu().numpy(), logits[0].cpu().numpy()

    @torch.no_grad()
    def predict_torch(
        self,
        point_coords: Float[Tensor, "b n 2"] | None,
        point_labels: Shaped[Tensor, "b n"] | None,
        boxes: Float[Tensor, "b 4"] | None = None,
        mask_input: Float[Tensor, "b 1 hm wm"] | None = None,
        multimask_output: bool = True,
        return_logits: bool = False,
    ) -> tuple[Shaped[Tensor, "b c h w"], Float[Tensor, "b c"], Float[Tensor, "b c hm wm"]]:
        """Answer b prompts in the model's frame (see `transform`); returns what `predict` does, batched."""
        embedding = Embedding(features=self.get_image_embedding())  # which a script may have put there
        if self._embedding is not None:
            embedding = dataclasses.replace(self._embedding, features=embedding.features)
        prompts = prompts_of(self.model.device, point_coords, point_labels, boxes, mask_input)
        logits, iou = _decode(self.model, embedding, prompts, multimask_output)
        masks = self.model.postprocess_masks(logits, self.input_size, self.original_size)
        return masks if return_logits else masks > self.model.mask_threshold, iou, logits

    def get_image_embedding(self) -> Float[Tensor, "1 c h w"]:
        """Return the embedding of the image that is set."""
        self._require_image()
        assert self.features is not None
        return self.features

    def reset_image(self) -> None:
        """Forget the image."""
        self.is_image_set = False
        self.features = self._embedding = None
        self.orig_h = self.orig_w = self.input_h = self.input_w = None

    def _require_image(self) -> None:
        if not self.is_image_set:
            # Not from the tree of errors: scripts catch the one that Meta's package raises.
            raise RuntimeError("no image is set: call set_image before asking for masks")

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)


def _build(size: str, checkpoint: CheckpointPath | None) -> Sam:
    if checkpoint is None:
        return Sam.of(model.build_sam(SIZES[size]).eval())
    sam = load_model(Path(checkpoint))
    if _shape(sam.config) != _shape(SIZES[size]):
        raise CheckpointError(f"{checkpoint}: does not hold a {size} model; call the registry's entry of its own size")
    return Sam.of(sam.eval())


def _shape(config: SamConfig) -> object:
    return config.encoder, config.decoder, config.width, config.image_size


def _decode(
    sam: model.Sam, embedding: Embedding, prompts: Prompts, multimask: bool
) -> tuple[Float[Tensor, "b c hm wm"], Float[Tensor, "b c"]]:
    """Decode the prompts of one image in chunks."""
    step, parts = chunk_size(sam), []
    for start in range(0, prompts.points.shape[1], step):
        rows = slice(start, start + step)
        part = Prompts(
            points=prompts.points[:, rows],
            labels=prompts.labels[:, rows],
            masks=None if prompts.masks is None else prompts.masks[:, rows],
        )
        parts.append(sam.decode(embedding, part, multimask=multimask))
    logits, iou = zip(*parts, strict=True)
    return torch.cat(logits, 1)[0], torch.cat(iou, 1)[0]
