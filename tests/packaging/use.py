"""What a user does with an installed package, far from the checkout; for a Python that has it, in an empty folder."""

import importlib.metadata
import sys
from pathlib import Path

import numpy as np

import worldmodel as wm

assert Path(wm.__file__).is_relative_to(Path(sys.argv[1])), wm.__file__
assert wm.__version__ == importlib.metadata.version("worldmodel") != ""

data = wm.collect("pendulum", sequences=20, frames=15, seed=0, out="data.npz")
run = wm.train("dvbf", "data.npz", out="run", steps=20, base_matrices=4, hidden_size=16)
states = run.filter(data.frames[:, :5], data.actions[:, :4])
assert run.decode(run.imagine(run.last(states), data.actions[:, 4:])).shape == (20, 10, 16, 16)
assert "<html" in run.report().read_text()

assert set(wm.list_pretrained()) == {"ball", "pendulum", "swing-up", "swing-up-vae"}
swing_up = wm.load("swing-up")
acted = swing_up.act(episodes=1, steps=60, ceilings=False)
assert np.mean(acted.returns) > -600, acted.returns  # hanging down for three seconds costs about that much
print("works")
