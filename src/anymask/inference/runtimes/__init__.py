"""What computes a model's answers on the CPU: torch, or an engine that runs its exported graphs.

Everything of `anymask.inference` encodes images and decodes prompts through `runtime_of(model)`. That is torch unless
`use` chose otherwise; and torch in any case on a GPU, in another type than float32, and once weights were changed.
"""

from anymask.inference.runtimes.choice import RuntimeName, runtime_of, use
from anymask.inference.runtimes.runtime import Runtime

__all__ = ["Runtime", "RuntimeName", "runtime_of", "use"]
