"""A run acts in the real environment: episodes, beside floors and ceilings, with pictures."""

import dataclasses
from pathlib import Path
from typing import Self

import cv2
import jax
import numpy as np
from PIL import Image

from worldmodel.data.scale import FrameScale
from worldmodel.data.sequences import WorldRecord
from worldmodel.imagination.dreamer import Dreamer
from worldmodel.pictures.acting import Shown, animate_acting, draw_returns
from worldmodel.planning.catalogue import Planner
from worldmodel.planning.controller import Controller
from worldmodel.planning.follow import Follow
from worldmodel.planning.record import THE_REWARD, Acted
from worldmodel.planning.saved import require_world_model, saved_policy, saved_reward
from worldmodel.planning.trials import SHOWN, Arena, Trial, floors, plan_with_truth, starts, try_out
from worldmodel.planning.wanted import Goal, Wish
from worldmodel.runs.folder import Run
from worldmodel.support.files import UserError, atomic_folder
from worldmodel.support.progress import progress_bar
from worldmodel.support.settings import require_at_least
from worldmodel.worlds.world import Controlled, Rewarded, Solved

AT_THE_END = 10
"""frames of an episode that tell whether it came to its goal"""
FILMED = 20
"""episodes of which the animation shows the worst, the median and the best"""


@dataclasses.dataclass(frozen=True)
class Acting:
    """A run, an environment, which is closed at the end of a with statement, and what is wanted of it."""

    run: Run
    dreamer: Dreamer
    arena: Arena
    record: WorldRecord
    wish: Wish
    wanted: str
    reward: str | None
    """how well a learnt reward is known, in words"""
    warnings: list[str]
    start: str | None = None
    """name of the place at which every episode starts"""

    @staticmethod
    def of(
        run: Run,
        dreamer: Dreamer,
        env: str | None = None,
        goal: np.ndarray | None = None,
        steps: int | None = None,
        start: str | None = None,
    ) -> "Acting":
        """`env` is a Gymnasium id, by default the one that made the run's data, whose camera is used in any case; a
        `goal` `[H, W(, C)]` in [0, 1] takes the place of the reward. Raises UserError when they do not fit the run."""
        require_world_model(run, dreamer)
        made = run.card.world
        if made is None:
            raise UserError(
                f"{run.folder}: its data does not say how frames were made of pictures (a record of its world, as"
                " collect.py writes it), and without that there is nothing to act in"
            )
        record = made if env in (None, made.id) else WorldRecord(str(env), {}, made.camera)
        arena = Arena.open(record, steps, start)
        if arena.space.size != run.card.scale.action_size:
            raise UserError(
                f"{record.id}: actions have size {arena.space.size}, but {run.folder} was trained on size"
                f" {run.card.scale.action_size}"
            )
        if goal is not None:
            if goal.shape != run.card.scale.frame_shape:
                raise UserError(f"the goal is {list(goal.shape)}, but frames are {list(run.card.scale.frame_shape)}")
            wish = Goal.of_frame(goal, run.card.scale.frame_variance)
            return Acting(run, dreamer, arena, record, wish, "a goal picture", None, [], start)
        reward, quality = saved_reward(run, dreamer)
        warning = quality.warning()
        warnings = [warning] if warning else []
        return Acting(run, dreamer, arena, record, reward, THE_REWARD, quality.sentence(), warnings, start)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.arena.close()

    def controller(self, planner: Planner, use_policy: bool = True, noise: float = 0.0) -> Controller:
        """One that acts by this planner, to which the run's policy makes proposals where it has one; not towards a
        goal, of which the policy knows nothing."""
        proposes = use_policy and not isinstance(self.wish, Goal)
        policy = saved_policy(self.run, self.arena.space) if proposes else None
        return Controller(self.dreamer, planner, self.arena.space, self.wish, policy, noise)


def act(
    task: Acting,
    out: Path,
    name: str,
    planner: Planner,
    episodes: int,
    seed: int,
    ceilings: bool = True,
    use_policy: bool = True,
) -> Acted:
    """Play episodes by a planner called `name`, and write episodes.json, episodes.gif and returns.png into the folder
    `out`. Raises UserError when a number cannot be, or when something is there already."""
    require_at_least("--episodes", episodes, 1)
    require_at_least("--seed", seed, 0)
    if out.exists():
        raise UserError(f"{out}: exists already; it is not overwritten")
    if isinstance(planner, Follow) and isinstance(task.wish, Goal):
        raise UserError("--planner policy does what its reward wants; a goal needs a planner that searches")
    controller = task.controller(planner, use_policy)
    controller.warm_up()
    trials: list[Trial] = []
    with progress_bar("act", episodes, "episode") as bar:
        for number in range(episodes):
            trials.append(try_out(task.arena, controller, task.wish, seed, number, keep=number < FILMED))
            bar.update()
            bar.set_postfix_str(f"mean return {np.mean([trial.total for trial in trials]):.1f}", refresh=False)
    arena = task.arena
    world = arena.world
    known: dict[str, list[float]] = {}
    if ceilings and isinstance(world, Rewarded):
        begin = starts(arena, seed, episodes)
        if not isinstance(planner, Follow):  # a policy knows the states of its model alone
            key = jax.random.key(seed)
            known["the same planner on the true physics"] = plan_with_truth(
                world, planner, arena.space, begin, arena.steps, key
            )
        optimum = world.optimal_returns(begin, arena.steps) if isinstance(world, Solved) else None
        if optimum is not None:
            known["optimum"] = optimum.tolist()
    states = [t.episode.states[: t.length + 1] for t in trials if t.episode.states is not None]
    found = Acted(
        env=arena.id,
        seed=seed,
        start=task.start,
        steps=arena.steps,
        planner=name,
        options=dataclasses.asdict(planner),  # type: ignore[call-overload]
        wanted=task.wanted,
        policy=controller.policy is not None,
        returns=[trial.total for trial in trials],
        lengths=[trial.length for trial in trials],
        ended=float(np.mean([trial.episode.ended.any() for trial in trials])),
        seconds_per_decision=float(np.median(np.concatenate([trial.seconds for trial in trials]))),
        dreamt=np.concatenate([trial.dreamt for trial in trials]).tolist(),
        real=np.concatenate([trial.real for trial in trials]).tolist(),
        floors=floors(arena, seed, episodes),
        ceilings=known,
        reward=task.reward,
        warnings=task.warnings,
        outcomes=_at_the_goal(trials) | (world.outcomes(states) if isinstance(world, Controlled) else {}),
    )
    with atomic_folder(out) as folder:
        found.write(folder)
        draw_returns(
            folder / "returns.png", found.rows(), name, np.array(found.dreamt), np.array(found.real), planner.horizon
        )
        _animate(folder / "episodes.gif", task, trials[:FILMED], planner.horizon)
    return found


def _at_the_goal(trials: list[Trial]) -> dict[str, float]:
    """How close the true frames at the end are to the goal, from 0 to 1; nothing without a goal."""
    ends = [np.mean(trial.closeness[-AT_THE_END:]) for trial in trials if len(trial.closeness)]
    return {"goal_closeness": float(np.median(ends))} if ends else {}


def _animate(path: Path, task: Acting, trials: list[Trial], horizon: int) -> None:
    """The worst, the median and the best of some episodes."""
    order = np.argsort([trial.total for trial in trials])
    chosen = dict.fromkeys((int(order[0]), int(order[len(order) // 2]), int(order[-1])))
    names = ("worst", "median", "best") if len(chosen) == 3 else ("worst", "best")[-len(chosen) :]
    shown = []
    for number, name in zip(chosen, names, strict=True):
        trial = trials[number]
        frames = task.dreamer.decode(trial.futures)
        true, rewards = trial.episode.frames[: trial.length], trial.episode.rewards
        shown.append(Shown(f"{name} of {len(trials)}", true, frames, rewards))
    dt = task.run.card.dt
    ahead = np.linspace(horizon / SHOWN, horizon, SHOWN).round() * (dt or 1)
    animate_acting(path, shown, ahead.tolist(), "s" if dt else "frames", dt)


def goal_of_image(path: Path, scale: FrameScale) -> np.ndarray:
    """A picture in a file as a goal: resized by area to the shape of the run's frames, `[H, W(, C)]` in [0, 1]. Raises
    UserError when it is no picture."""
    grey = len(scale.frame_shape) == 2
    try:
        with Image.open(path) as image:
            picture = np.asarray(image.convert("L" if grey else "RGB"))
    except OSError as error:
        raise UserError(f"{path}: no picture that can be read: {error.strerror or error}") from None
    height, width = scale.frame_shape[:2]
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
