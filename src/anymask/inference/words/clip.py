"""CLIP: images of objects and words in one space, so that a model trained on the ones answers the others.

Source: SAM, app. D.5. CLIP is transformers' (any folder of a CLIP, or a name in its cache).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from anymask.errors import CheckpointError, PromptError
from anymask.inference.prompts import ReadWords
from anymask.inference.runtimes import AnyModel
from anymask.inference.words.local_weights import read_local

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Clip:
    """A frozen CLIP; nothing is downloaded. Raises as `TransformersDetector` does."""

    def __init__(self, name: str | os.PathLike[str], *, device: torch.device | str = "cpu") -> None:
        def read(transformers: Any, source: str) -> tuple[Any, Any]:
            kind = transformers.AutoConfig.from_pretrained(source, local_files_only=True).model_type
            if kind != "clip":
                raise ValueError(f"it is of type {kind}, not clip")
            processor = transformers.AutoProcessor.from_pretrained(source, local_files_only=True)
            return processor, transformers.CLIPModel.from_pretrained(source, local_files_only=True)

        self.name = str(name)
        processor, model = read_local(name, "CLIP", read)
        self._tokenizer: Any = processor.tokenizer
        import torch

        self._model: Any = model.requires_grad_(False).to(device).eval()
        values = processor.image_processor
        self._mean = torch.tensor(values.image_mean, device=device).view(3, 1, 1)
        self._std = torch.tensor(values.image_std, device=device).view(3, 1, 1)
        self.width = int(model.config.projection_dim)
        self.image_size = int(model.config.vision_config.image_size)
        """Side in pixels of the square crops that it sees."""
        self._patch = int(model.config.vision_config.patch_size)

    def words(self, text: str) -> Float[np.ndarray, " c"]:
        """Return a text's embedding, ℓ2-normalised, float32; raises PromptError for one that is empty or too long."""
        cleaned = " ".join(text.split())
        if not cleaned:
            raise PromptError("words are missing: give a text such as 'a wheel'")
        longest = int(self._model.config.text_config.max_position_embeddings)
        tokens = self._tokenizer(cleaned, return_tensors="pt")
        count = tokens["input_ids"].shape[1]
        if count > longest:
            raise PromptError(f"the words {cleaned!r} are {count} tokens long; CLIP reads {longest}: say it in fewer")
        import torch
        from torch.nn import functional as F

        placed = {name: tokens[name].to(self._mean.device) for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            embedded = _pooled(self._model.get_text_features(**placed))
            return np.asarray(F.normalize(embedded[0].float(), dim=0).cpu().numpy())

    def objects(
        self, crops: UInt8[Tensor, "n 3 side side"], masks: Bool[Tensor, "n side side"]
    ) -> Float[Tensor, "n c"]:
        """Return the embeddings of the objects that masks mark in square crops, ℓ2-normalised, float32.

        In the last attention layer the output token looks at the image only where the object is: at patches that it
        half covers, or, where there are none, at those of its largest share.
        """
        import torch
        from torch.nn import functional as F

        with torch.no_grad():
            pixels = (crops.float() / 255 - self._mean) / self._std
            share = F.avg_pool2d(masks[:, None].float(), self._patch).flatten(1)
            seen = share >= share.amax(1, keepdim=True).clamp(max=0.5)
            with _Restricted(self._model.vision_model.encoder.layers[-1].self_attn, seen, self._model.dtype):
                embedded = _pooled(self._model.get_image_features(pixel_values=pixels.to(self._model.dtype)))
            return F.normalize(embedded.float(), dim=-1)


class Words:
    """Reads words for a model that was trained on them; its CLIP is read when words first come."""

    def __init__(self, model: AnyModel, clip: Clip | str | os.PathLike[str] | None = None) -> None:
        self._model = model
        self._clip = clip

    @property
    def read(self) -> ReadWords | None:
        """What embeds a text for the model; None if it knows no words."""
        return None if self._model.config.text is None else self._read

    def _read(self, text: str) -> Float[np.ndarray, " c"]:
        config = self._model.config.text
        assert config is not None
        if not isinstance(self._clip, Clip):
            clip = Clip(self._clip or config.clip, device=self._model.device)
            if clip.width != config.width:
                raise CheckpointError(
                    f"{clip.name}: its embeddings have {clip.width} channels, the model was trained on {config.width}"
                )
            self._clip = clip
        return self._clip.words(text)


class _Restricted:
    """While it lasts, the first token of an attention layer sees only the patches marked; others see all."""

    def __init__(self, attention: Any, seen: Bool[Tensor, "n patches"], dtype: torch.dtype) -> None:
        import torch

        self._attention = attention
        count, patches = seen.shape
        mask = torch.zeros(count, 1, patches + 1, patches + 1, dtype=dtype, device=seen.device)
        mask[:, 0, 0, 1:].masked_fill_(~seen, torch.finfo(dtype).min)
        mask[:, 0, 0, 0] = torch.finfo(dtype).min
        self._mask = mask

    def __enter__(self) -> None:
        self._handle = self._attention.register_forward_pre_hook(self._put, with_kwargs=True)

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def _put(self, _: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return arguments, {**named, "attention_mask": self._mask}


def _pooled(answered: Any) -> Tensor:
    """Return the projected embedding, wherever this version of transformers puts it."""
    tensor: Tensor = getattr(answered, "pooler_output", answered)
    return tensor
