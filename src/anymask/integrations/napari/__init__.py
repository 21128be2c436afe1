"""A dock widget for napari: points and boxes become labels, slice by slice through a stack if wanted."""
