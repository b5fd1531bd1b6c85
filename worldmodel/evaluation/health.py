"""Does it learn dynamics? What a DVBF shows on held-out sequences, what is wrong with it, and what to change.

No true state is needed, so it works on anybody's data, at any time of a training. The ELBO is not asked: a filter that
reads positions off the frames and dreams nonsense can have the better one.
"""

import dataclasses
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from worldmodel.data.sequences import Sequences, as_unit_frames, spread_over
from worldmodel.imagination.rollouts import roll_out, shuffle_actions
from worldmodel.models.distributions import standard_normal_like
from worldmodel.models.dvbf.model import BALL_RADIUS, DVBF

CONTEXT = 5
"""frames observed before imagining, or as many as the initial state needs: fewer hardly show a velocity"""
IMAGINED = 10
"""frames imagined after them: what sequences of the paper's length have room for"""
LONG = 500
"""steps after which a latent must not have grown"""
WATCHED = 64
"""sequences at most whose latents are looked at"""

LEARNT, NOT_LEARNT = 0.5, 0.9
"""imagined error over the better naive predictor's: below the first, dynamics are learnt; above the second, not"""
COLLAPSED = 0.5
"""nats; when the initial state holds less information on the frames, it has collapsed to one and the same for all"""
LARGEST_GROWTH = 1.5
"""of imagined latents over filtered ones"""
LARGEST_RADIUS = 0.9
"""of imagined latents, as a share of the ball that bounds them"""
SMALLEST_STD = 0.003
"""of the initial posterior, whose prior has 1; healthy ones have 0.01 and more"""
ACTIONS_MATTER = 1.1
"""imagined error with another sequence's actions, over that with its own"""


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that is wrong."""

    name: str
    words: str
    """what was seen and what to change"""

    def __str__(self) -> str:
        return f"{self.name.upper()}: {self.words}"


@dataclasses.dataclass(frozen=True)
class Health:
    """Measured on held-out sequences; "mse" is the mean over pixels of squared brightness differences."""

    reconstruction_share: float
    """error of frames that the filter has seen, over their variance"""
    open_loop_mse: float
    """of up to ten frames, imagined after five observed ones"""
    repeat_last_frame_mse: float
    mean_frame_mse: float
    shuffled_actions_mse: float
    """of the same frames imagined with another sequence's actions; 0 where there is one sequence only"""
    kl_initial: float
    """nats, of the initial state"""
    information: float
    """nats, of the initial state on the frames: how far its means differ between sequences, in units of its width"""
    kl_step: float
    """nats, of one filtered step"""
    initial_std: float
    """of the initial posterior in its narrowest dimension; the prior has 1"""
    latent_growth: float
    """root mean square of the latents in 500 imagined steps, over that of the filtered ones"""
    latent_radius: float
    """root mean square of the latents in 500 imagined steps, over the largest that the transition lets through"""

    @property
    def share(self) -> float:
        """Imagined error as a share of the better naive predictor's; 0 where nothing moves."""
        naive = min(self.repeat_last_frame_mse, self.mean_frame_mse)
        return self.open_loop_mse / naive if naive > 0 else 0.0

    def problems(self) -> list[Problem]:
        """All that is wrong, the worst first."""
        if not all(map(math.isfinite, dataclasses.astuple(self))):
            return [Problem("not a number", "the training has diverged. Lower --learning-rate: try --find-lr.")]
        if min(self.repeat_last_frame_mse, self.mean_frame_mse) == 0:
            return [Problem("nothing moves", "the validation sequences hold no dynamics to learn.")]
        found = []
        left = self.reconstruction_share
        imagined = f"imagined frames have {self.share:.0%} of the error of the better naive predictor"
        if left > NOT_LEARNT and self.information < COLLAPSED:
            found.append(
                Problem(
                    "KL collapse",
                    f"the latent says nothing of the frames ({self.information:.2f} nats, {left:.0%} of their variance"
                    " left). The noise allowed to a pixel is too large: lower --observation-std; if that is not it,"
                    " see --overfit-one-batch and --find-lr.",
                )
            )
        elif left > NOT_LEARNT:
            found.append(
                Problem(
                    "frames not learnt",
                    f"the error of filtered frames is {left:.0%} of their variance (0% is perfect). Look at the"
                    " learning rate (--find-lr), then at --overfit-one-batch, then train longer (--steps).",
                )
            )
        elif self.share > NOT_LEARNT and left < LEARNT:
            found.append(
                Problem(
                    "positions only",
                    f"the filter sees ({left:.0%} of the frames' variance left) but does not foresee: {imagined}, and"
                    f" every step is corrected by {self.kl_step:.1f} nats. The velocity is not in the latent: keep a"
                    " hidden part (--visible-size below --latent-size), raise --open-loop-share and"
                    " --transition-kl-weight, do not lower --observation-std.",
                )
            )
        elif self.share > LEARNT:
            found.append(
                Problem(
                    "dynamics in part" if self.share < NOT_LEARNT else "dynamics not learnt",
                    f"{imagined}. Train longer (--steps), give the latents more room (--visible-size, --latent-size),"
                    " collect more, or look at the data: do the actions move what the frames show, or is most of every"
                    " frame noise?",
                )
            )
        grown = self.latent_growth > LARGEST_GROWTH or self.latent_radius > LARGEST_RADIUS
        if self.information > COLLAPSED and grown:
            found.append(
                Problem(
                    "latents grow",
                    f"in {LONG} imagined steps they get {self.latent_growth:.1f} times as large as the filter's, and"
                    f" come to {self.latent_radius:.0%} of the bound: rollouts beyond the training window will drift."
                    " Raise --consistency-weight, or train on longer windows (--window).",
                )
            )
        if self.initial_std < SMALLEST_STD:
            found.append(
                Problem(
                    "zero variance",
                    f"the initial posterior is as narrow as {self.initial_std:.4f} (its prior has 1): an autoencoder in"
                    " disguise, whose frames override the dynamics. The noise allowed to a pixel is too small: raise"
                    " --observation-std.",
                )
            )
        if self.share <= LEARNT and 0 < self.shuffled_actions_mse < ACTIONS_MATTER * self.open_loop_mse:
            found.append(
                Problem(
                    "actions unused",
                    "another sequence's actions imagine these frames as well. Either the model ignores them (train"
                    " longer, longer windows), or they do not move what the frames show, or they belong to other"
                    " frames: actions[:, t] must take frame t to frame t+1.",
                )
            )
        return found

    def in_words(self) -> str:
        """The verdict, one line for each problem."""
        problems = self.problems()
        if problems:
            return "\n".join(map(str, problems))
        return (
            f"Dynamics learnt: frames imagined on validation data have {self.share:.0%} of the error of the better"
            f" naive predictor. KL {self.kl_initial:.1f} nats in the initial state and {self.kl_step:.2f} in a step;"
            f" the latents stay within {self.latent_growth:.1f} times the filter's for {LONG} steps."
        )


def seen_and_imagined(data: Sequences, initial_frames: int) -> tuple[int, Sequences]:
    """How many frames a model that begins with so many observes, and the sequences cut to those and the imagined."""
    context = min(max(initial_frames, CONTEXT), data.length - 1)
    return context, data.first_frames(min(data.length, context + IMAGINED))


def measure(model: DVBF, data: Sequences) -> Health:
    """The health of `model` on sequences it was not trained on, of at least initial_frames + 1 frames."""
    context, data = seen_and_imagined(data, model.options.initial_frames)
    truth = as_unit_frames(data.frames)
    ahead = truth[:, context:]

    def error(frames: np.ndarray) -> float:
        return float(np.mean((frames - ahead) ** 2))

    def imagined(data: Sequences) -> float:
        return error(roll_out(model, data, context, jax.random.key(0)).frames[:, context:])

    which = spread_over(np.arange(len(data)), WATCHED)
    random = np.random.default_rng(0)
    actions = random.choice(data.actions.reshape(-1, data.action_size), (len(which), LONG))
    graphdef, params = nnx.split(model)
    watched = _watch(graphdef, params, truth[which], data.actions[which], actions)
    return Health(
        open_loop_mse=imagined(data),
        repeat_last_frame_mse=error(truth[:, context - 1 : context]),
        mean_frame_mse=error(truth.mean(axis=(0, 1))),
        shuffled_actions_mse=imagined(shuffle_actions(data, context)) if len(data) > 1 else 0.0,
        **{name: float(value) for name, value in watched.items()},
    )


@partial(jax.jit, static_argnums=0)
def _watch(
    graphdef: nnx.GraphDef, params: nnx.State, frames: jax.Array, actions: jax.Array, long_actions: jax.Array
) -> dict[str, jax.Array]:
    """What the latents tell, for frames `[B, T, H, W(, C)]` in [0, 1] filtered along their means."""
    model = nnx.merge(graphdef, params)
    no_noise = jnp.zeros((*frames.shape[:2], model.options.latent_size))
    filtered = model.filter(frames, actions, jnp.ones(actions.shape[:2], bool), no_noise)
    no_noise = jnp.zeros((len(frames), LONG, model.options.latent_size))
    imagined = model.imagine(filtered.latents[:, -1], long_actions, no_noise)
    decoded = jnp.clip(model.emission(filtered.latents).mean(), 0, 1)
    std = jnp.exp(jnp.mean(jnp.log(filtered.initial.stddev()), axis=0))
    signal = jnp.var(filtered.initial.mean(), axis=0) / jnp.mean(filtered.initial.variance(), axis=0)
    return {
        "reconstruction_share": jnp.mean((decoded - frames) ** 2) / jnp.mean(jnp.var(frames, axis=(0, 1))),
        "kl_initial": jnp.mean(filtered.initial.kl_divergence(standard_normal_like(filtered.initial))),
        "information": jnp.sum(jnp.log1p(signal)) / 2,
        "kl_step": jnp.mean(filtered.posterior.kl_divergence(filtered.prior)),
        "initial_std": jnp.min(std),
        "latent_radius": jnp.sqrt(jnp.mean(imagined**2)) / BALL_RADIUS,
        "latent_growth": jnp.sqrt(jnp.mean(imagined**2) / jnp.mean(filtered.latents**2)),
    }
