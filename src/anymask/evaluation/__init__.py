"""Measuring models: the paper's zero-shot protocols, their metrics and their reports."""
