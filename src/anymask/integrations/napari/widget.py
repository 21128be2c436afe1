"""The dock widget: chosen layers go to `Labelling`, and its labels to a layer."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image, Labels, Points, Shapes
from qtpy.QtWidgets import QComboBox, QFormLayout, QLabel, QLineEdit, QPushButton, QVBoxLayout, QWidget

from anymask.checkpoints.places import EMBEDDED
from anymask.data.channels import ChannelMapping
from anymask.errors import AnymaskError, InputError
from anymask.inference import load
from anymask.integrations.napari.labelling import Labelling

_NONE = "—"


class SegmentWidget(QWidget):
    """Asks a model about the plane that is shown: points on and off an object, boxes, or nothing at all."""

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.viewer = napari_viewer
        self.model, self.channels = QLineEdit(next(iter(EMBEDDED))), QLineEdit()
        self.image, self.on, self.off, self.boxes = (QComboBox() for _ in range(4))
        self.said = QLabel()
        self.said.setWordWrap(True)
        form = QFormLayout()
        for title, widget in (
            ("model", self.model),
            ("image", self.image),
            ("points on it", self.on),
            ("points off it", self.off),
            ("boxes", self.boxes),
            ("channels", self.channels),
        ):
            form.addRow(title, widget)
        layout = QVBoxLayout(self)
        layout.addLayout(form)
        for title, action in (
            ("Segment", self.segment),
            ("Everything", self.everything),
            ("Through the stack", self.follow),
            ("Undo", self.undo),
        ):
            button = QPushButton(title)
            button.clicked.connect(lambda _=False, action=action: self._do(action))
            layout.addWidget(button)
        layout.addWidget(self.said)
        self._models: dict[str, Any] = {}
        self._labellings: dict[tuple[int, str, str], Labelling] = {}
        self._label = 1
        for event in (self.viewer.layers.events.inserted, self.viewer.layers.events.removed):
            event.connect(self._list_layers)
        self._list_layers()

    def segment(self) -> str:
        """Draw a new object for each box, or one for the points, on the plane that is shown."""
        labelling, layer = self._labelling()
        place = self._place(labelling)
        on, off = self._points(self.on, place), self._points(self.off, place)
        boxes: list[tuple[float, float, float, float] | None] = [*self._boxes(place)]
        for box in boxes or [None]:
            self._label = int(layer.data.max()) + 1
            labelling.prompt(place, self._label, on=on, off=off, box=box)
        layer.refresh()
        return f"{len(boxes) or 1} drawn"

    def everything(self) -> str:
        """Draw masks of everything on the plane that is shown."""
        labelling, layer = self._labelling()
        count = labelling.everything(self._place(labelling))
        layer.refresh()
        return f"{count} drawn"

    def follow(self) -> str:
        """Draw the label that is selected through the planes after the one that is shown."""
        labelling, layer = self._labelling()
        label = self._label if self._label in layer.data else int(layer.selected_label)
        count = labelling.follow(self._place(labelling), label)
        layer.refresh()
        return f"followed through {count} planes"

    def undo(self) -> str:
        """Take back the last step."""
        labelling, layer = self._labelling()
        done = labelling.undo()
        layer.refresh()
        return "taken back" if done else "nothing to take back"

    def _do(self, action: Any) -> None:
        try:
            self.said.setText(action())
        except AnymaskError as error:
            self.said.setText(str(error))

    def _labelling(self) -> tuple[Labelling, Any]:
        """Return the labels of the image that is chosen, in a layer of their own, which is made if need be."""
        image = self._layer(self.image)
        if image is None:
            raise InputError("there is no image: open one")
        if image.multiscale:
            raise InputError(f"{image.name}: is a pyramid of resolutions; open one of them")
        name = f"{image.name} masks"
        data = image.data
        channels = self.channels.text().strip()
        if name not in self.viewer.layers:
            planes = data.shape[:-1] if image.rgb or channels else data.shape
            self.viewer.add_labels(np.zeros(planes, np.int32), name=name, scale=image.scale[: len(planes)])
        layer = self.viewer.layers[name]
        key = (id(layer), self.model.text(), channels)
        if key not in self._labellings:
            if self.model.text() not in self._models:
                self._models[self.model.text()] = load(self.model.text())
            mapping = ChannelMapping.parse(channels) if channels else None
            self._labellings[key] = Labelling(
                self._models[self.model.text()], data, layer.data, is_rgb=bool(image.rgb), channels=mapping
            )
        return self._labellings[key], layer

    def _place(self, labelling: Labelling) -> tuple[int, ...]:
        """Return the indices of the plane that is shown."""
        num_axes = labelling.labels.ndim - 2
        return tuple(int(step) for step in self.viewer.dims.current_step[:num_axes])

    def _points(self, chosen: QComboBox, place: tuple[int, ...]) -> list[tuple[float, float]]:
        layer = self._layer(chosen)
        if layer is None:
            return []
        return [(float(at[-1]), float(at[-2])) for at in layer.data if _is_at(at, place)]

    def _boxes(self, place: tuple[int, ...]) -> list[tuple[float, float, float, float]]:
        layer = self._layer(self.boxes)
        found = []
        for corners in [] if layer is None else layer.data:
            if _is_at(corners[0], place):
                (y0, x0), (y1, x1) = corners[:, -2:].min(0), corners[:, -2:].max(0)
                found.append((float(x0), float(y0), float(x1), float(y1)))
        return found

    def _layer(self, chosen: QComboBox) -> Any:
        name = chosen.currentText()
        return self.viewer.layers[name] if name in self.viewer.layers else None

    def _list_layers(self, event: Any = None) -> None:
        """List the layers that can be chosen, and keep what was chosen."""
        for box, kind in ((self.image, Image), (self.on, Points), (self.off, Points), (self.boxes, Shapes)):
            before = box.currentText()
            names = [
                layer.name for layer in self.viewer.layers if isinstance(layer, kind) and not isinstance(layer, Labels)
            ]
            box.clear()
            box.addItems(names if kind is Image else [_NONE, *names])
            if before in names:
                box.setCurrentText(before)


def _is_at(at: Any, place: tuple[int, ...]) -> bool:
    """Whether a point is on a plane; one without the stack's axes is on all of them."""
    given = np.asarray(at)[:-2]
    return len(given) != len(place) or all(round(float(one)) == other for one, other in zip(given, place, strict=True))
