"""Runs of `ldm autoencoder train`: the same run folder, trainer, loop and recorder as for a denoiser."""
