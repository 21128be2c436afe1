"""Muon against the singular value decomposition, and on problems where it must get somewhere."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from anymask.model import SIZES, build_sam
from anymask.training.config import OptimConfig
from anymask.training.optim import Muon, build_optimizer, orthogonal


@pytest.mark.parametrize("shape", [(1, 24, 24), (3, 16, 80), (2, 80, 16)])
def test_singular_values_become_about_one_and_directions_stay(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape) * torch.logspace(-2, 2, shape[0])[:, None, None]
    made = orthogonal(matrices)
    values = torch.linalg.svdvals(made)
    assert float(values.max()) < 1.3 and float(values.mean()) > 0.7
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    rotated = left.mT @ made @ right.mT  # diagonal, if the singular vectors are the same
    off_diagonal = rotated - torch.diag_embed(torch.diagonal(rotated, dim1=1, dim2=2))
    assert float(off_diagonal.abs().max()) < 1e-3


def test_a_matrix_of_zeros_stays_zero() -> None:
    assert torch.equal(orthogonal(torch.zeros(1, 8, 8)), torch.zeros(1, 8, 8))


def test_other_groups_take_the_steps_of_adamw() -> None:
    torch.manual_seed(0)
    ours = nn.Parameter(torch.randn(5, 3))
    theirs = nn.Parameter(ours.detach().clone())
    muon = Muon([{"params": [ours], "weight_decay": 0.1}], lr=1e-2, betas=(0.9, 0.99))
    adamw = torch.optim.AdamW([theirs], lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1)
    for _ in range(20):
        gradient = torch.randn(5, 3)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step()
        adamw.step()
    torch.testing.assert_close(ours, theirs)


def test_an_ill_conditioned_regression_is_learned() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(256, 32) * torch.logspace(0, -2, 32)
    truth = torch.randn(20, 32)
    weight = nn.Parameter(torch.zeros(20, 32))
    optimizer = Muon([{"params": [weight], "orthogonal": True}], lr=0.2)
    first = float(F.mse_loss(inputs @ weight.T, inputs @ truth.T).detach())
    for step in range(300):
        optimizer.param_groups[0]["lr"] = 0.2 * (1 - step / 300)
        optimizer.zero_grad()
        loss = F.mse_loss(inputs @ weight.T, inputs @ truth.T)
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 1e-3 * first


def test_state_is_saved_and_taken_up() -> None:
    def steps(optimizer: Muon, weight: nn.Parameter, seeds: range) -> None:
        for seed in seeds:
            weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
            optimizer.step()

    through, halves = nn.Parameter(torch.ones(20, 18)), nn.Parameter(torch.ones(20, 18))
    steps(Muon([{"params": [through], "orthogonal": True}], lr=0.1), through, range(6))
    first = Muon([{"params": [halves], "orthogonal": True}], lr=0.1)
    steps(first, halves, range(3))
    second = Muon([{"params": [halves], "orthogonal": True}], lr=0.1)
    second.load_state_dict(first.state_dict())
    steps(second, halves, range(3, 6))
    assert torch.equal(through, halves)


def test_recipe_chooses_muon_for_wide_matrices_alone() -> None:
    model = build_sam(SIZES["smoke"])
    optimizer = build_optimizer(model, OptimConfig(kind="muon", weight_decay=0.1), torch.bfloat16)
    assert isinstance(optimizer, Muon) and optimizer.dtype == torch.bfloat16
    names = {id(p): name for name, p in model.named_parameters()}
    wide, narrow, kept = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.1, 0.0]
    assert "image_encoder.stage16.0.qkv.weight" in wide and "image_encoder.stage16.0.conv.conv1.0.weight" in wide
    assert "mask_decoder.iou_prediction_head.layers.2.weight" in narrow  # four outputs
    assert not any(name.endswith(("bias", "token.weight", "tokens.weight")) for name in wide | narrow)
    assert wide | narrow | kept == set(names.values())
