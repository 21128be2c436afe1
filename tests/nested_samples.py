"""A whole, a part and a subpart, for tests in several folders."""

import numpy as np

from anymask.data.sample import Sample


def chain() -> np.ndarray:
    """Whole, part and subpart, (3, 40, 40)."""
    masks = np.zeros((3, 40, 40), bool)
    masks[0, 2:38, 2:38] = True
    masks[1, 5:25, 5:25] = True
    masks[2, 8:16, 8:16] = True
    return masks


def sample(masks: np.ndarray, levels: list[int], parents: list[int]) -> Sample:
    """A grey image with these masks."""
    return Sample(
        key="chain",
        image=np.full((*masks.shape[1:], 3), 90, np.uint8),
        masks=masks,
        levels=np.array(levels, np.int8),
        parents=np.array(parents, np.int64),
    )
