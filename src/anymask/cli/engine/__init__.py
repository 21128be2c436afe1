"""`anymask engine`: the data engine's verbs."""
