"""Protocols of COCO and LVIS: proposals, instances of a detector's boxes, words; average precision and its reports."""
