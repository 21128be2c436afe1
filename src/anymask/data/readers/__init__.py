"""Readers of labelled images, one for each layout that they are found in; `anymask.data.open` chooses."""
