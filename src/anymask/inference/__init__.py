"""Masks from a trained model: prompts on an image, conversations, batches, and embeddings kept on disk."""

from anymask.inference.answers import EncodedImage, Masks
from anymask.inference.embeddings import EmbeddingCache
from anymask.inference.predictor import Predictor
from anymask.inference.prompts import Prompt
from anymask.inference.session import Session, Step

__all__ = ["EmbeddingCache", "EncodedImage", "Masks", "Predictor", "Prompt", "Session", "Step"]
