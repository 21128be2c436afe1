"""Synthetic scenes without end, with exact masks of wholes, parts and subparts."""

from anymask.data.synthetic.config import SceneConfig
from anymask.data.synthetic.cutouts import cut_out, load_cutouts, load_pictures
from anymask.data.synthetic.scene import generate
from anymask.data.synthetic.shards import render_shards

__all__ = ["SceneConfig", "cut_out", "generate", "load_cutouts", "load_pictures", "render_shards"]
