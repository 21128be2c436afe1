"""Other packages' names over anymask's: `segment_anything` for Meta's."""
