"""anymask in the tools that people already use: what each of them asks for, answered by the predictor."""
