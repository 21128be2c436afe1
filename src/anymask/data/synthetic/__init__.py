"""Synthetic scenes without end, with exact masks of wholes, parts and subparts."""

from anymask.data.synthetic.cutouts import cut_out, load_cutouts, load_pictures
from anymask.data.synthetic.scene import generate
from anymask.data.synthetic.shards import render_shards
from anymask.data.synthetic.stage import SceneConfig

__all__ = ["SceneConfig", "cut_out", "generate", "load_cutouts", "load_pictures", "render_shards"]
