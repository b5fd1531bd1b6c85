"""A short training, and what must be true of the model that comes out of it."""

import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.data.sequences import Sequences, as_unit_frames
from worldmodel.evaluation.health import measure, naive_share
from worldmodel.evaluation.measures import probe_r2, squared_error
from worldmodel.imagination.dreamer import Dreamer, filtered_latents, roll_out
from worldmodel.imagination.variables import true_variables
from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.protocol import imagine
from worldmodel.worlds.world import world_of


def test_it_imagines_better_than_the_naive_predictors(trained: DVBF, unseen: Sequences):
    health = measure(trained, unseen)
    assert naive_share(health.figures) < 0.3
    assert health.in_words().startswith("Dynamics learnt")
    imagined = roll_out(Dreamer(trained), unseen, 10).frames[:, 10:]
    truth = as_unit_frames(unseen.frames)
    mean_frame = np.broadcast_to(truth.mean(axis=(0, 1)), imagined.shape)
    ahead = truth[:, 10:]
    assert (squared_error(ahead, imagined).mean(axis=0) < squared_error(ahead, mean_frame).mean(axis=0)).all()


def test_it_uses_the_actions_where_they_stand(trained: DVBF, unseen: Sequences):
    """The timeline, end to end: the right actions explain the frames better than the same ones shifted."""
    truth = as_unit_frames(unseen.frames)[:, 10:]

    def error(shift: int) -> float:
        actions = unseen.actions.copy()
        actions[:, 9:] = np.roll(actions[:, 9:], shift, axis=1)  # what the filter sees stays as it is
        shifted = Sequences(unseen.frames, actions, unseen.states, unseen.state_names, unseen.dt)
        return float(squared_error(truth, roll_out(Dreamer(trained), shifted, 10).frames[:, 10:]).mean())

    right = error(0)
    assert right < 0.9 * error(1)
    assert right < 0.9 * error(-1)


def test_it_knows_the_velocity_which_no_single_frame_shows(trained: DVBF, unseen: Sequences):
    latents = filtered_latents(Dreamer(trained), unseen, jax.random.key(0))
    r2 = probe_r2(latents, true_variables(unseen, world_of(unseen)), degree=2)
    assert min(r2.values()) > 0.9


def test_trained_on_15_frames_it_rolls_out_500_without_growing(trained: DVBF, unseen: Sequences):
    """After a fifth of the training single sequences may still wander off, as far as the ball lets them."""
    seen = roll_out(Dreamer(trained), unseen, 10).latents[:, :15]
    random = np.random.default_rng(0)
    actions = random.uniform(-2, 2, (len(unseen), 500, 1)).astype(np.float32)
    imagined = np.asarray(imagine(trained, jnp.asarray(seen[:, -1]), jnp.asarray(actions)))
    size = np.linalg.norm(imagined, axis=-1)
    assert size.max() < 1.5 * np.linalg.norm(seen, axis=-1).max()
    grown = size[:, -100:].max(axis=1) > 1.1 * size[:, :100].max()
    assert grown.mean() <= 0.05


def test_filtering_corrects_a_wrong_start(trained: DVBF, unseen: Sequences):
    """A filter that is told another sequence's beginning finds back to what it sees; imagination cannot."""
    frames = as_unit_frames(unseen.frames)
    wrong = np.concatenate([np.roll(frames[:, :5], 1, axis=0), frames[:, 5:]], axis=1)

    def late_error(observed: bool) -> float:
        valid = np.full(wrong.shape[:2], observed)
        valid[:, :5] = True
        dreamer = Dreamer(trained)
        decoded = dreamer.decode(dreamer.filter(wrong, unseen.actions, valid))
        return float(np.mean((decoded - frames)[:, -5:] ** 2))

    assert late_error(observed=True) < 0.5 * late_error(observed=False)
