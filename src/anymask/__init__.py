"""Segment anything, with any prompt: the promptable task, the model and the data engine in one package."""
