from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from anymask.errors import PromptError
from anymask.evaluation.coco.text_to_mask import by_detector
from anymask.inference import TextMasks, TextOptions
from anymask.inference.words.detector import WordBox
from anymask.model import SIZES, Sam, build_sam

PLACES = {"cup": (0.9, (5, 5, 25, 25)), "lid": (0.2, (40, 5, 60, 25)), "spoon": (0.5, (6, 5, 25, 26))}
IMAGE = np.random.default_rng(0).integers(0, 255, (40, 70, 3), dtype=np.uint8)


class Short:
    """Reads two phrases at once, none of them long; what it read is kept."""

    def __init__(self) -> None:
        self.read: list[list[str]] = []

    def detect(self, image: np.ndarray, phrases: Sequence[str], /) -> list[WordBox]:
        if len(phrases) > 2 or any(len(phrase) > 9 for phrase in phrases):
            raise PromptError("too long")
        self.read.append(list(phrases))
        return [WordBox(phrase=p, score=PLACES[p][0], box=PLACES[p][1]) for p in phrases if p in PLACES]


@pytest.fixture(scope="module")
def sam() -> Sam:
    torch.manual_seed(0)
    return build_sam(SIZES["smoke"]).eval()


def test_a_phrase_gets_what_passes_the_threshold_and_several_get_all(sam: Sam) -> None:
    detector, calls = Short(), []
    handle = sam.image_encoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        prepared = by_detector(TextMasks(sam, detector, TextOptions(threshold=0.3)))(IMAGE)
        assert len(prepared.one("fork")) == len(prepared.one("lid")) == 0 and not calls
        (cup,) = prepared.one("cup")
        found = prepared.several(["fork", "lid", "knife", "a very long name", "cup", "spoon"])
        assert len(calls) == 1
    finally:
        handle.remove()
    assert found is not None
    assert [(each.phrase, each.score) for each in found] == [("cup", 0.9), ("lid", 0.2)]  # the spoon lies on the cup
    assert found[0].rle == cup
    assert sorted(phrase for part in detector.read[3:] for phrase in part) == ["cup", "fork", "knife", "lid", "spoon"]
    assert prepared.several([]) == []
    with pytest.raises(PromptError):
        prepared.one("a very long name")


def test_more_phrases_than_may_be_asked_at_once_are_asked_in_parts(sam: Sam) -> None:
    class Many(Short):
        def detect(self, image: np.ndarray, phrases: Sequence[str], /) -> list[WordBox]:
            self.read.append(list(phrases))
            return []

    detector = Many()
    assert by_detector(TextMasks(sam, detector))(IMAGE).several([f"thing {n}" for n in range(1203)]) == []
    assert max(map(len, detector.read)) <= 100 and sum(map(len, detector.read)) == 1203
