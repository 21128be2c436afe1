"""Masks for words: a detector's boxes or a model trained on CLIP's embeddings."""
