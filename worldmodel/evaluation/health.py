"""Does it learn dynamics? What any world model shows on held-out sequences, what is wrong with it, and what to change.

No true state is needed, so it works on anybody's data, at any time of a training. A bound is not asked: a filter that
reads positions off the frames and dreams nonsense can have the better one.
"""

import dataclasses
import math
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from worldmodel.data.sequences import Sequences, as_unit_frames, spread_over
from worldmodel.data.windows import mean_of_seen
from worldmodel.evaluation.seen import last_frame, mean_frame, mean_of_sequences, of_seen, seen_after
from worldmodel.imagination.compiled import compiled
from worldmodel.imagination.counterfactuals import shuffle_actions
from worldmodel.imagination.dreamer import Dreamer, last, roll_out
from worldmodel.models.protocol import Diagnosed, Problem, Remarking, WorldModel, imagine

CONTEXT = 5
"""frames observed before imagining, or as many as the model needs: fewer hardly show a velocity"""
IMAGINED = 10
"""frames imagined after them: what sequences of the paper's length have room for"""
LONG = 500
"""steps after which a latent must not have grown"""
WATCHED = 64
"""sequences at most whose latents are looked at"""

LEARNT, NOT_LEARNT = 0.5, 0.9
"""imagined error over the better naive predictor's: below the first, dynamics are learnt; above the second, not"""
LARGEST_GROWTH = 1.5
"""of imagined latents over filtered ones"""
BURST = 10
"""of the same: what no world does"""
ACTIONS_MATTER = 1.1
"""imagined error with another sequence's actions, over that with its own"""


@dataclasses.dataclass(frozen=True)
class Health:
    """Measured on held-out sequences."""

    figures: dict[str, float]
    """of `measure`, and what the model adds of its own"""
    problems: list[Problem]
    """all that is wrong, the worst first"""
    remark: str = ""
    """the model's own"""

    def __post_init__(self) -> None:
        """Raises KeyError where a figure is not there."""
        naive_share(self.figures), self.figures["latent_growth"]

    def with_far_look(self, figures: dict[str, float]) -> "Health":
        """With the figures of `look_far`. Latents that have grown a few times over in 500 steps are no problem where
        dreams hold for as long as held-out sequences are: where episodes end, or energy comes in, the world itself
        leaves what was seen before that."""
        held = figures.get("imagined_frames", 0) > IMAGINED and figures["foreseen_frames"] == figures["imagined_frames"]
        grown = held and LARGEST_GROWTH < self.figures["latent_growth"] < BURST
        problems = [each for each in self.problems if not (grown and each.name == "latents grow")]
        return dataclasses.replace(self, figures=self.figures | figures, problems=problems)

    def in_words(self) -> str:
        """The verdict, one line for each problem."""
        if self.problems:
            return "\n".join(map(str, self.problems))
        foreseen, longest = (int(self.figures.get(name, 0)) for name in ("foreseen_frames", "imagined_frames"))
        far, growth = foreseen < longest, self.figures["latent_growth"]
        reach = f"They beat it for {f'{foreseen} of' if far else 'all of'} the {longest} frames that there are."
        return (
            f"Dynamics learnt{f' for {foreseen} frames' if far else ''}: frames imagined on validation data have"
            f" {naive_share(self.figures):.0%} of the error of the better naive predictor"
            f"{f' in the first {IMAGINED}. {reach}' if longest else '.'}"
            f"{' For more, train longer (--steps) or on longer windows (--window).' if far else ''}"
            f" The latents {'stay within' if growth <= LARGEST_GROWTH else 'grow to'} {growth:.1f} times the filter's"
            f" {'for' if growth <= LARGEST_GROWTH else 'in'} {LONG} steps."
            f" {self.remark}"
        ).rstrip()


def naive_share(figures: dict[str, float]) -> float:
    """Imagined error as a share of the better naive predictor's; 0 where nothing moves."""
    naive = min(figures["repeat_last_frame_mse"], figures["mean_frame_mse"])
    return figures["open_loop_mse"] / naive if naive > 0 else 0.0


def find_problems(model: WorldModel, figures: dict[str, float]) -> list[Problem]:
    """What the figures say is wrong, the worst first: in general words, and then in the model's own."""
    if not all(map(math.isfinite, figures.values())):
        return [Problem("not a number", "the training has diverged.", "Lower --learning-rate: try --find-lr.")]
    if min(figures["repeat_last_frame_mse"], figures["mean_frame_mse"]) == 0:
        return [Problem("nothing moves", "the validation sequences hold no dynamics to learn.")]
    found = list(_general_problems(figures))
    return model.explain(figures, found) if isinstance(model, Diagnosed) else found


def _general_problems(figures: dict[str, float]) -> Iterator[Problem]:
    left, share = figures["reconstruction_share"], naive_share(figures)
    imagined = f"imagined frames have {share:.0%} of the error of the better naive predictor"
    unused = 0 < figures["shuffled_actions_mse"] < ACTIONS_MATTER * figures["open_loop_mse"]
    if left > NOT_LEARNT:
        yield Problem(
            "frames not learnt",
            f"the error of filtered frames is {left:.0%} of their variance (0% is perfect).",
            "Look at the learning rate (--find-lr), then at --overfit-one-batch, then train longer (--steps).",
        )
    elif share > NOT_LEARNT and left < LEARNT:
        yield Problem(
            "positions only",
            f"the filter sees ({left:.0%} of the frames' variance left) but does not foresee: {imagined}.",
            "The velocity is not in the latent: train longer (--steps), on longer windows (--window; sequences must"
            " have as many frames).",
        )
    elif share > LEARNT:
        yield Problem(
            "dynamics in part" if share < NOT_LEARNT else "dynamics not learnt",
            f"{imagined}{'; with the actions of another sequence they do no worse' if unused else ''}.",
            "Train longer (--steps), on longer windows (--window; sequences must have as many frames), collect more, or"
            " look at the data: do the actions move what the frames show, or is most of every frame noise?",
        )
    growth = figures["latent_growth"]
    if growth > LARGEST_GROWTH:
        yield Problem(
            "latents grow",
            f"in {LONG} imagined steps they get {growth:.1f} times as large as the filter's: rollouts beyond the"
            " training window will drift.",
            "Train on longer windows (--window).",
        )
    if share <= LEARNT and unused:
        yield Problem(
            "actions unused",
            "another sequence's actions imagine these frames as well.",
            "Either the model ignores them (train longer, longer windows), or they do not move what the frames show,"
            " or they belong to other frames: actions[:, t] must take frame t to frame t+1.",
        )


def looked_at(data: Sequences, least: int) -> tuple[int, int]:
    """How many frames a model that needs at least so many observes, and how many are looked at, the imagined among
    them."""
    context = min(max(least, CONTEXT), data.length - 1)
    return context, min(data.length, context + IMAGINED)


def seen_and_imagined(data: Sequences, least: int) -> tuple[int, Sequences]:
    """How many frames such a model observes, and the sequences cut to what is looked at: those in which some of the
    observed and some of the imagined frames were seen."""
    context, length = looked_at(data, least)
    return context, data.first_frames(length).to_foresee(context)


def measure(model: WorldModel, data: Sequences) -> Health:
    """The health of `model` on whole sequences that it was not trained on, of at least model.context + 1 frames.

    "mse" is the mean over pixels of squared brightness differences, of up to ten frames that are imagined after five
    observed ones, as far as they were seen; "shuffled_actions_mse" is that with another sequence's actions, 0 where
    there are no others: of one sequence, and where always the same is done.
    "reconstruction_share" is the error of frames that the filter has seen, over their variance; "imagined_rms" the root
    mean square of the latents in 500 imagined steps, and "latent_growth" the same over that of the filtered ones.
    """
    context, data = seen_and_imagined(data, model.context)
    truth, dreamer, seen = as_unit_frames(data.frames), Dreamer(model), data.seen()
    ahead, seen_ahead = truth[:, context:], seen_after(seen, context)

    def error(frames: np.ndarray) -> float:
        squares = (frames - ahead) ** 2
        return float(np.mean(squares if seen_ahead is None else of_seen(squares, seen_ahead)))

    def imagined(data: Sequences) -> float:
        return error(roll_out(dreamer, data, context).frames[:, context:])

    which = spread_over(np.arange(len(data)), WATCHED)
    random = np.random.default_rng(0)
    actions = random.choice(data.actions.reshape(-1, data.action_size), (len(which), LONG))
    watched = _watch(model, truth[which], data.actions[which], None if seen is None else seen[which], actions)
    others = len(data) > 1 and bool(np.ptp(data.actions, axis=(0, 1)).any())
    figures = {
        "open_loop_mse": imagined(data),
        "repeat_last_frame_mse": error(last_frame(truth, context, seen)),
        "mean_frame_mse": error(mean_frame(truth, seen)),
        "shuffled_actions_mse": imagined(shuffle_actions(data, context)) if others else 0.0,
    } | {name: float(value) for name, value in watched.items()}
    remark = model.remark(figures) if isinstance(model, Remarking) else ""
    return Health(figures, find_problems(model, figures), remark)


def look_far(model: WorldModel, data: Sequences) -> dict[str, float]:
    """How far imagined frames are worth something, on held-out sequences as long as half of them are: "imagined_frames"
    after five observed ones, and for how many of them, "foreseen_frames", they beat the better naive predictor. Empty
    where the sequences have no more frames than `measure` looks at."""
    context = max(model.context, CONTEXT)
    data = data.whole(int(np.median(data.lengths()))).to_foresee(context)
    data = data.take(spread_over(np.arange(len(data)), WATCHED))
    if not len(data) or data.length <= context + IMAGINED:
        return {}
    truth, seen = as_unit_frames(data.frames), data.seen()
    ahead, seen_ahead = truth[:, context:], seen_after(seen, context)

    def errors(frames: np.ndarray) -> np.ndarray:
        pixels = tuple(range(2, truth.ndim))
        return mean_of_sequences(np.mean((frames - ahead) ** 2, axis=pixels), seen_ahead)

    imagined = errors(roll_out(Dreamer(model), data, context).frames[:, context:])
    naive = errors(last_frame(truth, context, seen)), errors(mean_frame(truth, seen))
    return {"foreseen_frames": float(frames_foreseen(imagined, *naive)), "imagined_frames": float(len(imagined))}


def frames_foreseen(imagined: np.ndarray, *naive: np.ndarray) -> int:
    """For how many frames errors `[S]` stay below NOT_LEARNT of the least of the naive ones, each `[S]`: the end of the
    last stretch of ten frames before the first stretch in which they do not; 0 where that is the first of all. Where no
    frame was seen they are NaN, and count nothing."""

    def stretches(errors: np.ndarray) -> np.ndarray:
        return np.convolve(np.nan_to_num(errors), np.ones(IMAGINED), "valid")

    lost = stretches(imagined) > NOT_LEARNT * np.min([stretches(each) for each in naive], axis=0)
    if not lost.any():
        return len(imagined)
    first = int(np.argmax(lost))
    return first + IMAGINED - 1 if first else 0


@compiled
def _watch(
    model: WorldModel, frames: jax.Array, actions: jax.Array, valid: jax.Array | None, long_actions: jax.Array
) -> dict[str, jax.Array]:
    """What the latents tell, for frames `[B, T, H, W(, C)]` in [0, 1] filtered along their means."""
    states = model.filter(frames, actions, valid)
    dreamt = model.vector(imagine(model, last(states), long_actions))
    decoded = jnp.clip(model.emission(states).mean(), 0, 1)
    size, grown = jnp.mean(model.vector(states) ** 2), jnp.mean(dreamt**2)
    figures = {
        "reconstruction_share": mean_of_seen((decoded - frames) ** 2, valid) / _variance(frames, valid),
        "imagined_rms": jnp.sqrt(grown),
        "latent_growth": jnp.sqrt(grown / size),
    }
    return figures | (model.diagnosis(frames, actions, valid) if isinstance(model, Diagnosed) else {})


def _variance(frames: jax.Array, valid: jax.Array | None) -> jax.Array:
    """Of a pixel over the frames `[B, T, H, W(, C)]` that were seen, averaged over the pixels."""
    if valid is None:
        return jnp.mean(jnp.var(frames, axis=(0, 1)))
    there = valid.reshape(*valid.shape, *[1] * (frames.ndim - 2))
    mean = jnp.sum(jnp.where(there, frames, 0), axis=(0, 1), keepdims=True) / jnp.maximum(jnp.sum(valid), 1)
    return mean_of_seen((frames - mean) ** 2, valid)
