"""Scenes that words describe, and small models of transformers to learn them: built from configuration, in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

COLORS = {"red": (220, 40, 40), "green": (40, 190, 60), "blue": (50, 80, 230), "yellow": (235, 215, 50)}
SHAPES = ("disc", "square", "triangle")
PHRASES = [f"{color} {shape}" for color in COLORS for shape in SHAPES]
NUM_OBJECTS = 6
"""On a scene, all of different phrases: whoever points at random is right once in six."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WordScene:
    """An image and a mask for each of its phrases."""

    image: np.ndarray
    phrases: list[str]
    masks: np.ndarray


def scene(seed: int, side: int = 96) -> WordScene:
    """Draw six things of different colour or shape on a grey ground, two rows of three."""
    rng = np.random.default_rng(seed)
    ground = rng.normal(rng.uniform(70, 150), 12, (side // 8, side // 8, 1)).astype(np.float32)
    image = cv2.resize(ground, (side, side), interpolation=cv2.INTER_CUBIC)[..., None].repeat(3, 2)
    chosen = rng.choice(len(PHRASES), NUM_OBJECTS, replace=False)
    masks = np.zeros((NUM_OBJECTS, side, side), bool)
    for place, (mask, index) in enumerate(zip(masks, chosen, strict=True)):
        color, shape = PHRASES[index].split()
        radius = rng.uniform(0.1, 0.15) * side
        x = (place % 3 + 0.5) * side / 3 + rng.uniform(-0.02, 0.02) * side
        y = (place // 3 + 0.5) * side / 2 + rng.uniform(-0.06, 0.06) * side
        mask[:] = _shape(shape, x, y, radius, side)
        image[mask] = np.array(COLORS[color]) + rng.normal(0, 10, 3)
    image += rng.normal(0, 6, image.shape)
    return WordScene(image=image.clip(0, 255).astype(np.uint8), phrases=[PHRASES[i] for i in chosen], masks=masks)


def _shape(name: str, x: float, y: float, radius: float, side: int) -> np.ndarray:
    canvas = np.zeros((side, side), np.uint8)
    if name == "disc":
        cv2.circle(canvas, (round(x), round(y)), round(radius), 1, -1)
    elif name == "square":
        cv2.rectangle(canvas, (round(x - radius), round(y - radius)), (round(x + radius), round(y + radius)), 1, -1)
    else:
        corners = [(x, y - radius), (x - radius, y + radius), (x + radius, y + radius)]
        cv2.fillPoly(canvas, [np.array(corners).round().astype(np.int32)], 1)
    return canvas.astype(bool)


def tokenizer(length: int = 20) -> Any:
    """Return CLIP's tokenizer with letters for a vocabulary."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz.,"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: index for index, word in enumerate(words)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], pad_token="<|endoftext|>", model_max_length=length)


def _text(length: int, width: int = 48) -> dict[str, Any]:
    ids = {"bos_token_id": 56, "eos_token_id": 57, "pad_token_id": 57}  # the last is where OWL reads what a text says
    layers = {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": length}
    return {"vocab_size": 58, "hidden_size": width, "intermediate_size": 2 * width, **layers, **ids}


def _awaken(model: Any) -> None:
    """Let letters, places and patches differ from the start, so that training takes seconds."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("token_embedding.weight", "position_embedding.weight")):
                weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
            elif name.endswith("patch_embedding.weight"):
                weight.copy_(torch.randn(weight.shape, generator=generator) * weight[0].numel() ** -0.5)


def _place(model: Any) -> None:
    """Tell patches apart by waves over the image, so that neighbours are found in seconds rather than hours."""
    import torch

    weight = model.owlv2.vision_model.embeddings.position_embedding.weight
    grid = round((len(weight) - 1) ** 0.5)
    angles = torch.arange(grid)[:, None] * torch.pi * 2.0 ** -torch.linspace(0.5, 4, weight.shape[1] // 4)
    waves = torch.cat([angles.sin(), angles.cos()], 1)
    both = torch.cat([waves[:, None].expand(-1, grid, -1), waves[None].expand(grid, -1, -1)], 2)
    with torch.no_grad():
        weight[1:] = 0.5 * both.flatten(0, 1)


def owl(folder: Path, side: int = 96) -> Any:
    """Save a small OWLv2 of random weights with its processor to `folder`, and return it."""
    import torch
    from transformers import Owlv2Config, Owlv2ForObjectDetection, Owlv2ImageProcessorPil, Owlv2Processor

    torch.manual_seed(0)
    vision = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = Owlv2Config(
        text_config=_text(20), vision_config={**vision, "image_size": side, "patch_size": 8}, projection_dim=48
    )
    model = Owlv2ForObjectDetection(config)
    for head in (model.box_head, model.class_head):  # transformers' own are for weights that follow: they saturate
        for layer in head.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.reset_parameters()
    torch.nn.init.constant_(model.class_head.logit_scale.bias, 9.0)
    torch.nn.init.constant_(model.class_head.logit_shift.bias, -0.4)
    _awaken(model)
    _place(model)
    size = {"height": side, "width": side}
    Owlv2Processor(Owlv2ImageProcessorPil(size=size), tokenizer()).save_pretrained(folder)
    model.save_pretrained(folder)
    return model


def grounding(folder: Path) -> Any:
    """Save a small Grounding DINO of random weights with its processor to `folder`, and return it."""
    import torch
    from transformers import (
        BertConfig,
        BertTokenizer,
        GroundingDinoConfig,
        GroundingDinoForObjectDetection,
        GroundingDinoImageProcessorPil,
        GroundingDinoProcessor,
        SwinConfig,
    )

    torch.manual_seed(0)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        ".",
        *COLORS,
        *SHAPES,
        *letters,
        *(f"##{a}" for a in letters),
    ]
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_layers": 1, "decoder_layers": 2}
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    vision = {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 2, 4], "window_size": 4}
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(image_size=96, out_indices=[2, 3, 4], **vision),
        text_config=BertConfig(vocab_size=len(words), max_position_embeddings=40, **text),
        **heads,
        d_model=32,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        num_queries=12,
        max_text_len=32,
    )
    model = GroundingDinoForObjectDetection(config)
    read = BertTokenizer(vocab={word: index for index, word in enumerate(words)})
    images = GroundingDinoImageProcessorPil(size={"shortest_edge": 96, "longest_edge": 160})
    GroundingDinoProcessor(images, read).save_pretrained(folder)
    model.save_pretrained(folder)
    return model


def clip(folder: Path, side: int = 32) -> Any:
    """Save a small CLIP of random weights with its processor to `folder`, and return it."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

    torch.manual_seed(0)
    vision = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = CLIPConfig(
        text_config=_text(20), vision_config={**vision, "image_size": side, "patch_size": 8}, projection_dim=48
    )
    model = CLIPModel(config)
    _awaken(model)
    size = {"height": side, "width": side}
    CLIPProcessor(CLIPImageProcessorPil(size=size, crop_size=size), tokenizer()).save_pretrained(folder)
    model.save_pretrained(folder)
    return model


def train_owl(model: Any, *, steps: int, batch_size: int = 8) -> None:
    """Teach a small OWLv2 the phrases: a patch within a thing answers its phrase, with its box."""
    import torch
    from torch.nn import functional as F

    read, process = tokenizer(), _normalised
    texts = read(PHRASES, padding="max_length", max_length=20, return_tensors="pt")
    side = model.config.vision_config.image_size
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    model.train()
    for step in range(steps):
        scenes = [scene(10_000 + step * batch_size + index, side) for index in range(batch_size)]
        pixels = process(np.stack([each.image for each in scenes]))
        features, _ = model.image_embedder(pixels)
        grid = features.shape[1]
        flat = features.flatten(1, 2)
        said = model.owlv2.get_text_features(**texts)
        words = F.normalize(getattr(said, "pooler_output", said), dim=-1).expand(batch_size, -1, -1)
        logits, _ = model.class_predictor(flat, words)
        boxes = model.box_predictor(flat, features)
        target, where, wanted = _patches(scenes, grid)
        weight = torch.where(target > 0, 4.0, 1.0)
        loss = F.binary_cross_entropy_with_logits(logits, target, weight) * 4
        loss = loss + F.cross_entropy(logits[where], target[where].argmax(-1))  # the negatives are many and easy
        loss = loss + F.l1_loss(boxes[where], wanted[where]) * 5
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


def train_clip(model: Any, *, steps: int, batch_size: int = 8) -> None:
    """Teach a small CLIP that crops of things, as `crop_objects` cuts them, and their phrases belong together."""
    import torch
    from torch.nn import functional as F

    from anymask.training.objectives.text import CropConfig, crop_objects

    texts = tokenizer()(PHRASES, padding="max_length", max_length=20, return_tensors="pt")
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    model.train()
    for step in range(steps):
        scenes = [scene(20_000 + step * batch_size + index, 64) for index in range(batch_size)]
        images = torch.from_numpy(np.stack([each.image for each in scenes]).transpose(0, 3, 1, 2).copy())
        masks = torch.from_numpy(np.stack([each.masks for each in scenes]))
        crops, _ = crop_objects(images, masks, CropConfig(), side=32, generator=generator)
        pixels = _normalised(crops.permute(0, 2, 3, 1).numpy())
        seen, said = model.get_image_features(pixel_values=pixels), model.get_text_features(**texts)
        image, text = (F.normalize(getattr(each, "pooler_output", each), dim=-1) for each in (seen, said))
        wanted = torch.tensor([PHRASES.index(phrase) for each in scenes for phrase in each.phrases])
        # a low scale: the cosines themselves must come apart, so that images and words end up in one place
        loss = F.cross_entropy(8 * image @ text.T, wanted) + (1 - (image * text[wanted]).sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    model.eval()


def _normalised(images: np.ndarray) -> Any:
    """Return images as CLIP's processor does, (b, 3, h, w)."""
    import torch
    from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    values = (images / 255 - np.array(OPENAI_CLIP_MEAN)) / np.array(OPENAI_CLIP_STD)
    return torch.from_numpy(values.transpose(0, 3, 1, 2).astype(np.float32))


def _patches(scenes: list[WordScene], grid: int) -> tuple[Any, Any, Any]:
    """Return which phrase each patch answers, which patches answer one, and the box (x, y, width, height) of each."""
    import torch

    target = np.zeros((len(scenes), grid, grid, len(PHRASES)), np.float32)
    boxes = np.zeros((len(scenes), grid, grid, 4), np.float32)
    for row, each in enumerate(scenes):
        side = each.image.shape[0]
        centres = ((np.arange(grid) + 0.5) * side / grid).astype(int)
        for phrase, mask in zip(each.phrases, each.masks, strict=True):
            inside = mask[np.ix_(centres, centres)]
            ys, xs = np.nonzero(mask)
            x0, y0, x1, y1 = xs.min(), ys.min(), xs.max() + 1, ys.max() + 1
            target[row, inside, PHRASES.index(phrase)] = 1
            boxes[row, inside] = np.array([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]) / side
    found = target.any(-1)
    flat = (len(scenes), grid * grid)
    return (
        torch.from_numpy(target.reshape(*flat, -1)),
        torch.from_numpy(found.reshape(flat)),
        torch.from_numpy(boxes.reshape(*flat, 4)),
    )
