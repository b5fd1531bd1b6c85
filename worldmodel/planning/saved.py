"""What a run has learnt to act by: R/acting/, made of a trained run when it is first asked for.

R/acting/reward.npz, reward.json    the learnt reward, and how good it is
R/acting/policy.npz, policy.json    the policy learnt in the dream, its options and its returns
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from worldmodel.data.sequences import Sequences
from worldmodel.data.storage import load_sequences
from worldmodel.imagination.dreamer import Dreamer
from worldmodel.models.networks import MLP
from worldmodel.models.protocol import WorldModel
from worldmodel.planning.options import PolicyOptions
from worldmodel.planning.policy import LearntPolicy, learn_policy
from worldmodel.planning.reward import LearntReward, RewardQuality, learn_reward, reward_network
from worldmodel.planning.spaces import ActionSpace
from worldmodel.runs.folder import Run, load_tree, save_tree
from worldmodel.runs.pretrained import shown_data
from worldmodel.support.files import UserError, read_json, write_json
from worldmodel.support.settings import from_json
from worldmodel.worlds.episodes import open_environment
from worldmodel.worlds.world import World, world_of


def require_world_model(run: Run, dreamer: Dreamer) -> None:
    """Raise UserError where the run's model cannot imagine, and so cannot act."""
    if not isinstance(dreamer.model, WorldModel):
        raise UserError(f"{run.folder}: {run.model} is a model of single frames, and cannot act")


def saved_reward(run: Run, dreamer: Dreamer) -> tuple[LearntReward, RewardQuality]:
    """The reward of a run and its quality: the one that was kept or, where the run has none of its last checkpoint and
    of the rewards that the data has now, one that is learnt from what the run was trained on, and kept.

    Raises UserError where the data has no rewards, or is not there, and for a model of single frames.
    """
    require_world_model(run, dreamer)
    place, step, paid = run.folder / "acting" / "reward", max(run.checkpoint_steps()), _paid(run)
    if (kept := _kept_reward(place, step, paid, dreamer)) is not None:
        return kept
    source, data = shown_data(run)
    reward, quality = learn_reward(dreamer, data, str(source))
    save_tree(place.with_suffix(".npz"), reward)
    write_json(place.with_suffix(".json"), {"step": step, "rewards": paid, "quality": dataclasses.asdict(quality)})
    return reward, quality


def _paid(run: Run) -> str | None:
    """SHA-256 of the rewards of a run's data, which can be changed while its frames stay; None where there are none."""
    path = Path(run.card.path)
    rewards = load_sequences(path).rewards if path.exists() else None
    return None if rewards is None else hashlib.sha256(rewards.tobytes()).hexdigest()


def _kept_reward(
    place: Path, step: int, paid: str | None, dreamer: Dreamer
) -> tuple[LearntReward, RewardQuality] | None:
    """None where there is none, or one of other rewards or of an earlier version."""
    note = _note(place, step)
    if note is None or paid not in (None, note.get("rewards")):
        return None
    try:
        quality = from_json(RewardQuality, note["quality"])
        return load_tree(place.with_suffix(".npz"), _like_reward(dreamer)), quality
    except (KeyError, TypeError, UserError):
        return None


def save_policy(
    run: Run, policy: LearntPolicy, options: PolicyOptions, space: ActionSpace, returns: np.ndarray
) -> None:
    """Keep a policy in its run."""
    place = run.folder / "acting" / "policy"
    save_tree(place.with_suffix(".npz"), policy)
    note = {
        "step": max(run.checkpoint_steps()),
        "options": dataclasses.asdict(options),
        "space": dataclasses.asdict(space),
        "returns": returns.tolist(),
    }
    write_json(place.with_suffix(".json"), note)


def learn_and_save(run: Run, dreamer: Dreamer, options: PolicyOptions) -> LearntPolicy:
    """Learn a policy by the run's reward, from states of its world, and keep it."""
    options.check()
    source, data = shown_data(run)
    space = space_of(data, str(source))
    if not space.free:
        raise UserError(f"{source}: nothing can be done in its world, and there is no policy to learn")
    reward, _ = saved_reward(run, dreamer)
    policy, returns = learn_policy(dreamer, data, reward, space, options)
    save_policy(run, policy, options, space, returns)
    return policy


def saved_policy(run: Run, space: ActionSpace) -> LearntPolicy | None:
    """The policy that was learnt in the run's dream, or None where there is none of its last checkpoint. Raises
    UserError when it is damaged, or of other actions."""
    place = run.folder / "acting" / "policy"
    note = _note(place, max(run.checkpoint_steps()))
    if note is None:
        return None
    try:
        hidden = from_json(PolicyOptions, note["options"]).hidden_size
        of_space = from_json(ActionSpace, note["space"])
    except (KeyError, TypeError):
        raise UserError(f"{place}.json: damaged, or of another version; learn the policy anew") from None
    if of_space != space:
        raise UserError(f"{place}.json: is a policy of other actions: {note['space']}")
    latent = run.structure().latent_size
    like = LearntPolicy(_network((latent, hidden, hidden, space.size)), jnp.zeros(latent), jnp.zeros(latent))
    return load_tree(place.with_suffix(".npz"), like)


def space_of(data: Sequences, source: str) -> ActionSpace:
    """The actions of the world that made a data set or, where that is not known, those of the data. Raises UserError,
    beginning with `source`, where what the data says of its world is wrong."""
    if (world := world_of(data, source)) is not None:
        return space_of_world(world)
    if data.world is not None:
        try:
            env, _ = open_environment(data.world.id, data.world.arguments)
        except UserError:
            return ActionSpace.of_data(data.actions)
        env.close()
        return ActionSpace.of(env.action_space)
    return ActionSpace.of_data(data.actions)


def space_of_world(world: World) -> ActionSpace:
    """The actions of a world whose truth is known."""
    if world.discrete:
        return ActionSpace.of_choices(world.action_size)
    return ActionSpace((-world.largest_action,) * world.action_size, (world.largest_action,) * world.action_size)


def _note(place: Path, step: int) -> dict[str, Any] | None:
    """What stands beside arrays that were learnt from this checkpoint; None where there are none."""
    path = place.with_suffix(".json")
    if not path.exists() or not place.with_suffix(".npz").exists():
        return None
    note = read_json(path)
    return note if isinstance(note, dict) and note.get("step") == step else None


def _network(sizes: tuple[int, ...]) -> MLP:
    """Shapes alone."""
    return nnx.eval_shape(lambda: MLP(sizes, nnx.Rngs(params=0)))


def _like_reward(dreamer: Dreamer) -> LearntReward:
    """Shapes alone."""
    inputs = 2 * dreamer.model.latent_size + dreamer.model.scale.action_size
    network = nnx.eval_shape(lambda: reward_network(inputs, nnx.Rngs(params=0)))
    return LearntReward(network, jnp.zeros(inputs), jnp.zeros(inputs), *[jnp.zeros(())] * 5)
