"""What computes a model's answers on the CPU: torch, or an engine that runs its exported graphs.

Everything of `anymask.inference` encodes images and decodes prompts through `runtime_of(model)`. Torch answers for a
`Sam` unless `use` chose otherwise; and in any case on a GPU, in another type than float32, and once weights were
changed. An `ExportedModel` is its graphs alone, and needs no torch.
"""

from anymask.inference.runtimes.choice import RuntimeName, runtime_of, use
from anymask.inference.runtimes.exported import AnyModel, ExportedModel, model_name, weights_hash

__all__ = ["AnyModel", "ExportedModel", "RuntimeName", "model_name", "runtime_of", "use", "weights_hash"]
