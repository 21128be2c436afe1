from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from anymask.errors import DataError, InputError
from anymask.evaluation.edges.baselines import BASELINES, canny, felzenszwalb, sobel
from anymask.evaluation.edges.bsds import list_images, read_boundaries
from anymask.evaluation.edges.matching import HumanEdges
from anymask.evaluation.edges.measures import EdgeCounts, count_matches, measure
from anymask.evaluation.edges.protocol import EdgeConfig, evaluate_edges, to_dict, to_markdown
from anymask.geometry.edges import thin

LEVELS = (0.25, 0.5, 0.75)


def write_mat(path: Path, maps: list[np.ndarray]) -> None:
    """As BSDS500 stores them: a cell of structs, whose Segmentation and Boundaries are arrays."""
    cell = np.empty((1, len(maps)), object)
    for index, edges in enumerate(maps):
        human = np.empty((1, 1), [("Segmentation", object), ("Boundaries", object)])
        _, regions = cv2.connectedComponents((~edges).astype(np.uint8), connectivity=4)
        human[0, 0] = (regions.astype(np.uint16), edges.astype(np.uint8))
        cell[0, index] = human
    savemat(path, {"groundTruth": cell})


@pytest.fixture
def bsds(tmp_path: Path) -> Path:
    """Three pictures of a bright box, and its outline as two humans drew it, one of them a pixel off."""
    folder = tmp_path / "data"
    for part in ("images/test", "groundTruth/test"):
        (folder / part).mkdir(parents=True)
    for index in range(3):
        picture = np.full((60, 80, 3), 40, np.uint8)
        picture[15:45, 10 + 5 * index : 60] = 200
        Image.fromarray(picture).save(folder / f"images/test/{index}.jpg", quality=95)
        inside = (picture[..., 0] == 200).astype(np.uint8)
        outline = (cv2.dilate(inside, np.ones((3, 3))) - inside).astype(bool)
        write_mat(folder / f"groundTruth/test/{index}.mat", [thin(outline), np.roll(thin(outline), 1, axis=1)])
    return folder


def line(row: int, size: tuple[int, int] = (60, 80), columns: slice = slice(10, 70)) -> np.ndarray:
    edges = np.zeros(size, bool)
    edges[row, columns] = True
    return edges


def slow_maximum(machine: np.ndarray, human: np.ndarray, reach: float) -> tuple[int, float]:
    """The most pairs, and the least sum of distances that many have: an assignment over all pixels."""
    ours, theirs = np.argwhere(machine), np.argwhere(human)
    distance = np.hypot(*np.moveaxis(ours[:, None] - theirs[None], -1, 0))
    cost = np.where(distance <= reach, distance, 1e4)
    rows, columns = linear_sum_assignment(cost)
    taken = cost[rows, columns] < 1e4
    return int(taken.sum()), float(cost[rows, columns][taken].sum())


@pytest.mark.parametrize("reach", [0.0, 1.0, 1.5, 2.9, 4.3])
def test_as_many_pixels_are_matched_as_in_the_best_assignment(reach: float) -> None:
    rng = np.random.default_rng(0)
    for _ in range(25):
        shape = tuple(rng.integers(1, 20, 2))
        machine, human = (rng.random(shape) < rng.uniform(0, 0.6) for _ in range(2))
        matched = HumanEdges(human, reach).match(machine)
        assert len(matched) == machine.sum()
        assert matched.sum() == slow_maximum(machine, human, reach)[0]


def test_as_many_pixels_are_matched_as_scipy_matches_on_maps_of_lines() -> None:
    rng = np.random.default_rng(1)
    noise = [cv2.blur(rng.random((120, 160)).astype(np.float32), (7, 7)) for _ in range(3)]
    for machine, human in zip(noise, noise[1:], strict=False):
        ours, theirs = thin(machine > 0.5), thin(human > 0.5)
        a, b = np.argwhere(ours), np.argwhere(theirs)
        near = np.square(a[:, None] - b[None]).sum(axis=-1) <= 4.3**2
        best = maximum_bipartite_matching(csr_array(near), perm_type="column")
        assert HumanEdges(theirs, 4.3).match(ours).sum() == (best >= 0).sum()


def test_a_pixel_has_one_partner_only() -> None:
    two, one = np.zeros((5, 9), bool), np.zeros((5, 9), bool)
    two[2, [3, 5]] = one[2, 4] = True
    assert HumanEdges(one, 3).match(two).sum() == 1
    assert HumanEdges(two, 3).match(one).sum() == 1


def test_near_partners_give_way_where_more_can_be_matched() -> None:
    machine, human = np.zeros((1, 8), bool), np.zeros((1, 8), bool)
    machine[0, [2, 4]] = human[0, [0, 2]] = True  # 2 to itself would leave 4 and 0 alone
    np.testing.assert_array_equal(HumanEdges(human, 2).match(machine), [True, True])


@pytest.mark.parametrize(("shift", "recall"), [(0, 1.0), (4, 1.0), (5, 0.0)])
def test_a_line_is_found_up_to_the_tolerance(shift: int, recall: float) -> None:
    size = (321, 481)  # 0.0075 of the diagonal are 4.34 pixels
    human, machine = line(100, size, slice(50, 250)), line(100 + shift, size, slice(50, 250))
    counts = count_matches([machine], [human])
    assert counts.recall[0] == counts.precision[0] == recall


def test_a_perfect_map_scores_one_in_everything() -> None:
    counts = count_matches([line(30)] * 3, [line(30), line(30)])
    scores = measure([counts], LEVELS)
    assert (scores.ods, scores.ois, scores.ap, scores.r50) == (1, 1, 1, 1)


def test_a_map_beyond_reach_and_an_empty_one_score_zero() -> None:
    for edges in (line(50), np.zeros((60, 80), bool)):
        scores = measure([count_matches([edges] * 3, [line(10)])], LEVELS)
        assert (scores.ods, scores.ois, scores.ap, scores.r50) == (0, 0, 0, 0)


def test_nothing_to_find_is_no_recall_and_no_precision() -> None:
    counts = count_matches([line(10)], [np.zeros((60, 80), bool)])
    assert counts.human[0] == 0 and counts.machine[0] == 60
    assert counts.recall[0] == counts.precision[0] == 0


def test_counts_over_two_humans_are_those_counted_by_hand() -> None:
    machine = line(10) | line(30)
    humans = [line(10), line(10) | line(50)]
    counts = count_matches([machine], humans)
    # Humans drew 60 + 120 pixels, of which the machine has 60 + 60; of its 120 pixels those of one line are theirs.
    assert counts.to_dict() == {"human_matched": [120], "human": [180], "machine_matched": [60], "machine": [120]}


def test_measures_are_those_computed_by_hand() -> None:
    def made(human_matched: list[int], machine_matched: list[int], machine: list[int]) -> EdgeCounts:
        human = np.full(3, 100)
        return EdgeCounts(
            human_matched=np.array(human_matched),
            human=human,
            machine_matched=np.array(machine_matched),
            machine=np.array(machine),
        )

    one, two = made([80, 40, 0], [80, 40, 0], [160, 40, 0]), made([60, 60, 20], [60, 60, 20], [240, 80, 20])
    scores = measure([one, two], LEVELS)
    # Recall 0.7, 0.5, 0.1; precision 0.35, 5/6, 1.
    r, p = np.linspace(0.7, 0.5, 101), np.linspace(0.35, 5 / 6, 101)
    assert scores.ods == pytest.approx((2 * r * p / (r + p)).max())
    assert 0.25 < scores.threshold <= 0.5
    # The best of the first image is its first level (F 8/13), of the second its second (F 2/3).
    assert scores.ois == pytest.approx(2 * 0.7 * (140 / 240) / (0.7 + 140 / 240))
    at = [np.interp(x / 100, [0.1, 0.5, 0.7], [1, 5 / 6, 0.35]) for x in range(10, 71)]
    assert scores.ap == pytest.approx(sum(at) / 100, abs=0.0036)  # a recall of 0.7 may be rounded out of reach
    assert scores.r50 == pytest.approx(np.interp(0.5, [0.35, 5 / 6], [0.7, 0.5]))


def test_the_official_layout_is_read(bsds: Path) -> None:
    images = list_images(bsds)
    assert [image.name for image in images] == ["0", "1", "2"]
    humans = read_boundaries(images[0].truth)
    assert len(humans) == 2 and humans[0].shape == (60, 80) and humans[0].dtype == np.bool_
    assert humans[0].any() and np.array_equal(np.roll(humans[0], 1, axis=1), humans[1])


@pytest.mark.parametrize("method", list(BASELINES))
def test_baselines_find_a_box(bsds: Path, method: str) -> None:
    scores = evaluate_edges(bsds, method, config=EdgeConfig(tolerance=0.02)).scores
    assert scores.ods > 0.9 and scores.ois >= scores.ods - 1e-9


def test_a_detector_that_copies_a_human_scores_as_one(bsds: Path) -> None:
    truths = iter([read_boundaries(image.truth)[0] for image in list_images(bsds)])
    result = evaluate_edges(bsds, "copy", lambda _: next(truths).astype(np.float32), EdgeConfig(tolerance=0.02))
    assert result.scores.ods == result.scores.r50 == 1 and result.num_images == 3


def test_workers_count_the_same(bsds: Path) -> None:
    assert evaluate_edges(bsds, "sobel", config=EdgeConfig(num_workers=2)) == evaluate_edges(bsds, "sobel")


def test_a_run_goes_on_where_it_stopped(bsds: Path, tmp_path: Path) -> None:
    output, asked = tmp_path / "out", []

    def detect(image: np.ndarray) -> np.ndarray:
        asked.append(image)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return sobel(image)

    with pytest.raises(KeyboardInterrupt):
        evaluate_edges(bsds, "mine", detect, output=output)
    heard: list[tuple[int, int]] = []
    resumed = evaluate_edges(bsds, "mine", detect, output=output, progress=lambda *told: heard.append(told))
    assert len(asked) == 4 and heard == [(3, 3)]
    assert resumed == evaluate_edges(bsds, "mine", sobel)
    evaluate_edges(bsds, "mine", detect, EdgeConfig(tolerance=0.01), output=output)
    assert len(asked) == 7  # with another tolerance all are done again
    (output / "images" / "1.json").write_text('{"of":')
    evaluate_edges(bsds, "mine", detect, EdgeConfig(tolerance=0.01), output=output)
    assert len(asked) == 8
    os.utime(bsds / "groundTruth/test/1.mat", ns=(0, 0))
    evaluate_edges(bsds, "mine", detect, EdgeConfig(tolerance=0.01), output=output)
    assert len(asked) == 9  # with another truth its image is done again


def _no_folder(data: Path) -> Path:
    return data / "images"


def _no_edges(data: Path) -> Path:
    (data / "groundTruth/test/1.mat").unlink()
    return data


def _broken(data: Path) -> Path:
    (data / "groundTruth/test/1.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(300))
    return data


def _another(data: Path) -> Path:
    savemat(data / "groundTruth/test/1.mat", {"edges": np.ones(3)})
    return data


def _no_structs(data: Path) -> Path:
    savemat(data / "groundTruth/test/1.mat", {"groundTruth": np.ones(3)})
    return data


def _other_size(data: Path) -> Path:
    write_mat(data / "groundTruth/test/1.mat", [line(10, (50, 80))])
    return data


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_folder, "no folder images/test"),
        (_no_edges, "1.jpg has no edges"),
        (_broken, "1.mat: "),
        (_another, "holds no groundTruth"),
        (_no_structs, "has no Boundaries"),
        (_other_size, r"edges of \(50, 80\)"),
    ],
)
def test_data_that_cannot_be_used_is_named(bsds: Path, spoil: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(DataError, match=message):
        evaluate_edges(spoil(bsds), "sobel")


def test_what_makes_no_sense_is_refused(bsds: Path) -> None:
    with pytest.raises(InputError, match="baseline 'roberts'"):
        evaluate_edges(bsds, "roberts")
    with pytest.raises(InputError, match="tolerance"):
        EdgeConfig(tolerance=-1)
    with pytest.raises(InputError, match="nobody"):
        count_matches([line(3)], [])


def test_canny_keeps_weak_pixels_that_strong_ones_lead_to() -> None:
    picture = np.full((60, 200, 3), 100, np.uint8)
    picture[30:] = np.linspace(100, 220, 200)[:, None].astype(np.uint8)
    strength = canny(picture)
    assert strength[28:32, 90:110].max() == strength.max() > 0.3
    assert len(list(felzenszwalb(picture))) == len(BASELINES["felzenszwalb"][0])


def test_reports_hold_the_paper_s_rows(bsds: Path) -> None:
    result = evaluate_edges(bsds, "sobel")
    plain = to_dict(result)
    assert json.loads(json.dumps(plain)) == plain
    assert {"ods", "ois", "ap", "r50"} <= plain.keys() and plain["images"] == 3
    text = to_markdown([result])
    assert f"{result.scores.ods:.3f}" in text and ".768" in text and ".539" in text
