"""Meta's `SamAutomaticMaskGenerator` over `anymask.AutomaticMasks`: its signature, its dictionaries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from anymask import model
from anymask.data.writers.sa1b import annotation
from anymask.errors import InputError
from anymask.geometry import rle
from anymask.inference.automatic.masks import AutomaticMasks, MaskRecord
from anymask.inference.automatic.options import AutomaticOptions

OUTPUT_MODES = ("binary_mask", "uncompressed_rle", "coco_rle")


class SamAutomaticMaskGenerator:
    """Masks of everything in an image, with Meta's signature.

    Raises InputError for invalid options. Options of ours alone are those of `AutomaticOptions` at their defaults.
    """

    def __init__(
        self,
        model: model.Sam,
        points_per_side: int | None = 32,
        points_per_batch: int = 64,
        pred_iou_thresh: float = 0.88,
        stability_score_thresh: float = 0.95,
        stability_score_offset: float = 1.0,
        box_nms_thresh: float = 0.7,
        crop_n_layers: int = 0,
        crop_nms_thresh: float = 0.7,
        crop_overlap_ratio: float = 512 / 1500,
        crop_n_points_downscale_factor: int = 1,
        point_grids: Sequence[Float[np.ndarray, "n 2"]] | None = None,
        min_mask_region_area: int = 0,
        output_mode: str = "binary_mask",
    ) -> None:
        if output_mode not in OUTPUT_MODES:
            raise InputError(f"output_mode is {output_mode!r}; it must be one of {', '.join(OUTPUT_MODES)}")
        self.output_mode = output_mode
        self._masks = AutomaticMasks(
            model,
            AutomaticOptions(
                points_per_side=points_per_side,
                points_per_batch=points_per_batch,
                pred_iou_thresh=pred_iou_thresh,
                stability_score_thresh=stability_score_thresh,
                stability_score_offset=stability_score_offset,
                box_nms_thresh=box_nms_thresh,
                crop_n_layers=crop_n_layers,
                crop_nms_thresh=crop_nms_thresh,
                crop_overlap_ratio=crop_overlap_ratio,
                crop_n_points_downscale_factor=crop_n_points_downscale_factor,
                point_grids=point_grids,
                min_mask_region_area=min_mask_region_area,
            ),
        )

    def generate(self, image: UInt8[np.ndarray, "h w 3"]) -> list[dict[str, Any]]:
        """Return a dictionary for each mask of an RGB image.

        Keys: segmentation, a (h, w) bool array or a run-length dictionary as `output_mode` says; bbox and crop_box
        [x, y, w, h], where that package counts w and h of a mask's box one pixel short; area; predicted_iou;
        stability_score; point_coords [[x, y]].
        """
        return [self._dictionary(record) for record in self._masks.generate(image)]

    def _dictionary(self, record: MaskRecord) -> dict[str, Any]:
        x, y, width, height = record.bbox
        made = annotation(
            0,
            record.rle,
            bbox=(x, y, width - 1, height - 1),
            area=record.area,
            predicted_iou=record.predicted_iou,
            stability_score=record.stability_score,
            crop_box=record.crop_box,
            point_coords=record.point_coords,
        )
        del made["id"]  # which that package's dictionaries lack
        return made | {"segmentation": self._segmentation(record.rle)}

    def _segmentation(self, stored: rle.RLE) -> Any:
        if self.output_mode == "binary_mask":
            return rle.decode(stored)
        if self.output_mode == "uncompressed_rle":
            return {"size": list(stored["size"]), "counts": rle.runs(stored).tolist()}
        return dict(stored)
