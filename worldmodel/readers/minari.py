"""Minari data sets, by minari: a folder with metadata.json in it or in its data/, as minari keeps them.

Pictures are the observations themselves, or one of a dictionary of observations (--camera), where their space is a Box
of uint8 that has the shape of a picture. States are an entry of that dictionary (--state; else state, where there is
one). A choice among n (Discrete) becomes a one-hot vector `[n]`. An episode of T observations has T-1 actions;
`ended` is what the environment called terminated.

Nothing that the data set names is imported or made: its spaces must be in its metadata, where Minari puts them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worldmodel.readers.catalogue import Episode, Keys, Source, chosen, reading
from worldmodel.support.extras import library
from worldmodel.support.files import UserError, read_json

if TYPE_CHECKING:
    import numpy as np

KIND = "a Minari data set"
METADATA = "metadata.json"
SPACES = ("observation_space", "action_space")
STATE = "state"
WHOLE = "observation"
"""what observations that are no dictionary are called"""


class Minari:
    """Minari data sets whose observations are pictures or hold them, as Farama's library writes them"""

    @staticmethod
    def recognises(source: Path) -> bool:
        return (_folder(source) / METADATA).is_file()

    @staticmethod
    def read(source: Path, keys: Keys) -> Source:
        minari = library("minari", "minari")
        import gymnasium

        from worldmodel.worlds.episodes import require_vectors

        metadata = read_json(_folder(source) / METADATA)
        if not isinstance(metadata, dict) or not all(isinstance(metadata.get(name), str) for name in SPACES):
            raise UserError(f"{source}: its {METADATA} has no {' and no '.join(SPACES)}")
        if keys.action is not None:
            raise UserError("--action: a Minari data set has one kind of actions")
        with reading(source, KIND):
            data = minari.MinariDataset(_folder(source))
            steps = [int(each["total_steps"]) for each in data.storage.get_episode_metadata(data.episode_indices)]
        require_vectors(data.action_space, source)
        spaces = _leaves(data.observation_space)
        cameras = [name for name, each in spaces.items() if _is_picture(each)]
        camera = chosen(keys.camera, cameras, "observations that are pictures", "--camera", source)
        vectors = [
            name for name, each in spaces.items() if isinstance(each, gymnasium.spaces.Box) and name not in cameras
        ]
        wanted = keys.state or (STATE if STATE in vectors else None)
        state = None if wanted is None else chosen(wanted, vectors, "observations that are numbers", "--state", source)
        return Source([count + 1 for count in steps], _episodes(source, data, camera, state))


def _folder(source: Path) -> Path:
    return source / "data" if (source / "data" / METADATA).is_file() else source


def _leaves(space: Any, name: str = "") -> dict[str, Any]:
    """The spaces in a dictionary of spaces, by their path, or a space alone."""
    import gymnasium

    if not isinstance(space, gymnasium.spaces.Dict):
        return {name or WHOLE: space}
    return {
        path: leaf
        for key, each in space.items()
        for path, leaf in _leaves(each, f"{name}/{key}" if name else str(key)).items()
    }


def _is_picture(space: Any) -> bool:
    import gymnasium

    shape: Any = getattr(space, "shape", None) or ()
    colours = len(shape) == 3 and (shape[2] in (1, 3, 4) or shape[0] in (1, 3, 4))
    return isinstance(space, gymnasium.spaces.Box) and space.dtype == "uint8" and (len(shape) == 2 or colours)


def _episodes(source: Path, data: Any, camera: str, state: str | None) -> Iterator[Episode]:
    import numpy as np

    from worldmodel.worlds.episodes import as_vector

    def part(observations: Any, name: str) -> np.ndarray:
        for key in name.split("/") if isinstance(observations, dict) else ():
            observations = observations[key]
        return observations

    with reading(source, KIND):
        for episode in data.iterate_episodes():
            states = None if state is None else part(episode.observations, state)
            yield Episode(
                f"episode {episode.id}",
                part(episode.observations, camera),
                np.stack([as_vector(action, data.action_space) for action in episode.actions]),
                None if states is None else states.reshape(len(states), -1),
                episode.rewards,
                episode.terminations,
            )
