"""Regions of photographs that nobody has labelled: found without a model, nested, written as tars."""
