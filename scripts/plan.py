"""Act by imagining: plan in a trained model's dream, act in the real Gymnasium environment, look, plan again."""

import dataclasses
from pathlib import Path
from typing import Annotated, Generic, TypeVar

import tyro

from worldmodel.planning.catalogue import PLANNERS
from worldmodel.support.files import UserError
from worldmodel.support.script import run_chosen

Planner = TypeVar("Planner")
DEFAULT = "cem"


@dataclasses.dataclass(frozen=True)
class Options(Generic[Planner]):
    run: Path
    """Run folder of a model that was trained on sequences."""
    search: Annotated[Planner, tyro.conf.arg(name="")]
    planner: str = DEFAULT
    """Which of the planners above; it brings options of its own."""
    env: str | None = None
    """Gymnasium id of an environment with rgb_array rendering; default: the one that made the run's data. Frames are
    made as those of the data."""
    episodes: int = 10
    """Episodes to play."""
    seed: int = 100
    """Of the starts and of the planner."""
    steps: int | None = None
    """Of an episode, at most; default: the environment's own limit, or 200."""
    start: str | None = None
    """Place of the world at which every episode starts, such as "hanging, at rest"; default: its own random starts."""
    goal: Path | None = None
    """Picture of what the world should look like, in place of the learnt reward."""
    goal_frame: tuple[int, int] | None = None
    """The same as a frame of the run's data: number of the sequence and of the frame."""
    policy: bool = True
    """Let the policy that was learnt in the dream (scripts/learn_policy.py) make proposals, where there is one."""
    ceilings: bool = True
    """Ask as well what the same planner gets on the true physics, and what the optimum is, where they are known."""
    out: Path | None = None
    """Folder for episodes.json, episodes.gif and returns.png; default: acting/PLANNER in the run."""


def main(options: Options) -> None:
    if options.goal is not None and options.goal_frame is not None:
        raise UserError("give --goal or --goal-frame, not both")

    import worldmodel as wm

    run = wm.load(options.run)
    found = run.act(
        options.env,
        planner=options.planner,
        episodes=options.episodes,
        seed=options.seed,
        steps=options.steps,
        start=options.start,
        goal=options.goal if options.goal_frame is None else options.goal_frame,
        policy=options.policy,
        ceilings=options.ceilings,
        out=options.out,
        **dataclasses.asdict(options.search),
    )
    print(found.summary())
    print(f"{options.out or run.folder / 'acting' / options.planner}: episodes.json, episodes.gif, returns.png")


if __name__ == "__main__":
    run_chosen(main, Options, PLANNERS, DEFAULT, __doc__)
