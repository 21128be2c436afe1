"""The ranker: a correction of the decoder's predicted IoUs by what the image's embedding says of the masks.

The decoder's IoU token never sees the mask that it judges. The ranker does (`anymask.model.mask_features`), and sees
the other candidates beside it: what they are on average, and how they nest.

Legend: B images, P prompts per image, M candidates, W the ranker's width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.model.config import SamConfig
from anymask.model.mask_features import MEASURES, REGIONS, RELATIONS, mask_features


class MaskRanker(nn.Module):
    """Corrects predicted IoUs; one of random weights leaves them as they are."""

    compared: Tensor
    """Weights of the candidates (columns) that each candidate (row) is compared with: of those of an ambiguous prompt
    the others. The answer to a clear prompt stands alone: scores are the same whichever candidates are asked for."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        width, decoder = config.decoder.ranker_width, config.decoder
        assert width is not None
        self.norm = nn.LayerNorm(len(REGIONS) * config.width)
        self.candidate = nn.Embedding(decoder.num_multimask + 1, width)
        self.own = nn.Linear(len(REGIONS) * config.width + len(MEASURES) + 1, width)
        self.joined = nn.Linear(2 * width + len(RELATIONS), width)
        self.out = nn.Linear(width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        compared = torch.zeros(decoder.num_multimask + 1, decoder.num_multimask + 1, device="cpu")
        compared[1:, 1:] = (1 - torch.eye(decoder.num_multimask, device="cpu")) / max(decoder.num_multimask - 1, 1)
        self.register_buffer("compared", compared, persistent=False)

    def forward(
        self,
        embedding: Float[Tensor, "b c h w"],
        logits: Float[Tensor, "b p m hm wm"],
        iou: Float[Tensor, "b p m"],
        candidates: slice,
    ) -> Float[Tensor, "b p m"]:
        """Return what is to be added to the predicted IoUs of the chosen candidates' masks."""
        seen = mask_features(embedding, logits)
        known = torch.cat([self.norm(seen.means), seen.measures, iou[..., None]], 3)
        own = F.relu(self.own(known) + self.candidate.weight[candidates])
        weights = self.compared[candidates, candidates]
        nested = (seen.relations * weights[..., None]).sum(3)
        joined = F.relu(self.joined(torch.cat([own, weights @ own, nested], 3)))
        correction: Tensor = self.out(joined)
        return correction[..., 0]
