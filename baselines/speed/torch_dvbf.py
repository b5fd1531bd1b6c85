"""The DVBF of worldmodel/models/dvbf/ and its training in plain PyTorch: what the speed of ours is compared with.

The same model (with FusionPosterior), the same objective and the same optimiser, as one writes them in PyTorch:
networks batched over time, a Python loop over the steps of the transition alone, and what no step changes computed
before the loop. tests/baselines/test_torch_dvbf.py holds the two to the same losses, gradients and frames. It computes
no metrics beside the loss, which is in its favour. PyTorch is an optional dependency (the group `bench`).
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from worldmodel.data.sequences import Sequences
from worldmodel.models.distributions import MIN_STD
from worldmodel.models.dvbf.model import DVBF
from worldmodel.models.dvbf.objective import early, noise_scale
from worldmodel.models.networks import BALL_RADIUS, MLP
from worldmodel.training.options import Recipe
from worldmodel.training.step import B2, CLIP, warm_up_and_cosine


class Normal(NamedTuple):
    """Diagonal Gaussians."""

    mean: Tensor
    std: Tensor


class TorchFiltered(NamedTuple):
    """What a filter gives for B sequences of T frames; see variational.Inference."""

    latents: Tensor
    """`[B, T, Z]` samples"""
    features: Tensor
    """`[B, T, F]` what the encoder says of each frame"""
    initial: Normal
    """q(z_0) `[B, Z]`"""
    posterior: Normal
    """q(z_{t+1} | z_t, u_t, x_{t+1}) `[B, T-1, Z]`"""
    prior: Normal
    """p(z_{t+1} | z_t, u_t) `[B, T-1, Z]`"""


class Prepared(NamedTuple):
    """What the steps of a filter or a rollout share: made of the parameters once, before the loop."""

    matrices: Tensor
    """`[M * (Z + A), Z]` state and action matrices"""
    stds: Tensor
    """`[M, Z]` of the transition's noise"""
    widening: Tensor
    """`[M, Z]`"""
    gain: Tensor
    """`[M * V, Z - V]`"""


class TorchDVBF(nn.Module):
    """The twin of a DVBF, with its parameters. Frames in and out are float `[..., H, W]` in [0, 1]."""

    def __init__(self, model: DVBF):
        super().__init__()
        self.scale, self.options, self.observation_std = model.scale, model.options, model.observation_std
        if self.options.inference != "fusion" or self.options.annealing_share or self.options.precision != "float32":
            raise ValueError("the twin has the fusion posterior, no tempered likelihood, and float32")
        if self.scale.background:
            raise ValueError("the twin knows no background")
        self.encoder, self.initial_network, self.decoder = map(
            network, (model.encoder, model.initial_network, model.decoder)
        )
        transition, posterior = model.transition, model.posterior
        self.weights, self.measurement = network(transition.weights), network(posterior.measurement)
        self.state_matrices, self.action_matrices, self.raw_noise_std = map(
            parameter, (transition.state_matrices, transition.action_matrices, transition.raw_noise_std)
        )
        self.raw_widening, self.gain = parameter(posterior.raw_widening), parameter(posterior.gain)

    def encode(self, frames: Tensor) -> Tensor:
        """`[B, T, H, W]` to features `[B, T, F]`."""
        pixels = (frames.flatten(2) - self.scale.pixel_mean) / self.scale.pixel_std
        return functional.silu(self.encoder(pixels))

    def initial(self, features: Tensor, actions: Tensor) -> Normal:
        """q(z_0) from the features `[..., K, F]` of the first frames and the scaled actions `[..., K-1, A]`."""
        flat = torch.cat([features.flatten(-2), actions.flatten(-2)], dim=-1)
        mean, raw_std = self.initial_network(flat).chunk(2, dim=-1)
        return Normal(mean, positive(raw_std))

    def decode(self, latents: Tensor) -> Tensor:
        """The mean frames `[..., H, W]` of latents `[..., Z]`."""
        pixels = self.decoder(latents[..., : self.options.visible_size])
        return (pixels * self.scale.pixel_std + self.scale.pixel_mean).unflatten(-1, self.scale.frame_shape)

    def prepare(self, noise_scale: float) -> Prepared:
        matrices = torch.cat([self.state_matrices, self.action_matrices], dim=1).flatten(0, 1)
        stds = noise_scale * positive(self.raw_noise_std)
        return Prepared(matrices, stds, positive(self.raw_widening), self.gain.flatten(0, 1))

    def predict(self, latent: Tensor, action: Tensor, prepared: Prepared) -> tuple[Tensor, Normal]:
        """The mixture `[B, M]` and p(z' | z, u) for latents `[B, Z]` and scaled actions `[B, A]`."""
        stacked = torch.cat([latent, action], dim=1)
        mixture = torch.softmax(self.weights(stacked), dim=1)
        mean = into_ball(latent + mix(mixture, stacked, prepared.matrices))
        return mixture, Normal(mean, mixture @ prepared.stds)

    def measure(self, features: Tensor) -> Normal:
        """What features `[..., F]` say of the visible latents, `[..., V]`."""
        mean, raw_std = self.measurement(features).chunk(2, dim=-1)
        return Normal(mean, positive(raw_std))

    def correct(self, prior: Normal, mixture: Tensor, measured: Normal, prepared: Prepared) -> Normal:
        """q(z' | z, u, x') from p(z' | z, u) `[B, Z]` and a measurement `[B, V]`."""
        visible = measured.mean.shape[1]
        std = prior.std * (mixture @ prepared.widening)
        prior_precision, precision = std[:, :visible] ** -2, measured.std**-2
        fused_precision = prior_precision + precision
        fused_mean = (prior_precision * prior.mean[:, :visible] + precision * measured.mean) / fused_precision
        moved = mix(mixture, fused_mean - prior.mean[:, :visible], prepared.gain)
        return Normal(
            torch.cat([fused_mean, prior.mean[:, visible:] + moved], dim=1),
            torch.cat([fused_precision**-0.5, std[:, visible:]], dim=1),
        )

    def filter(
        self, frames: Tensor, actions: Tensor, observed: Tensor, noise: Tensor, noise_scale: float
    ) -> TorchFiltered:
        """As DVBF.filter: frames `[B, T, H, W]`, actions `[B, T-1, A]`, observed `[B, T-1]`, noise `[B, T, Z]`."""
        prefix, prepared = self.options.initial_frames, self.prepare(noise_scale)
        actions = actions / self.scale.action_scale
        features = self.encode(frames)
        initial = self.initial(features[:, :prefix], actions[:, : prefix - 1])
        measured = self.measure(features[:, 1:])
        latent = initial.mean + initial.std * noise[:, 0]
        latents, priors, posteriors = [latent], [], []
        for t in range(actions.shape[1]):
            mixture, prior = self.predict(latent, actions[:, t], prepared)
            posterior = self.correct(prior, mixture, Normal(measured.mean[:, t], measured.std[:, t]), prepared)
            sees = observed[:, t, None]
            mean, std = torch.where(sees, posterior.mean, prior.mean), torch.where(sees, posterior.std, prior.std)
            latent = mean + std * noise[:, t + 1]
            latents.append(latent)
            priors.append(prior)
            posteriors.append(posterior)
        return TorchFiltered(torch.stack(latents, dim=1), features, initial, stack(posteriors), stack(priors))

    def imagine(self, latent: Tensor, actions: Tensor, noise: Tensor) -> Tensor:
        """As DVBF.imagine: `[B, Z]`, `[B, S, A]` and noise `[B, S, Z]` to the S latents `[B, S, Z]` after `latent`."""
        prepared = self.prepare(self.options.final_noise_scale)
        actions = actions / self.scale.action_scale
        latents = []
        for t in range(actions.shape[1]):
            _, prior = self.predict(latent, actions[:, t], prepared)
            latent = prior.mean + prior.std * noise[:, t]
            latents.append(latent)
        return torch.stack(latents, dim=1)

    def loss(
        self,
        frames: Tensor,
        actions: Tensor,
        observed: Tensor,
        noise: Tensor,
        starts: Tensor,
        early: float,
        noise_scale: float,
    ) -> Tensor:
        """objective.dvbf_loss, for given masks, noise and starts and what its schedules give at this step."""
        options = self.options
        filtered = self.filter(frames, actions, observed, noise, noise_scale)
        std, pixels = self.observation_std, self.scale.pixels
        error = (self.decode(filtered.latents) - frames).square().flatten(2).sum(dim=2)
        reconstruction = -0.5 * error / std**2 - pixels * (math.log(std) + 0.5 * math.log(2 * math.pi))
        step_kl = torch.where(observed, kl(filtered.posterior, filtered.prior), 0.0)
        weight = 1 + (options.transition_kl_weight - 1) * early
        bound = reconstruction.sum() - kl_from_unit(filtered.initial).sum() - weight * step_kl.sum()
        loss = -bound / reconstruction.numel()
        if options.consistency_weight > 0:
            distance = self.restart_distance(filtered, actions / self.scale.action_scale, starts)
            loss = loss + options.consistency_weight * distance
        return loss

    def restart_distance(self, filtered: TorchFiltered, actions: Tensor, starts: Tensor) -> Tensor:
        """The mean of objective.restart_distance, for scaled actions and starts `[B]`."""
        which = torch.arange(len(starts), device=starts.device)[:, None]
        window = starts[:, None] + torch.arange(self.options.initial_frames, device=starts.device)
        restart = self.initial(filtered.features[which, window], actions[which, window[:, :-1]])
        return (filtered.latents[which[:, 0], starts] - restart.mean).square().mean()


class TorchTraining:
    """Updates of a TorchDVBF, on its device: random windows of the data, our optimiser and schedules."""

    def __init__(self, model: TorchDVBF, data: Sequences, recipe: Recipe):
        device = model.gain.device
        self.model, self.recipe, self.step = model, recipe, 0
        self.frames, self.actions = (torch.from_numpy(array).to(device) for array in (data.frames, data.actions))
        # without the warm-up of its momentum, which is not the optimiser's own
        self.optimiser = torch.optim.NAdam(model.parameters(), betas=(0.9, B2), momentum_decay=1e9, foreach=True)
        self.random = torch.Generator(device).manual_seed(0)
        steps = jnp.arange(recipe.steps)
        progress = steps / recipe.steps
        self.rates = warm_up_and_cosine(recipe.learning_rate, recipe.steps)(steps).tolist()
        self.early = early(progress, model.options.help_ends).tolist()
        self.noise_scales = noise_scale(progress, model.options.final_noise_scale).tolist()

    def train(self, updates: int) -> float:
        """So many updates; the mean loss."""
        losses = [self.update(*self.sample()) for _ in range(updates)]
        return float(torch.stack(losses).mean())

    @property
    def now(self) -> int:
        """Where the schedules are: at their end, once all steps are done."""
        return min(self.step, self.recipe.steps - 1)

    def sample(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Windows of frames and actions, a mask of open-loop tails, noise, and starts of the penalty."""
        sequences, length = self.frames.shape[:2]
        batch, window = self.recipe.batch_size, self.recipe.window
        on = {"device": self.frames.device, "generator": self.random}
        which = torch.randint(sequences, (batch, 1), **on)
        along = torch.arange(window, device=self.frames.device)
        time = torch.randint(length - window + 1, (batch, 1), **on) + along
        open_loop = torch.rand((batch, 1), **on) < self.model.options.open_loop_share * self.early[self.now]
        observed = ~open_loop | (along[:-1] < torch.randint(window - 1, (batch, 1), **on))
        noise = torch.randn((batch, window, self.model.options.latent_size), **on)
        starts = torch.randint(window - self.model.options.initial_frames + 1, (batch,), **on)
        return self.frames[which, time].float() / 255, self.actions[which, time[:, :-1]], observed, noise, starts

    def update(self, frames: Tensor, actions: Tensor, observed: Tensor, noise: Tensor, starts: Tensor) -> Tensor:
        """One update with what `sample` gives; the loss before it."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rates[self.now]
        scheduled = self.early[self.now], self.noise_scales[self.now]
        loss = self.model.loss(frames, actions, observed, noise, starts, *scheduled)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimiser.step()
        self.step += 1
        return loss.detach()


def network(mlp: MLP) -> nn.Sequential:
    """With the same layers: silu between them, linear at the end."""
    layers: list[nn.Module] = []
    for layer in mlp.layers:
        linear = nn.Linear(*layer.kernel.shape)
        linear.weight, linear.bias = parameter(layer.kernel[...].T), parameter(layer.bias)
        layers += [linear, nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def parameter(array: Any) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(array[...])))


def mix(mixture: Tensor, x: Tensor, matrices: Tensor) -> Tensor:
    """sum_i alpha_i x M_i for a mixture `[B, M]`, x `[B, X]` and matrices `[M * X, Y]`."""
    return (mixture[:, :, None] * x[:, None, :]).flatten(1) @ matrices


def into_ball(latent: Tensor) -> Tensor:
    """networks.into_ball."""
    norm = (latent.square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
    return latent * (BALL_RADIUS * latent.shape[1] ** 0.5 / norm).clamp(max=1)


def positive(raw: Tensor) -> Tensor:
    return functional.softplus(raw) + MIN_STD


def stack(steps: list[Normal]) -> Normal:
    """Gaussians `[B, Z]` of T - 1 steps to `[B, T-1, Z]`."""
    return Normal(torch.stack([step.mean for step in steps], dim=1), torch.stack([step.std for step in steps], dim=1))


def kl(q: Normal, p: Normal) -> Tensor:
    """KL(q || p), summed over the last axis."""
    ratio, distance = q.std / p.std, (q.mean - p.mean) / p.std
    return (0.5 * (ratio.square() + distance.square() - 1) - ratio.log()).sum(dim=-1)


def kl_from_unit(q: Normal) -> Tensor:
    """KL(q || N(0, I)), summed over the last axis."""
    return (0.5 * (q.std.square() + q.mean.square() - 1) - q.std.log()).sum(dim=-1)
