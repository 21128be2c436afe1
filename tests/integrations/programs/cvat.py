"""Run in an environment with cvat-sdk and cvat-cli: their loader takes our function, their types its answers.

Arguments: folders to import anymask and what it needs from, apart by colons; the image. Its own packages go first.
"""

import json
import sys

folders, image = sys.argv[1:]
import cvat_sdk.auto_annotation as aa  # noqa: E402
from cvat_cli._internal.common import FunctionLoader  # noqa: E402
from cvat_sdk.auto_annotation.driver import _AnnotationMapper, _SpecNameMapping  # noqa: E402

sys.path += folders.split(":")
import logging  # noqa: E402

import cvat_sdk.models as models  # noqa: E402
from cvat_sdk.masks import decode_mask  # noqa: E402
from PIL import Image  # noqa: E402

import anymask  # noqa: E402


class Context(aa.DetectionFunctionContext):
    def __init__(self, threshold, as_polygons):
        self._threshold, self._as_polygons = threshold, as_polygons

    frame_name = "image.jpg"
    conf_threshold = property(lambda self: self._threshold)
    conv_mask_to_poly = property(lambda self: self._as_polygons)


class Prompts(aa.InteractionPrompts):
    def __init__(self, on, off, box):
        self._values = on, off, box

    pos_points = property(lambda self: self._values[0])
    neg_points = property(lambda self: self._values[1])
    bounding_box = property(lambda self: self._values[2])


picture = Image.open(image)
width, height = picture.size
detect = FunctionLoader("anymask.integrations.cvat", None, {"model": "anymask-s"}).load()
assert isinstance(detect.spec, aa.DetectionFunctionSpec)
labels = [models.Label(name="object", id=70, type="any", attributes=[], sublabels=[], color="#ffffff")]
mapper = _AnnotationMapper(
    logging.getLogger(), detect.spec.labels, labels, allow_unmatched_labels=False, spec_nm=_SpecNameMapping(),
    conv_mask_to_poly=False,
)  # fmt: skip
records = anymask.AutomaticMasks(anymask.load("anymask-s")).generate(image)
shapes = detect.detect(Context(None, False), picture)
assert len(shapes) == len(records) > 5
from anymask.geometry import rle  # noqa: E402

for shape, record in zip(shapes, records, strict=True):
    assert isinstance(shape, models.LabeledShapeRequest) and str(shape.type) == "mask"
    mask = decode_mask(shape.points, image_width=width, image_height=height)
    assert (mask == rle.decode(record.rle)).all()
sure = detect.detect(Context(0.9, False), picture)
assert len(sure) == sum(record.predicted_iou >= 0.9 for record in records)
mapper.validate_and_remap(shapes, ds_frame=3)
assert all(shape.label_id == 70 and shape.frame == 3 for shape in shapes)
polygons = detect.detect(Context(None, True), picture)
assert polygons and all(str(shape.type) == "polygon" and len(shape.points) >= 6 for shape in polygons)

click = FunctionLoader("anymask.integrations.cvat", None, {"interactive": True}).load()
assert isinstance(click.spec, aa.InteractionFunctionSpec)
seen = click.preprocess_image(None, picture)
predictor = anymask.Predictor(anymask.load("anymask-s"))
predictor.set_image(image)
for prompts, ours in (
    (Prompts([(290.0, 130.0)], [], None), {"points": [(290, 130)], "labels": [1]}),
    (Prompts([(290.0, 130.0)], [(60.0, 350.0)], None), {"points": [(290, 130), (60, 350)], "labels": [1, 0]}),
    (Prompts([], [], ((150.0, 50.0), (450.0, 250.0))), {"box": (150, 50, 450, 250)}),
):
    (shape,) = click.detect(None, seen, prompts)
    assert isinstance(shape, aa.InteractionResultShape)
    mask = decode_mask(shape.points, image_width=width, image_height=height)
    assert (mask == predictor.predict(**ours).best).all()
print(json.dumps({"shapes": len(shapes), "sure": len(sure), "polygons": len(polygons)}))
