"""Models as ONNX files for other runtimes and languages, and proof that the files answer as the model does.

`onnx` writes them, `verify` compares, `int8` shrinks; `description` is what `model.json` says. The packages that they
need come with `anymask[export]` and are imported where they are used.
"""
