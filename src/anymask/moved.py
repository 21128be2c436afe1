"""Modules that have moved: importable by their former names for one version, with a warning.

A finder at the end of `sys.meta_path` is asked for what no other finder knows. It makes a module of the former name,
whose names are those of the module that replaced it.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MOVED: Mapping[str, str] = {
    "anymask.checkpoints.mobile_sam": "anymask.checkpoints.meta",
    "anymask.cli.everything_run": "anymask.workflows.folder_jobs",
    "anymask.data.coco": "anymask.data.readers.coco",
    "anymask.data.coco_writer": "anymask.data.writers.coco",
    "anymask.data.folder": "anymask.data.readers.folder",
    "anymask.data.hierarchy": "anymask.data.regions.hierarchy",
    "anymask.data.labelled": "anymask.data.open",
    "anymask.data.nesting": "anymask.data.sample",
    "anymask.data.region_shards": "anymask.data.regions.stable",
    "anymask.data.regions.shards": "anymask.data.regions.stable",
    "anymask.data.sa1b": "anymask.data.readers.tars",
    "anymask.data.sa1b_writer": "anymask.data.writers.sa1b",
    "anymask.data.schedule": "anymask.data.loader",
    "anymask.data.signatures": "anymask.data.sample",
    "anymask.data.tar_places": "anymask.data.tar_access",
    "anymask.engine.detectors.hugging_face": "anymask.engine.detectors.boxes",
    "anymask.engine.detectors.interface": "anymask.engine.detectors.boxes",
    "anymask.engine.detectors.small": "anymask.engine.detectors.boxes",
    "anymask.engine.embeddings": "anymask.engine.project_model",
    "anymask.engine.imports.found": "anymask.engine.imports.readers",
    "anymask.engine.lap": "anymask.engine.demo.run",
    "anymask.engine.leaves": "anymask.engine.demo.images",
    "anymask.engine.pairs": "anymask.engine.formats.pairs",
    "anymask.engine.release.card": "anymask.engine.release.measures",
    "anymask.engine.stages.queue": "anymask.engine.pool",
    "anymask.engine.stages.truth": "anymask.engine.stages.annotator",
    "anymask.engine.store.conflict": "anymask.engine.store.database",
    "anymask.engine.store.patience": "anymask.engine.store.database",
    "anymask.evaluation.average_precision": "anymask.evaluation.coco.average_precision",
    "anymask.evaluation.bsds": "anymask.evaluation.edges.bsds",
    "anymask.evaluation.cases": "anymask.evaluation.examples",
    "anymask.evaluation.coco.word_segmenters": "anymask.evaluation.coco.text_to_mask",
    "anymask.evaluation.coco_matching": "anymask.evaluation.coco.matching",
    "anymask.evaluation.coco_report": "anymask.evaluation.coco.report",
    "anymask.evaluation.coco_truth": "anymask.evaluation.coco.truth",
    "anymask.evaluation.edge_baselines": "anymask.evaluation.edges.baselines",
    "anymask.evaluation.edge_matching": "anymask.evaluation.edges.matching",
    "anymask.evaluation.edge_measures": "anymask.evaluation.edges.measures",
    "anymask.evaluation.edge_report": "anymask.evaluation.edges.protocol",
    "anymask.evaluation.edges.report": "anymask.evaluation.edges.protocol",
    "anymask.evaluation.instances": "anymask.evaluation.coco.instances",
    "anymask.evaluation.journal": "anymask.evaluation.result_log",
    "anymask.evaluation.model_segmenter": "anymask.evaluation.single_point",
    "anymask.evaluation.proposals": "anymask.evaluation.coco.proposals",
    "anymask.evaluation.sampling": "anymask.evaluation.result_log",
    "anymask.evaluation.sets": "anymask.evaluation.result_log",
    "anymask.evaluation.text_to_mask": "anymask.evaluation.coco.text_to_mask",
    "anymask.evaluation.word_segmenters": "anymask.evaluation.coco.text_to_mask",
    "anymask.export.branches": "anymask.export.graphs",
    "anymask.export.extra": "anymask.export.description",
    "anymask.export.readymade": "anymask.export.prebuilt",
    "anymask.export.sides": "anymask.export.parts",
    "anymask.export.simplify": "anymask.export.graphs",
    "anymask.inference.automatic_options": "anymask.inference.automatic.options",
    "anymask.inference.candidates": "anymask.inference.automatic.candidates",
    "anymask.inference.clip": "anymask.inference.words.clip",
    "anymask.inference.label_maps": "anymask.inference.automatic.label_maps",
    "anymask.inference.local_weights": "anymask.inference.words.local_weights",
    "anymask.inference.mask_record": "anymask.inference.automatic.masks",
    "anymask.inference.pieces": "anymask.inference.automatic.tiled",
    "anymask.inference.point_order": "anymask.inference.automatic.point_order",
    "anymask.inference.selection": "anymask.inference.automatic.selection",
    "anymask.inference.text": "anymask.inference.words.text",
    "anymask.inference.tiled": "anymask.inference.automatic.tiled",
    "anymask.inference.tree": "anymask.inference.automatic.tree",
    "anymask.inference.upsampling": "anymask.inference.automatic.upsampling",
    "anymask.inference.word_detector": "anymask.inference.words.detector",
    "anymask.model.embedding_tensors": "anymask.model.embedding",
    "anymask.model.ranker": "anymask.model.mask_features",
    "anymask.model.windows": "anymask.model.attention",
    "anymask.plots.dataset": "anymask.plots.curves",
    "anymask.plots.retention": "anymask.plots.curves",
    "anymask.processor": "anymask.threads",
    "anymask.server.bench": "anymask.server.context",
    "anymask.server.connections": "anymask.server.run",
    "anymask.server.identity": "anymask.server.context",
    "anymask.server.parts": "anymask.server.decoder_files",
    "anymask.server.pictures": "anymask.server.image_files",
    "anymask.server.plain_pages": "anymask.server.errors",
    "anymask.server.refusals": "anymask.server.errors",
    "anymask.server.routes.page": "anymask.server.front",
    "anymask.server.sending": "anymask.server.image_files",
    "anymask.server.words": "anymask.server.context",
    "anymask.task.nested": "anymask.task.losses",
    "anymask.task.scribbles": "anymask.task.prompts",
    "anymask.task.text_crops": "anymask.training.objectives.text",
    "anymask.training.activations": "anymask.training.cost.activations",
    "anymask.training.allocator": "anymask.training.distributed",
    "anymask.training.cost.footprint": "anymask.training.cost.plan",
    "anymask.training.distil_step": "anymask.training.objectives.distil",
    "anymask.training.embedded": "anymask.training.finetuning.embedded",
    "anymask.training.finetune": "anymask.training.finetuning.finetune",
    "anymask.training.flops": "anymask.training.cost.flops",
    "anymask.training.footprint": "anymask.training.cost.plan",
    "anymask.training.lora": "anymask.training.finetuning.lora",
    "anymask.training.mae_step": "anymask.training.objectives.mae",
    "anymask.training.mixing": "anymask.training.finetuning.finetune",
    "anymask.training.muon": "anymask.training.optim",
    "anymask.training.own_masks": "anymask.training.sources",
    "anymask.training.plan": "anymask.training.cost.plan",
    "anymask.training.ranker_step": "anymask.training.objectives.ranker",
    "anymask.training.sam_step": "anymask.training.objectives.sam",
    "anymask.training.sharded_state": "anymask.training.state",
    "anymask.training.start": "anymask.training.sources",
    "anymask.training.text_step": "anymask.training.objectives.text",
}
"""Former names of modules, and where their names are now."""
RENAMED: Mapping[str, Mapping[str, str]] = {
    "anymask.data.labelled": {"open_labelled": "open_data"},
    "anymask.engine.store.patience": {"patiently": "retry"},
    "anymask.evaluation.cases": {"Case": "Example", "look": "collect_examples"},
    "anymask.evaluation.journal": {"Journal": "ResultLog"},
    "anymask.evaluation.sampling": {"open_truths": "anymask.evaluation.coco.truth:open_truths"},
    "anymask.evaluation.sets": {"open_truths": "anymask.evaluation.coco.truth:open_truths"},
    "anymask.export.readymade": {"find_readymade": "find_prebuilt", "make_readymade": "make_prebuilt"},
    "anymask.inference.point_order": {"Foretold": "SkipRule"},
    "anymask.server.bench": {"AtBench": "AtContext", "Bench": "Context", "get_bench": "get_context"},
    "anymask.server.refusals": {"Refused": "ApiError", "busy": "too_many_requests"},
    "anymask.task.nested": {"nested_truths": "ambiguous_targets"},
    "anymask.training.mixing": {"mix": "mix_models"},
}
"""Former names of functions and classes within modules that have moved, and what they are called now.

`module:name` is of another module than the one that replaced theirs.
"""


class _Moved(MetaPathFinder, Loader):
    """Finds and makes modules of former names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for a module that has moved, None for any other."""
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        """Warn, and give the module the names of the one that replaced it."""
        place = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} is {place} now", DeprecationWarning, stacklevel=2)
        found = vars(importlib.import_module(place))
        vars(module).update({name: value for name, value in found.items() if not name.startswith("__")})
        vars(module).update({old: find(place, new) for old, new in RENAMED.get(module.__name__, {}).items()})


def find(place: str, name: str) -> Any:
    """Return what a module calls by a name; `module:name` is of another module."""
    other, _, name = name.rpartition(":")
    return getattr(importlib.import_module(other or place), name)


def install() -> None:
    """Let modules of former names be imported; once, however often it is called."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())
