"""CVAT's auto-annotation functions: masks of everything, objects found by words, and clicks in its editor.

`cvat-cli` and CVAT's agents call `create` with what stands behind `-p`::

    cvat-cli task auto-annotate 7 --function-module anymask.integrations.cvat -p model=str:anymask-s
    cvat-cli function create-native anymask --function-module anymask.integrations.cvat -p interactive=bool:true

Annotations are what cvat-sdk's interface demands; tracks are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from anymask.engine.formats.outlines import outlines
from anymask.errors import InputError, MissingPackageError
from anymask.geometry import rle
from anymask.inference import AutomaticMasks, EmbeddingCache, EncodedImage, Predictor, Prompt, Refinement, load
from anymask.inference.answers import answer, encode, read
from anymask.inference.prompts import to_model
from anymask.inference.words.detector import DETECTOR
from anymask.model import Sam

if TYPE_CHECKING:
    from PIL import Image

EVERYTHING = "object"
"""The label of masks that were found without words."""


def create(
    model: str = "anymask-s",
    *,
    labels: str = "",
    interactive: bool = False,
    detail: float = 1.0,
    device: str = "cpu",
    detector: str = DETECTOR,
    cache: str = "",
) -> DetectionFunction | InteractionFunction:
    """Return a function for CVAT: for its editor with `interactive`, else for whole tasks.

    `labels` are names, apart by commas: objects that these words describe are found by `detector` and get the label of
    that name; without any, everything gets the label "object". `detail` is in pixels, of masks that CVAT wants as
    polygons. `cache` is a folder for embeddings. Raises AnymaskError.
    """
    if find_spec("cvat_sdk") is None:
        raise MissingPackageError("a function for CVAT needs cvat-sdk: pip install cvat-sdk cvat-cli")
    names = [name.strip() for name in labels.split(",") if name.strip()]
    if not 0 <= detail <= 100:
        raise InputError(f"detail is {detail}; it must be 0 to 100 pixels")
    if interactive and names:
        raise InputError("labels are for whole tasks: in the editor, the label is chosen there")
    if len(set(names)) < len(names):
        raise InputError(f"labels={labels}: a name comes twice")
    loaded = load(model, device=device)
    if interactive:
        return InteractionFunction(loaded)
    kept = EmbeddingCache(cache) if cache else None
    return DetectionFunction(loaded, names, detail=detail, detector=detector, cache=kept)


class DetectionFunction:
    """Annotates whole images: everything, or what words describe."""

    def __init__(
        self, model: Sam, names: Sequence[str], *, detail: float, detector: str, cache: EmbeddingCache | None
    ) -> None:
        self._names, self._detail = list(names), detail
        self._model = model
        self._predictor = Predictor(model, detector=detector, cache=cache)

    @property
    def spec(self) -> Any:
        """The labels, as cvat-sdk's DetectionFunctionSpec."""
        import cvat_sdk.auto_annotation as aa

        names = self._names or [EVERYTHING]
        return aa.DetectionFunctionSpec(labels=[aa.label_spec(name, number) for number, name in enumerate(names)])

    def detect(self, context: Any, image: Image.Image) -> list[Any]:
        """Return masks, or polygons where CVAT asks for these, that are at least as sure as it demands."""
        threshold = context.conf_threshold
        if self._names:
            self._predictor.set_image(image)
            # The detector's own threshold holds where CVAT has none.
            found = self._predictor.find(self._names, threshold=threshold)
            masks = [(self._names.index(each.phrase), each.rle) for each in found]
        else:
            records = AutomaticMasks(self._model).generate(image)
            masks = [(0, each.rle) for each in records if threshold is None or each.predicted_iou >= threshold]
        return [
            shape for label, mask in masks for shape in self._shapes(label, mask, as_polygons=context.conv_mask_to_poly)
        ]

    def _shapes(self, label: int, mask: rle.RLE, *, as_polygons: bool) -> list[Any]:
        import cvat_sdk.auto_annotation as aa

        if not as_polygons:
            return [aa.mask(label, encode_mask(mask))]
        # CVAT's polygons have no holes: those of the mask are filled.
        rings = [piece.exterior for piece in outlines(mask, self._detail)]
        return [aa.polygon(label, np.asarray(ring, np.float64).ravel().tolist()) for ring in rings if len(ring) >= 3]


class InteractionFunction:
    """Answers points and boxes in CVAT's editor; an image is encoded once."""

    def __init__(self, model: Sam) -> None:
        self._model = model

    @property
    def spec(self) -> Any:
        """That points on and off the object and a box are taken, as cvat-sdk's InteractionFunctionSpec."""
        import cvat_sdk.auto_annotation as aa

        return aa.InteractionFunctionSpec(min_pos_points=0, min_neg_points=0, min_bounding_boxes=0)

    def preprocess_image(self, context: Any, image: Image.Image) -> EncodedImage:
        """Encode an image for any number of prompts."""
        return encode(self._model, [read(self._model, image)])[0]

    def detect(self, context: Any, pp_image: EncodedImage, prompts: Any) -> list[Any]:
        """Return the best mask of the prompts; raises PromptError where there is none of them."""
        import cvat_sdk.auto_annotation as aa

        points = [*prompts.pos_points, *prompts.neg_points]
        labels = [1] * len(prompts.pos_points) + [0] * len(prompts.neg_points)
        box = None if prompts.bounding_box is None else [value for corner in prompts.bounding_box for value in corner]
        prompt = Prompt(points=points or None, labels=labels or None, box=box)
        asked = to_model(prompt, pp_image.frame, self._model.mask_size)
        found = next(answer(self._model, pp_image, [asked], multimask=None, refinement=Refinement()))
        mask = rle.encode(found.best)
        return [aa.InteractionResultShape(type="mask", points=encode_mask(mask))] if rle.area(mask) else []


def encode_mask(mask: rle.RLE) -> list[float]:
    """Return a mask as CVAT's points: run lengths row by row within its box, then the box, its last pixels included."""
    x, y, width, height = rle.bbox(mask)
    flat = rle.decode_box(mask).ravel()
    turns = np.flatnonzero(np.diff(flat, prepend=False, append=False) if flat.size else flat)
    ends = turns if len(turns) and turns[-1] == flat.size else np.append(turns, flat.size)
    runs: list[float] = np.diff(ends, prepend=0).tolist()
    return [*runs, x, y, x + width - 1, y + height - 1]
