"""A machine learning backend for Label Studio: masks for its prompts, and of everything."""
