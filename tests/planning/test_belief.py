"""What is believed from frame to frame, against a filter of the whole sequence."""

import jax
import numpy as np
from conftest import untrained_dvbf

from worldmodel.data.sequences import Sequences
from worldmodel.imagination.dreamer import Dreamer
from worldmodel.planning.controller import Belief


def test_a_belief_is_the_filters_of_the_frames_until_now(pendulum_data: Sequences):
    dreamer = Dreamer(untrained_dvbf(pendulum_data))
    context, belief = dreamer.model.context, Belief(dreamer)
    assert context > 1
    for n in (0, 1):  # the second episode knows nothing of the first
        frames, actions = pendulum_data.frames[n : n + 1], pendulum_data.actions[n : n + 1]
        belief.reset()
        states = dreamer.filter(frames, actions)
        for t in range(pendulum_data.length):
            if t < context - 1:  # what comes is not known yet, and does not matter
                valid = np.arange(context)[None] <= t
                told, done = np.where(valid[..., None, None], frames[:, :context], 9), actions[:, : context - 1].copy()
                done[:, t:] = 0
                expected = jax.tree.map(lambda leaf, t=t: leaf[:, t], dreamer.filter(told, done, valid))
            else:
                expected = jax.tree.map(lambda leaf, t=t: leaf[:, t], states)
            found = belief.see(frames[0, t], actions[0, t - 1] if t else None)
            np.testing.assert_allclose(dreamer.vector(found), dreamer.vector(expected), atol=1e-5)
        assert belief.seen == pendulum_data.length
