"""What decays, how the rate moves, and what the moving average is."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from anymask.model import SIZES, DecoderConfig, SamConfig, TinyViTConfig, ViTConfig, build_sam
from anymask.training.config import ModelConfig, OptimConfig, Recipe, RunConfig, SourceConfig
from anymask.training.optim import MovingAverage, build_optimizer, rate_factor, set_rates

SMALL: dict[str, SamConfig] = {
    "smoke": SIZES["smoke"],
    "vit": SamConfig(
        encoder=ViTConfig(width=32, depth=2, num_heads=2, global_blocks=(1,), position_grid=8), width=32, image_size=128
    ),
    "tiny_vit": SamConfig(
        encoder=TinyViTConfig(widths=(16, 16, 32, 32), depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)),
        decoder=DecoderConfig(num_heads=2, mlp_dim=32),
        width=32,
        image_size=128,
    ),
}


@pytest.mark.parametrize("size", SMALL)
def test_matrices_and_kernels_decay_and_nothing_else(size: str) -> None:
    model = build_sam(SMALL[size])
    optimizer = build_optimizer(model, OptimConfig(weight_decay=0.1))
    names = {id(p): name for name, p in model.named_parameters()}
    decayed, kept = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert decayed | kept == trainable
    assert not decayed & kept
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(trainable)
    shapes = {name: p.ndim for name, p in model.named_parameters()}
    for name in decayed:
        assert shapes[name] >= 2 and name.endswith(".weight")
        assert not any(
            word in name for word in ("point_embed", "iou_token", "mask_tokens", "mask_embed", "pos_embed", "rel_pos")
        )
    for name in kept:
        words = ("bias", "norm", "embed", "token", "rel_pos", "bn", "attention_biases", "gamma")
        assert shapes[name] == 1 or any(word in name for word in words), name


def test_frozen_parameters_are_left_out() -> None:
    model = build_sam(SIZES["smoke"])
    model.image_encoder.requires_grad_(False)
    optimizer = build_optimizer(model, OptimConfig())
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for name, p in model.named_parameters() if not name.startswith("image_encoder")}


def test_cosine_rises_and_falls() -> None:
    config = OptimConfig(warmup=10, final_factor=0.1)
    rates = [rate_factor(step, 110, config) for step in range(111)]
    assert rates[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert rates[10] == 1.0
    assert rates[60] == pytest.approx(0.55)
    assert rates[110] == pytest.approx(0.1) == rate_factor(500, 110, config)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))


def test_steps_divide_by_ten_and_constant_stays() -> None:
    config = OptimConfig(warmup=2, schedule="steps", milestones=(60, 86))
    assert [rate_factor(k, 90, config) for k in (0, 1, 2, 59, 60, 85, 86, 89)] == pytest.approx(
        [0.5, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    constant = replace(config, schedule="constant", warmup=0)
    assert {rate_factor(k, 90, constant) for k in range(90)} == {1.0}


def test_the_average_is_the_weighted_mean_of_what_it_saw() -> None:
    model = build_sam(SIZES["smoke"])
    average = MovingAverage(model, 0.5)
    parameter, mine = next(model.parameters()), next(average.model.parameters())
    assert not any(p.requires_grad for p in average.model.parameters()) and not average.model.training
    expected = parameter.detach().clone()
    for step in range(30):
        with torch.no_grad():
            parameter.normal_(generator=torch.Generator().manual_seed(step))
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * parameter.detach()
        average.update(model, step)
        assert torch.allclose(mine, expected, atol=1e-6)


def test_the_average_copies_running_statistics() -> None:
    model = build_sam(SIZES["smoke"])
    average = MovingAverage(model, 0.999)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    norms[0].running_mean.fill_(3.0)  # type: ignore[union-attr]
    average.update(model, 5)
    mine = next(m for m in average.model.modules() if isinstance(m, nn.BatchNorm2d))
    assert torch.equal(mine.running_mean, norms[0].running_mean)  # type: ignore[arg-type]
    assert mine.running_mean is not norms[0].running_mean


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_each_block_learns_slower_than_the_next(kind: str) -> None:
    model = build_sam(SMALL["vit"])
    optimizer = build_optimizer(model, OptimConfig(kind=kind, layer_decay=0.5))  # type: ignore[arg-type]
    set_rates(optimizer, 0.8)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    by_name = {name: rates[id(p)] for name, p in model.named_parameters() if p.requires_grad}
    expected = {
        "image_encoder.patch_embed.proj.weight": 0.1,
        "image_encoder.pos_embed": 0.1,
        "image_encoder.blocks.0.attn.qkv.weight": 0.2,
        "image_encoder.blocks.0.norm1.bias": 0.2,
        "image_encoder.blocks.1.mlp.lin2.weight": 0.4,
        "image_encoder.neck.0.weight": 0.8,
        "prompt_encoder.no_mask_embed.weight": 0.8,
        "mask_decoder.iou_token.weight": 0.8,
    }
    assert {name: by_name[name] for name in expected} == pytest.approx(expected)
    assert optimizer.param_groups[0]["lr"] == 0.8  # which the log shows
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    whole = build_optimizer(model, OptimConfig(kind=kind))  # type: ignore[arg-type]
    assert decays == {id(p): group["weight_decay"] for group in whole.param_groups for p in group["params"]}


def test_drop_path_and_layer_decay_come_from_the_recipe() -> None:
    assert ModelConfig(size="vit_b", drop_path=0.4).build().encoder.drop_path == 0.4
    assert ModelConfig(size="smoke").build() == replace(SIZES["smoke"], image_size=512)
    run, sources = RunConfig(steps=1), (SourceConfig(tars=("a.tar",)),)
    with pytest.raises(ValueError, match="layer_decay is for training the promptable task"):
        Recipe(run=run, sources=sources, optim=OptimConfig(layer_decay=0.8))
    for layer_decay in (0.0, 1.5):
        with pytest.raises(ValueError, match="layer_decay is"):
            OptimConfig(layer_decay=layer_decay)
    with pytest.raises(ValueError, match="drop_path is 1"):
        ModelConfig(drop_path=1.0)
