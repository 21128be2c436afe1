"""The data engine in small: drawn pictures, simulated people, all stages and a release."""
