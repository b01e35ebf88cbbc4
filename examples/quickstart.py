# %% [markdown]
# # Quick start: train on a folder of pictures, sample, look, evaluate
#
# Run it cell by cell in an editor or a notebook, or as a whole: `PICTURES=my/pictures python examples/quickstart.py`.
# Any folder of pictures will do. `photos-dit` learns 64 px pictures; on two CPU cores a run of its full length takes hours,
# on a GPU minutes, and every call below that trains goes on where it was stopped.
# (As a whole script on macOS or Windows add `data.workers=0` to the settings: worker processes would run this file again.)

# %%
import os

import open_ldm as ldm

PICTURES = os.environ.get("PICTURES", "pictures")
OUT = os.environ.get("OUT", "runs/quickstart")
SETTINGS = os.environ.get("SETTINGS", "").split()  # for a first try: SETTINGS="training.samples=2000 denoiser.depth=2"
COUNT = int(os.environ.get("COUNT", "1000"))  # pictures that the evaluation samples

# %% What is in the folder?
print(ldm.survey(PICTURES))

# %% Train. The pictures need no classes or captions here; with class folders leave the second setting out.
run = ldm.train(
    "photos-dit",
    {"data.source.path": PICTURES, "conditioning.semantic.kind": "none"},
    *SETTINGS,
    out=OUT,
)
print(run, f"loss {run.history.loss[0]:.3f} -> {run.history.loss[-1]:.3f}", f"report: {run.report}", sep="\n")

# %% Sample, and look: a notebook shows the grid. The size control says how large the original of a picture was.
samples = run.sample(count=16, size="512x512")
samples.save(f"{OUT}/first-samples")
samples.grid()

# %% The same noise as if the originals had been small: coarser pictures, if the model has learned the control.
run.sample(count=16, size="64x64").grid()

# %% Measure. An untrained network ("random") tells better from worse among your own runs, and nothing that papers report:
# for that give Inception's, DINOv2's or CLIP's weights (docs/evaluation.md).
found = run.evaluate(metrics=["fid", "precision_recall"], extractors=["random"], n=COUNT)
print(found)
