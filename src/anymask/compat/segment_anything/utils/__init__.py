"""Meta's helpers for scripts."""
