"""Data that a controller collects: where a model is to be good is where its plans lead."""

import dataclasses

import jax

from worldmodel.data.sequences import Sequences, WorldRecord
from worldmodel.planning.controller import Controller
from worldmodel.planning.trials import Arena
from worldmodel.support.progress import progress_bar
from worldmodel.worlds.environments import describe, stacked
from worldmodel.worlds.episodes import from_vector

PLANNED = "planned"
"""how the actions of such data were chosen (WorldRecord.actions)"""


def gather(arena: Arena, record: WorldRecord, controller: Controller, sequences: int, seed: int) -> Sequences:
    """So many episodes of arena.steps + 1 frames each, as `collect` records them; the controller's own noise makes them
    differ from its plans."""
    space, episodes = arena.env.action_space, []
    with progress_bar("collect by planning", sequences, "episode") as bar:
        for number in range(sequences):
            controller.reset(jax.random.fold_in(jax.random.key(seed), number))
            episodes.append(arena.play(lambda frame, t: from_vector(controller.act(frame).action, space), seed, number))
            bar.update()
    about = describe(arena.env, arena.options, dataclasses.replace(record, actions=PLANNED))
    return Sequences(**stacked(episodes), **about)
