"""Recipes, the training step and the loop."""
