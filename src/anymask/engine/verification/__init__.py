"""Verifiers: what a model made is judged by what people said of its like, and people see where that is unsure."""
