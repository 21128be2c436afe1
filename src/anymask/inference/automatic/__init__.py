"""Masks of everything: points asked, masks selected, tiles joined; trees and label maps of what comes out."""
