"""Samples, their sources, what is varied in them, and the stream of training batches."""
