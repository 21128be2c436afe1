"""The rounds: their order, what each is asked with, and what is let through of the answer."""

import pytest
import torch

from anymask.task import LossConfig, PromptConfig, RoundsConfig, mask_loss, round_schedule, rounds_with_loss, simulate

SIZE, SIDE = 64, 16


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def truths(b=2, p=8, seed=0):
    draw = torch.randint(0, SIDE, (b, p, 4), generator=rng(seed)).sort(dim=-1).values
    cells = torch.arange(SIDE)
    rows = (cells >= draw[..., :1]) & (cells <= draw[..., 2:3])
    columns = (cells >= draw[..., 1:2]) & (cells <= draw[..., 3:4])
    return rows[..., :, None] & columns[..., None, :]


class RandomDecoder:
    """Answers with noise, and remembers what it was asked and what it said."""

    def __init__(self, seed=0):
        self.rng = rng(seed)
        self.asked, self.logits, self.iou = [], [], []

    def __call__(self, prompts):
        b, p = prompts.labels.shape[:2]
        self.asked.append(prompts)
        self.logits.append(torch.randn(b, p, 4, SIDE, SIDE, generator=self.rng).requires_grad_())
        self.iou.append(torch.rand(b, p, 4, generator=self.rng).requires_grad_())
        return self.logits[-1], self.iou[-1]


def play(config=None, *, decoder=None, truth=None, seed=0):
    decoder = decoder or RandomDecoder()
    truth = truths() if truth is None else truth
    config = config or RoundsConfig()
    return decoder, list(simulate(decoder, truth, config, image_size=SIZE, generator=rng(seed)))


@pytest.mark.parametrize("seed", range(10))
def test_the_paper_s_eleven_rounds(seed):
    decoder, rounds = play(seed=seed)
    assert len(rounds) == RoundsConfig().num_rounds == 11
    counts = [r.prompts.labels.shape[2] - 2 for r in rounds]
    grown = [after - before for before, after in zip(counts, counts[1:], strict=False)]
    assert grown == [int(r.adds_point) for r in rounds[1:]]
    assert counts[0] == 0 and counts[-1] == 8
    assert sorted(set(grown)) == [0, 1] and grown[-1] == 0 and grown[-2] == 1
    assert [r.index for r in rounds] == list(range(11))
    assert all(asked is r.prompts for asked, r in zip(decoder.asked, rounds, strict=True))


def test_the_round_without_a_point_is_as_often_before_any_correction():
    source = rng()
    places = [round_schedule(RoundsConfig(), source).index(False) for _ in range(2000)]
    counts = torch.bincount(torch.tensor(places))
    assert len(counts) == 8
    assert (counts - 250).abs().max() < 60


@pytest.mark.parametrize(
    ("corrections", "refinements", "expected"),
    [
        (0, 0, ()),
        (3, 0, (True, True, True)),
        (3, 1, (True, True, True, False)),
        (0, 2, (False, False)),
        (1, 2, (False, True, False)),
    ],
)
def test_other_numbers_of_rounds(corrections, refinements, expected):
    config = RoundsConfig(num_corrections=corrections, num_refinements=refinements)
    assert round_schedule(config, rng()) == expected
    _, rounds = play(config)
    assert len(rounds) == config.num_rounds == 1 + len(expected)


def test_a_negative_number_of_rounds_is_refused():
    with pytest.raises(ValueError, match="-1 corrections"):
        round_schedule(RoundsConfig(num_corrections=-1), rng())


def test_the_first_round_teaches_always_and_of_the_others_as_many_as_asked_for():
    config = RoundsConfig(num_corrections=5, num_refinements=0, num_loss_rounds=2)
    drawn = [rounds_with_loss(config, rng(seed)) for seed in range(400)]
    assert {(len(found), found[0], sum(found)) for found in drawn} == {(6, True, 3)}
    often = [sum(found[k] for found in drawn) for k in range(1, 6)]
    assert all(120 < count < 200 for count in often)
    assert rounds_with_loss(RoundsConfig(), rng()) == (True,) * 11


@pytest.mark.parametrize("num_loss_rounds", [-1, 3])
def test_more_rounds_that_teach_than_there_are_is_refused(num_loss_rounds):
    with pytest.raises(ValueError, match=r"num_loss_rounds is -?\d of 2 rounds"):
        RoundsConfig(num_corrections=2, num_refinements=0, num_loss_rounds=num_loss_rounds)


def test_points_so_far_stay():
    _, rounds = play()
    for before, after in zip(rounds, rounds[1:], strict=False):
        kept = before.prompts.labels.shape[2]
        assert torch.equal(after.prompts.points[:, :, :kept], before.prompts.points)
        assert torch.equal(after.prompts.labels[:, :, :kept], before.prompts.labels)


def test_the_chosen_logits_are_fed_back_as_they_are_and_without_gradient():
    decoder, rounds = play()
    assert rounds[0].prompts.masks is None
    for i, (before, after) in enumerate(zip(rounds, rounds[1:], strict=False)):
        masks = after.prompts.masks
        assert after.prompts.has_mask is None and not masks.requires_grad
        for b in range(2):
            for p in range(8):
                lone = before.prompts.single[b, p]
                tokens = [1, 2, 3] if lone else [0]
                best = max(tokens, key=lambda t: decoder.iou[i][b, p, t].item())
                assert torch.equal(masks[b, p], decoder.logits[i][b, p, best])


def test_corrections_answer_the_mask_that_was_passed_on():
    truth = truths()
    _, rounds = play(truth=truth)
    for before, after in zip(rounds, rounds[1:], strict=False):
        if after.adds_point:
            cell = ((after.prompts.points[:, :, -1] + 0.5) / (SIZE / SIDE)).long()
            index = (cell[..., 1] * SIDE + cell[..., 0])[..., None]
            predicted = (before.passed_on > 0).flatten(2).gather(2, index)[..., 0]
            wanted = truth.flatten(2).gather(2, index)[..., 0]
            assert (predicted != wanted).all()
            assert torch.equal(after.prompts.labels[:, :, -1] == 1, wanted)


def test_three_masks_for_a_lone_point_and_one_for_all_else():
    _, rounds = play(RoundsConfig(prompts=PromptConfig(scribble=1.0, mask=1.0)), truth=truths(p=64))
    first = rounds[0]
    lone = first.prompts.single
    assert 0 < lone.sum() < lone.numel()
    clicks = (first.prompts.labels == 1).sum(2)
    assert torch.equal(lone, (clicks == 1) & (first.prompts.labels[..., 0] == 1))
    assert (first.candidates[lone] == torch.tensor([False, True, True, True])).all()
    assert (first.candidates[~lone] == torch.tensor([True, False, False, False])).all()
    for later in rounds[1:]:
        assert later.logits.shape[2] == 1 and later.candidates.all()


@pytest.mark.parametrize(
    ("prompts", "tokens"), [(PromptConfig(box=0.0), slice(1, 4)), (PromptConfig(point=0.0), slice(0, 1))]
)
def test_a_batch_of_one_kind_keeps_only_the_tokens_it_may_use(prompts, tokens):
    decoder, rounds = play(RoundsConfig(prompts=prompts))
    assert torch.equal(rounds[0].logits, decoder.logits[0][:, :, tokens])
    assert torch.equal(rounds[0].iou, decoder.iou[0][:, :, tokens])
    assert rounds[0].candidates.all()
    assert torch.equal(rounds[1].logits, decoder.logits[1][:, :, :1])


def test_each_round_may_be_back_propagated_before_the_next_is_asked():
    decoder, truth = RandomDecoder(), truths()
    game = simulate(decoder, truth, RoundsConfig(), image_size=SIZE, generator=rng())
    for asked, current in enumerate(game, start=1):
        assert len(decoder.asked) == asked
        loss = mask_loss(current.logits, current.iou, truth, LossConfig(), candidates=current.candidates)
        loss.total.backward()
        moved = decoder.logits[-1].grad.flatten(3).any(3)
        assert (moved.sum(2) == 1).all()
        lone = current.prompts.single
        assert moved[~lone][:, 0].all() and not moved[lone][:, 0].any()
        assert all(logits.grad is not None for logits in decoder.logits)


def test_summed_losses_give_the_gradient_of_the_rounds_one_by_one():
    def gradients(each_round):
        weight = torch.zeros(4, SIDE, SIDE, requires_grad=True)

        def decoder(prompts):
            bias = 0.1 * prompts.labels.float().sum(2)[:, :, None, None, None]
            logits = weight + bias
            return logits, logits.mean((-1, -2)).sigmoid()

        truth, total = truths(), 0.0
        for r in simulate(decoder, truth, RoundsConfig(), image_size=SIZE, generator=rng(4)):
            loss = mask_loss(r.logits, r.iou, truth, LossConfig(bce=1.0), candidates=r.candidates).total
            if each_round:
                loss.backward()
            else:
                total = total + loss
        if not each_round:
            total.backward()
        return weight.grad

    torch.testing.assert_close(gradients(True), gradients(False))


def test_an_oracle_leaves_no_error_and_is_only_confirmed():
    truth = truths()

    def oracle(prompts):
        logits = torch.where(truth, 5.0, -5.0)[:, :, None].expand(-1, -1, 4, -1, -1)
        return logits, torch.ones(*truth.shape[:2], 4)

    _, rounds = play(decoder=oracle, truth=truth)
    assert (rounds[-1].prompts.labels[:, :, 2:] == 1).all()
    for r in rounds:
        loss = mask_loss(r.logits, r.iou, truth, LossConfig(), candidates=r.candidates)
        assert loss.true_iou.min() == 1 and loss.total < 0.1


def test_a_decoder_that_takes_each_correction_to_heart_ends_with_the_truth():
    truth = truths(seed=2)

    def pupil(prompts):
        b, p = truth.shape[:2]
        before = prompts.masks if prompts.masks is not None else torch.full((b, p, SIDE, SIDE), -1.0)
        cell = ((prompts.points[:, :, -1] + 0.5) / (SIZE / SIDE)).long()
        same_row = torch.arange(SIDE)[:, None] == cell[..., 1, None, None]
        after = torch.where(same_row & (prompts.labels[:, :, -1] >= 0)[..., None, None], truth * 2.0 - 1, before)
        return after[:, :, None].expand(-1, -1, 4, -1, -1), torch.zeros(b, p, 4)

    config = RoundsConfig(num_corrections=SIDE + 1, num_refinements=0)
    _, rounds = play(config, decoder=pupil, truth=truth)
    assert torch.equal(rounds[-1].passed_on > 0, truth)


def test_empty_truths_are_played_through_without_clicks_on_them():
    truth = truths()
    truth[1, 3:] = False

    def silent(prompts):
        b, p = prompts.labels.shape[:2]
        return torch.full((b, p, 4, SIDE, SIDE), -1.0), torch.zeros(b, p, 4)

    _, rounds = play(decoder=silent, truth=truth)
    assert (rounds[-1].prompts.labels[1, 3:] <= -1).all()
    assert (rounds[-1].prompts.labels[0, :, 2:] == 1).all()


def test_one_seed_gives_one_game():
    (_, first), (_, again), (_, other) = play(seed=1), play(seed=1), play(seed=2)
    assert torch.equal(first[-1].prompts.points, again[-1].prompts.points)
    assert [r.adds_point for r in first] == [r.adds_point for r in again]
    assert not torch.equal(first[-1].prompts.points, other[-1].prompts.points)


def test_a_decoder_without_all_four_tokens_is_refused():
    def three(prompts):
        b, p = prompts.labels.shape[:2]
        return torch.zeros(b, p, 3, SIDE, SIDE), torch.zeros(b, p, 3)

    with pytest.raises(ValueError, match="4 of each are needed"):
        play(decoder=three)


def test_padding_is_left_alone_in_every_round():
    truth = truths()
    valid = torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    valid[:, :, :10] = True
    truth &= valid[:, None]
    game = simulate(RandomDecoder(), truth, RoundsConfig(), image_size=SIZE, valid=valid, generator=rng())
    *_, last = game
    clicks = last.prompts.labels >= 0
    assert last.prompts.points[clicks][:, 0].max() <= 40
