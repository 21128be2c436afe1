"""Every kind of texture, outline, object and layout holds what its caller relies on."""

import numpy as np
import pytest

from anymask.data.synthetic import SceneConfig
from anymask.data.synthetic.camera import expose
from anymask.data.synthetic.canvas import Canvas
from anymask.data.synthetic.creatures import MAKERS
from anymask.data.synthetic.curves import trace
from anymask.data.synthetic.cutouts import cutout_layer
from anymask.data.synthetic.light import dapple, draw_light
from anymask.data.synthetic.materials import Materials
from anymask.data.synthetic.outlines import draw_outline, silhouette
from anymask.data.synthetic.scene import LAYOUTS
from anymask.data.synthetic.stage import Stage, background
from anymask.data.synthetic.textures import FIELDS, photographic, procedural


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.__name__)
def test_fields_are_of_the_size_asked_for_bounded_and_not_flat(field) -> None:
    for seed in range(6):
        values = field(np.random.default_rng(seed), (40, 70))
        assert values.shape == (40, 70) and values.dtype == np.float32
        assert values.min() > -0.6 and values.max() < 1.6
    assert values.std() > 0.005


def test_textures_differ_from_draw_to_draw() -> None:
    rng = np.random.default_rng(0)
    palette = rng.uniform(0, 255, (6, 3)).astype(np.float32)
    textures = {procedural(rng, (32, 32), palette).tobytes() for _ in range(20)}
    assert len(textures) == 20


def test_a_piece_of_a_photograph_keeps_its_colours() -> None:
    photograph = np.zeros((50, 80, 3), np.uint8)
    photograph[:, :, 1] = 200
    texture = photographic(np.random.default_rng(1), (64, 32), photograph)
    assert texture.shape == (64, 32, 3)
    assert (texture == (0, 200, 0)).all()


@pytest.mark.parametrize("seed", range(40))
def test_outlines_are_closed_curves_of_radius_about_one(seed: int) -> None:
    outline = draw_outline(np.random.default_rng(seed))
    assert outline
    for ring in outline:
        assert ring.ndim == 2 and ring.shape[1] == 2 and len(ring) >= 3
        assert np.isfinite(ring).all()
    assert 0.3 < np.abs(np.concatenate(outline)).max() < 8


def test_tracing_finds_a_shape_and_its_hole() -> None:
    mask = np.zeros((50, 50), bool)
    mask[5:45, 10:40] = True
    mask[20:30, 20:30] = False
    outer, inner = sorted(trace(mask), key=lambda ring: -np.abs(ring).max())
    assert np.abs(outer[:, 1]).max() == pytest.approx(1, abs=0.01)
    assert np.abs(outer[:, 0]).max() == pytest.approx(0.75, abs=0.04)
    assert np.abs(inner).max() == pytest.approx(0.28, abs=0.05)


def test_a_needle_of_a_cut_out_is_drawn_and_not_refused() -> None:
    needle = np.full((400, 1, 4), 255, np.uint8)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        assert silhouette(rng, [needle])
        cutout_layer(rng, needle, draw_light(rng, 64), (64, 64), scale=20.0, centre=(32.0, 32.0))


@pytest.mark.parametrize("make", [maker for maker, _ in MAKERS], ids=lambda make: make.__name__)
def test_objects_are_trees_whose_first_piece_is_the_whole(make) -> None:
    for seed in range(8):
        pieces = make(np.random.default_rng(seed), ()).pieces
        assert pieces[0].parent == -1 and not pieces[0].clip
        assert all(0 <= piece.parent < index for index, piece in enumerate(pieces) if index)
        assert any(piece.outline for piece in pieces)


@pytest.mark.parametrize("layout", [layout for layout, _ in LAYOUTS], ids=lambda layout: layout.__name__)
def test_every_layout_fills_the_stage_with_things_seen(layout) -> None:
    found = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        stage = Stage(
            rng=rng,
            config=SceneConfig(size=96),
            canvas=Canvas(np.zeros((96, 96, 3), np.float32)),
            materials=Materials(rng, 96, [], count=3),
            light=draw_light(rng, 96),
        )
        background(stage)
        layout(stage)
        assert np.isfinite(stage.canvas.image).all()
        found += len(stage.canvas.masks(min_area=16, most=200)[0])
    assert found >= 4


def test_the_camera_keeps_edges_in_their_place() -> None:
    scene = np.full((64, 64, 3), 60, np.float32)
    scene[:, 32:] = 170
    seen = 0
    for seed in range(60):
        picture = expose(np.random.default_rng(seed), scene.copy()).astype(float).sum(axis=2).mean(axis=0)
        steps = np.abs(np.diff(picture))[24:40]
        if steps.sum() > 60:
            centre = (steps * np.arange(24, 40)).sum() / steps.sum()
            assert centre == pytest.approx(31, abs=1.2)
            seen += 1
    assert seen > 40


def test_dappled_light_only_darkens() -> None:
    for seed in range(20):
        factors = dapple(np.random.default_rng(seed), (48, 32))
        assert factors.shape == (48, 32)
        assert factors.min() >= 0.24 and factors.max() <= 1
