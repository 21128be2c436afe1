"""The prompt encoder as a tracer can follow it: whether points are absent is said beforehand, not looked up in them."""

from __future__ import annotations

from dataclasses import dataclass

from anymask.model import PointLabel, Prompts
from anymask.model.prompt_encoder import EncodedPrompts, PromptEncoder


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedPrompts(Prompts):
    """Prompts of which points may be absent (`padded`) or surely are not."""

    padded: bool


class TracedPromptEncoder(PromptEncoder):
    """A `PromptEncoder` without a decision that depends on labels."""

    def forward(self, prompts: Prompts) -> EncodedPrompts:
        """Encode prompts; where they are padded, every point is marked as present or absent."""
        assert isinstance(prompts, TracedPrompts)
        present = prompts.labels != PointLabel.ABSENT if prompts.padded else None
        tokens = self._points(prompts.points, prompts.labels)
        return EncodedPrompts(tokens=tokens, present=present, dense=self._dense(prompts))
