"""A trained autoencoder in diffusers' format, to be used as `autoencoder: {kind: kl, path: RUN/autoencoder}`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from open_ldm.autoencoders import KLConfig, LatentStats
from open_ldm.autoencoders.network import KLNetwork, NetworkConfig
from open_ldm.autoencoders.signed import sign
from open_ldm.core.errors import DiskError
from open_ldm.core.files import fsync_path, obey_umask

_TEMPORARY = ".autoencoder-"


def export(network: KLNetwork, stats: LatentStats, folder: Path) -> None:
    """Write config.json and diffusion_pytorch_model.safetensors, each whole or not at all.

    Args:
        network: The autoencoder. Its `scaling_factor` becomes 1 / deviation over all channels, for programs that use no other
            statistics.
        stats: Mean and deviation of its raw latents.
        folder: Where to write. The caller holds the lock of the run folder around it, so that remaining temporary folders of
            killed exports can be removed.

    Raises:
        DiskError: The disk refuses.
    """
    mean = sum(stats.mean) / len(stats.mean)
    variance = sum(std**2 + (own - mean) ** 2 for own, std in zip(stats.mean, stats.std, strict=True)) / len(stats.std)
    network.kl.register_to_config(scaling_factor=round(variance**-0.5, 6))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for remaining in folder.parent.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(remaining, ignore_errors=True)
        temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=folder.parent))
        try:
            network.kl.save_pretrained(temporary)
            sign(temporary)
            for file in sorted(temporary.iterdir()):
                fsync_path(file)
                obey_umask(file)
                file.replace(folder / file.name)
            fsync_path(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise DiskError.of(f"cannot write the autoencoder to {folder}", error) from error


def as_config(network: NetworkConfig, folder: Path) -> KLConfig:
    """Return the setting that uses the exported autoencoder."""
    return KLConfig(path=str(folder), channels=network.latent_channels, factor=network.factor)
