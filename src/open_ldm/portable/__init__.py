"""A model that travels without this program: what `ldm export --to diffusers` writes beside the weights.

`sampler.py` goes with the files that it imports. `network.py`, `scheduler.py`, `text_encoder.py` and `pipeline.py`
are the code that diffusers loads; they are copied as they are, and import nothing of this package.
"""
