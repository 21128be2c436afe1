"""Prompts as they are typed: text to numbers, and which of them belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from anymask.errors import ImageError, PromptError

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Shaped

    from anymask.inference import Prompt

DETECTOR = "google/owlv2-base-patch16-ensemble"
THRESHOLD, NMS = 0.3, 0.5
"""Those of `anymask.inference.words.text`, which are not imported for --help; a test compares them."""


def parse_point(text: str) -> tuple[float, float, int]:
    """Read X,Y or X,Y,LABEL as (x, y, label), the label 1 where it is left out; raises PromptError."""
    parts = text.split(",")
    numbers = _numbers(parts[:2])
    if numbers is None or len(parts) not in (2, 3):
        raise PromptError(f"--point {text!r}: X,Y or X,Y,LABEL was expected, such as 290,130 or 290,130,0")
    label = parts[2].strip() if len(parts) == 3 else "1"
    if label not in ("0", "1"):
        raise PromptError(f"--point {text!r}: the label is {label!r}; 1 marks a point on the object, 0 one off it")
    return numbers[0], numbers[1], int(label)


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Read X0,Y0,X1,Y1; raises PromptError."""
    numbers = _numbers(text.split(","))
    if numbers is None or len(numbers) != 4:
        raise PromptError(f"--box {text!r}: X0,Y0,X1,Y1 was expected, such as 120,40,380,350")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _numbers(parts: Sequence[str]) -> list[float] | None:
    """Return finite or infinite numbers, or None where a part is no number; NaN is left to the checks of prompts."""
    try:
        return [float(part) for part in parts] if len(parts) > 1 else None
    except ValueError:
        return None


def read_mask(path: Path) -> Shaped[np.ndarray, "h w"]:
    """Read a mask prompt: an image in black and white, or the logits of an earlier round as .npy.

    Raises PromptError for a file that holds no such thing.
    """
    import numpy as np

    from anymask.data.images import read_image

    if path.suffix.lower() == ".npy":
        try:
            logits: Shaped[np.ndarray, "h w"] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise PromptError(f"--mask {path}: cannot be read as .npy ({' '.join(str(error).split())})") from error
        return logits
    try:
        pixels = read_image(path)
    except ImageError as error:
        raise PromptError(f"--mask {error}") from error
    grey = pixels[..., 0]
    if (pixels != grey[..., None]).any():
        raise PromptError(f"--mask {path}: holds colours; a mask in black and white was expected")
    return grey


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TypedPrompts:
    """What was typed, checked as far as that can be done without the image: one prompt of it all, or several."""

    clicks: list[tuple[float, float, int]]
    boxes: list[tuple[float, float, float, float]]
    masks: list[Shaped[np.ndarray, "h w"]]
    texts: list[str]

    @property
    def is_one(self) -> bool:
        """Whether all of it is one prompt; otherwise each box, mask or text is one."""
        return max(len(self.boxes), len(self.masks), len(self.texts)) <= 1

    def prompts(self) -> list[Prompt]:
        """Return the prompts; this imports the model."""
        from anymask.inference import Prompt

        if not self.is_one:
            boxes, masks, texts = self.boxes, self.masks, self.texts
            return [
                *(Prompt(box=box) for box in boxes),
                *(Prompt(mask=mask) for mask in masks),
                *(Prompt(text=text) for text in texts),
            ]
        return [
            Prompt(
                points=[(x, y) for x, y, _ in self.clicks] or None,
                labels=[label for _, _, label in self.clicks] or None,
                box=self.boxes[0] if self.boxes else None,
                mask=self.masks[0] if self.masks else None,
                text=self.texts[0] if self.texts else None,
            )
        ]


def read_prompts(
    points: Sequence[str], boxes: Sequence[str], masks: Sequence[Path], texts: Sequence[str] = ()
) -> TypedPrompts:
    """Read all that was typed: one prompt, or, where there are several boxes, masks or texts, one for each.

    Raises PromptError.
    """
    typed = TypedPrompts(
        clicks=[parse_point(point) for point in points],
        boxes=[parse_box(box) for box in boxes],
        masks=[read_mask(mask) for mask in masks],
        texts=list(texts),
    )
    clicks, corners, arrays = typed.clicks, typed.boxes, typed.masks
    if not (clicks or corners or arrays or texts):
        raise PromptError("nothing says what to segment: give --point, --box, --mask, --text or several of them")
    if typed.is_one or (texts and not (clicks or corners or arrays)):
        return typed
    if clicks or texts:
        what = f"{len(corners)} boxes and {len(arrays)} masks are an object each"
        if len(texts) > 1:
            what = f"{len(texts)} texts are objects each"
        raise PromptError(f"{what}: give points or words with one box and one mask at most")
    return typed


def check_image(path: Path, model: str) -> None:
    """Raise ImageError for a file that is no image, before the model is loaded.

    A model of the user's own may read files that others cannot, so for such a model only a missing file is reported.
    """
    from anymask.data.images import read_header

    if not (path.is_file() and Path(model).exists()):
        read_header(path)
