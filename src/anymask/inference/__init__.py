"""Masks from a trained model: prompts on an image, conversations, everything at once, embeddings kept on disk."""

from anymask.inference.acceleration import accelerate
from anymask.inference.answers import EncodedImage, Masks
from anymask.inference.automatic.label_maps import label_map
from anymask.inference.automatic.masks import AutomaticMasks, MaskRecord
from anymask.inference.automatic.options import AutomaticOptions
from anymask.inference.automatic.tiled import TiledMasks
from anymask.inference.automatic.tree import build_tree
from anymask.inference.embeddings import EmbeddingCache
from anymask.inference.predictor import Predictor, load
from anymask.inference.prompts import Prompt
from anymask.inference.refinement import PLAIN, Refinement
from anymask.inference.session import Session, Step
from anymask.inference.words.text import TextInstance, TextMasks, TextOptions

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
