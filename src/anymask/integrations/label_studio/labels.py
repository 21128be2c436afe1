"""What a project's label configuration says: where its image is, and which tag masks go to."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

from anymask.data.writers.label_studio import UNNAMED, Tags
from anymask.errors import InputError

_BRUSHES, _POLYGONS = ("BrushLabels", "Brush"), ("PolygonLabels", "Polygon")
_EXAMPLE = '<BrushLabels name="brush" toName="image"><Label value="object"/></BrushLabels>'
_MOST_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelConfig:
    """A configuration with an image and a tag for masks."""

    key: str
    """Of a task's data, whose value is the image's address."""
    tags: Tags
    labels: tuple[str, ...]
    """Those that the mask's tag has; without any, masks have none."""

    @property
    def is_brush(self) -> bool:
        """Whether masks are painted; else they are polygons."""
        return self.tags.kind.startswith("brush")

    def labels_for(self, asked: str | None) -> list[str]:
        """Return the label of a mask whose prompt has one: the same if masks can have it, else their first."""
        if not self.labels:
            return []
        return [asked if asked in self.labels else self.labels[0]]


def parse_config(source: str) -> LabelConfig:
    """Read a label configuration; brushes are preferred to polygons.

    Raises InputError where it is no XML, or has no image or no tag for its masks.
    """
    if len(source) > _MOST_CHARACTERS or "<!DOCTYPE" in source or "<!ENTITY" in source:
        raise InputError("the label configuration declares entities, or is longer than a million characters")
    try:
        root = ElementTree.fromstring(source)
    except ElementTree.ParseError as error:
        raise InputError(f"the label configuration is no XML ({error})") from error
    images = {tag.get("name", ""): tag.get("value", "") for tag in root.iter("Image")}
    if not images:
        raise InputError('the label configuration has no image: give it <Image name="image" value="$image"/>')
    for names in (_BRUSHES, _POLYGONS):
        for tag in (tag for name in names for tag in root.iter(name)):
            image = tag.get("toName", "")
            if image not in images:
                continue
            labels = tuple(label.get("value", "") for label in tag.iter("Label")) or _shared_labels(root, image)
            own = tag.tag.endswith("Labels")
            return LabelConfig(
                key=images[image].removeprefix("$"),
                tags=Tags(mask=tag.get("name", ""), image=image, kind=tag.tag.lower()),
                labels=(labels or (UNNAMED,)) if own else (),
            )
    raise InputError(f"the label configuration has no tag for masks: give it {_EXAMPLE}, or PolygonLabels")


def _shared_labels(root: ElementTree.Element, image: str) -> tuple[str, ...]:
    return tuple(
        label.get("value", "")
        for tag in root.iter("Labels")
        if tag.get("toName") == image
        for label in tag.iter("Label")
    )
