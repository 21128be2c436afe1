"""The ranker: a correction of the decoder's predicted IoUs by what the image's embedding says of the masks.

The decoder's IoU token never sees the mask that it judges. The ranker does (`anymask.model.mask_features`), and sees
the other candidates beside it: each pair of them sends a message, made of both and of how they nest.

Legend: B images, P prompts an image, M candidates, W the ranker's width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from anymask.model.config import SamConfig
from anymask.model.dense import Linear
from anymask.model.mask_features import MEASURES, REGIONS, RELATIONS, covered_cells, mask_features, relations


class MaskRanker(nn.Module):
    """Corrects predicted IoUs; one of random weights leaves them as they are."""

    compared: Tensor
    """Which candidates (columns) each candidate (row) is compared with: of those of an ambiguous prompt the others; the
    answer to a clear prompt stands alone, so that a score is the same whichever candidates are asked for."""

    def __init__(self, config: SamConfig) -> None:
        super().__init__()
        width, decoder = config.decoder.ranker_width, config.decoder
        assert width is not None
        count = decoder.num_multimask + 1
        self.norm = nn.LayerNorm(len(REGIONS) * config.width)
        self.means = Linear(len(REGIONS) * config.width, width)
        self.measures = Linear(len(MEASURES) + 1, width)
        self.candidate = nn.Embedding(count, width)
        self.hidden = Linear(width, width)
        self.one, self.other = Linear(width, width), nn.Linear(width, width, bias=False)
        self.relation = nn.Linear(len(RELATIONS), width, bias=False)
        self.joined = Linear(2 * width, width)
        self.out = Linear(width, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        compared = 1 - torch.eye(count, device="cpu")
        compared[0] = compared[:, 0] = 0
        self.register_buffer("compared", compared, persistent=False)

    def forward(
        self,
        embedding: Float[Tensor, "b c h w"],
        logits: Float[Tensor, "b p m hm wm"],
        iou: Float[Tensor, "b p m"],
        candidates: slice,
    ) -> Float[Tensor, "b p m"]:
        """Return what is to be added to the predicted IoUs of the chosen candidates' masks."""
        cells = covered_cells(logits, (embedding.shape[-2], embedding.shape[-1]))
        features = mask_features(embedding, logits, cells)
        means, measures = features.split([self.means.in_features, len(MEASURES)], 3)
        known = self.means(self.norm(means)) + self.measures(torch.cat([measures, iou[..., None]], 3))
        hidden = F.relu(known + self.candidate.weight[candidates])
        hidden = hidden + self.hidden(hidden, "relu")
        pairs = self.one(hidden)[:, :, :, None] + self.other(hidden)[:, :, None] + self.relation(relations(cells))
        weights = self.compared[candidates, candidates]
        messages = (F.relu(pairs) * weights[..., None]).sum(3) / weights.sum(1).clamp(min=1)[:, None]
        correction: Tensor = self.out(self.joined(torch.cat([hidden, messages], 3), "relu"))
        return correction[..., 0]
