"""Edges on BSDS500: baselines, matching, measures and the report."""
