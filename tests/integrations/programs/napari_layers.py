"""Run in an environment with napari: real layers off the screen, the widget's answers and its manifest.

Arguments: folders to import anymask and what it needs from, apart by colons; the image. Its own packages go first.
"""

import sys

folders, image = sys.argv[1:]
import npe2  # noqa: E402
from napari.components import ViewerModel  # noqa: E402
from qtpy.QtWidgets import QApplication  # noqa: E402

sys.path += folders.split(":")

import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

import anymask  # noqa: E402
from anymask.integrations.napari.widget import SegmentWidget  # noqa: E402

manifest = npe2.PluginManifest.from_file(f"{folders.split(':')[0]}/anymask/integrations/napari/napari.yaml")
assert manifest.contributions.widgets[0].display_name == "Segment"

model = anymask.load("anymask-s")
predictor = anymask.Predictor(model)
predictor.set_image(image)
pixels = np.array(Image.open(image).convert("RGB"))
application = QApplication([])
viewer = ViewerModel()  # all of a viewer but its window, which wants OpenGL
widget = SegmentWidget(viewer)
widget._do(widget.segment)
assert "no image" in widget.said.text(), widget.said.text()
viewer.add_image(pixels, name="coffee")
viewer.add_points(np.array([[130.0, 290.0]]), name="on")
viewer.add_shapes([np.array([[50, 150], [50, 450], [250, 450], [250, 150]])], shape_type="rectangle", name="box")
widget._do(widget.segment)
assert "prompt" in widget.said.text(), widget.said.text()
widget.on.setCurrentText("on")
widget._do(widget.segment)
labels = viewer.layers["coffee masks"]
ours = predictor.predict(points=[(290, 130)], labels=[1]).best
assert widget.said.text() == "1 drawn" and ((labels.data == 1) == ours).all()
widget.on.setCurrentIndex(0)
widget.boxes.setCurrentText("box")
widget._do(widget.segment)
assert ((labels.data == 2) == predictor.predict(box=(150, 50, 450, 250)).best).all()
widget._do(widget.undo)
assert ((labels.data == 1) == ours).all() and not (labels.data == 2).any()
widget._do(widget.everything)
assert len(np.unique(labels.data)) > 5
grey = (np.stack([pixels[..., 0]] * 3).astype(np.float32) - 50) / 7
viewer.add_image(grey, name="stack")
widget.image.setCurrentText("stack")
viewer.dims.set_current_step(0, 0)
widget._do(widget.segment)
widget._do(widget.follow)
assert "followed through 2 planes" in widget.said.text(), widget.said.text()
assert (viewer.layers["stack masks"].data == 1).any((1, 2)).all()
viewer.layers.remove("box")
assert "box" not in [widget.boxes.itemText(number) for number in range(widget.boxes.count())]
print("as it should be")
