"""What the server of tests/started.py has imported before it forks: all that a training, an encoding and their page need."""

import matplotlib.figure  # noqa: F401
import torch
import torch._dynamo  # which the first optimizer imports, for half the time of a tiny training

import open_ldm.checkpoints.shards
import open_ldm.cli.autoencoder
import open_ldm.cli.encode
import open_ldm.cli.main
import open_ldm.cli.sample
import open_ldm.cli.train
import open_ldm.cli.transfer
import open_ldm.commands.encode
import open_ldm.runs.autoencoder.train
import open_ldm.runs.stages
import open_ldm.runs.train  # noqa: F401

torch.set_num_threads(1)
