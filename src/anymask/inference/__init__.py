"""Masks from a trained model: prompts on an image, conversations, everything at once, embeddings kept on disk."""

from anymask.inference.acceleration import accelerate
from anymask.inference.answers import EncodedImage, Masks
from anymask.inference.automatic import AutomaticMasks
from anymask.inference.automatic_options import AutomaticOptions
from anymask.inference.embeddings import EmbeddingCache
from anymask.inference.label_maps import label_map
from anymask.inference.loading import load
from anymask.inference.mask_record import MaskRecord
from anymask.inference.predictor import Predictor
from anymask.inference.prompts import Prompt
from anymask.inference.refinement import PLAIN, Refinement
from anymask.inference.session import Session, Step
from anymask.inference.text import TextInstance, TextMasks, TextOptions
from anymask.inference.tiled import TiledMasks
from anymask.inference.tree import build_tree

__all__ = [
    "PLAIN",
    "AutomaticMasks",
    "AutomaticOptions",
    "EmbeddingCache",
    "EncodedImage",
    "MaskRecord",
    "Masks",
    "Predictor",
    "Prompt",
    "Refinement",
    "Session",
    "Step",
    "TextInstance",
    "TextMasks",
    "TextOptions",
    "TiledMasks",
    "accelerate",
    "build_tree",
    "label_map",
    "load",
]
