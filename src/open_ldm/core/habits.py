"""Words of other trainers, and what they are called here: people type them from habit."""

from __future__ import annotations

from collections.abc import Callable

HABITS = {
    "lr": "training.optimizer.learning_rate",
    "learning_rate": "training.optimizer.learning_rate",
    "weight_decay": "training.optimizer.weight_decay",
    "warmup": "training.optimizer.warmup_samples",
    "warmup_steps": "training.optimizer.warmup_samples",
    "epochs": "training.samples",
    "num_epochs": "training.samples",
    "num_train_epochs": "training.samples",
    "iterations": "training.samples",
    "max_steps": "training.samples",
    "max_train_steps": "training.samples",
    "bs": "training.batch_size",
    "batch": "training.batch_size",
    "batch_size": "training.batch_size",
    "train_batch_size": "training.batch_size",
    "gradient_accumulation_steps": "training.micro_batch_size",
    "grad_clip": "training.optimizer.clip_norm",
    "max_grad_norm": "training.optimizer.clip_norm",
    "ema_decay": "training.ema.decay",
    "mixed_precision": "training.dtype",
    "precision": "training.dtype",
    "fp16": "training.dtype",
    "bf16": "training.dtype",
    "device": "training.device",
    "seed": "training.seed",
    "save_every": "training.checkpoint_every_samples",
    "checkpointing_steps": "training.checkpoint_every_samples",
    "log_every": "training.log_every_samples",
    "data_dir": "data.source.path",
    "train_data_dir": "data.source.path",
    "dataset": "data.source.path",
    "path": "data.source.path",
    "resolution": "data.transform.size_px",
    "image_size": "data.transform.size_px",
    "size": "data.transform.size_px",
    "num_workers": "data.workers",
    "workers": "data.workers",
    "model": "denoiser.kind",
    "arch": "denoiser.kind",
    "cfg": "sampling.guidance.semantic_scale",
    "cfg_scale": "sampling.guidance.semantic_scale",
    "guidance_scale": "sampling.guidance.semantic_scale",
}
"""By the word, the setting that means it. A recipe counts samples, neither epochs nor iterations."""

_TRAINING = "training.samples"
_OUT = "--out"
_ADVICE = {
    "wandb": ("track=[wandb]", "track"),
    "tensorboard": ("track=[tensorboard]", "track"),
    "report_to": ("track=[wandb]", "track"),
    "logger": ("track=[tensorboard]", "track"),
    "resume": ("the same command again, which goes on by itself", _TRAINING),
    "resume_from": ("the same command again, which goes on by itself", _TRAINING),
    "resume_from_checkpoint": ("the same command again, which goes on by itself", _TRAINING),
    "gpus": ("ldm train --gpus N, or torchrun before any command", ""),
    "num_gpus": ("ldm train --gpus N, or torchrun before any command", ""),
    "nproc_per_node": ("ldm train --gpus N, or torchrun before any command", ""),
    "output_dir": ("--out FOLDER", _OUT),
    "outdir": ("--out FOLDER", _OUT),
    "name": ("--out runs/NAME", _OUT),
    "config": ("the recipe as the first argument: ldm train my.yaml", _TRAINING),
    "cfg_file": ("the recipe as the first argument: ldm train my.yaml", _TRAINING),
}
"""By the word, what is advised, and the setting or option without which the advice would be wrong; empty where it never is."""


def meant_by(word: str, takes: Callable[[str], bool]) -> str:
    """Return what somebody means here who types a word of other trainers, as it is typed; empty for any other word.

    Args:
        word: A key, or an option such as "--batch-size".
        takes: Whether the place where it was typed takes a setting, such as "training.batch_size", or an option, as "--out" is.
    """
    plain = word.lstrip("-").replace("-", "_").lower()
    if plain in _ADVICE:
        advice, needs = _ADVICE[plain]
        return advice if not needs or takes(needs) else ""
    setting = HABITS.get(plain, "")
    option = f"--{setting.rpartition('.')[2].replace('_', '-')}"
    if setting and takes(setting):
        return f"{setting}=...{' (a number of pictures)' if setting == 'training.samples' else ''}"
    return option if setting and takes(option) else ""
