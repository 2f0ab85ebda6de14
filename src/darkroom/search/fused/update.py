"""One update for the optimizers of K models."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn, optim

from darkroom.training.loop import TrainingLoop
from darkroom.training.muon import Muon, MuonAdamW, step_together

# Keeps a gradient of zeros from being divided by zero: that of torch.nn.utils.clip_grad_norm_.
EPSILON = 1e-6


class FusedUpdate:
    """Changes the weights of ``loops`` as the optimizer of each would. The state is used, and stays, in the optimizers.

    A step of torch's optimizers looks up, sorts and checks all tensors, which for a small model takes half as long as
    the arithmetic. Here they are looked up once; then each model is one kernel with its own rate and weight decay, and
    the counters of all are one tensor. (Passes over the stacked weights [K, ...], with a value for each model, take
    four times as long on a CPU: each pass reads all of them again.) On a GPU Muon multiplies the matrices of all
    models together.
    """

    def __init__(self, loops: Sequence[TrainingLoop]) -> None:
        optimizers = [loop.optimizer for loop in loops]
        parts = [part for each in optimizers for part in (each.parts if isinstance(each, MuonAdamW) else [each])]
        self._combined = [each for each in optimizers if isinstance(each, MuonAdamW)]
        self._muons = [part for part in parts if isinstance(part, Muon)]
        self._others = [part for part in parts if not isinstance(part, Muon)]
        self._clipping = Clipping(
            {loop.model: loop.settings.clip_norm for loop in loops if loop.settings.clip_norm is not None}
        )
        self._learning: list[int] = []
        self._kernels: list[_Kernel] = []
        self._counters: Tensor | None = None

    @torch.no_grad()
    def __call__(self) -> None:
        """Change the weights by the gradients that they have. Nothing is read from the device."""
        self._clipping()
        for combined in self._combined:
            combined.follow_parameters()
        step_together(self._muons)
        groups = [group for optimizer in self._others for group in optimizer.param_groups]
        learning = [id(each) for group in groups for each in _with_gradients(group)]
        if learning != self._learning:
            # Their own steps make the state of what has not learned before.
            for optimizer in self._others:
                optimizer.step()
            self._look_up()
            self._learning = learning
            return
        if self._counters is not None:
            self._counters.add_(1)
        for kernel in self._kernels:
            kernel()

    def _look_up(self) -> None:
        states = [
            (optimizer, group, [optimizer.state[each] for each in _with_gradients(group)])
            for optimizer in self._others
            for group in optimizer.param_groups
        ]
        counted = [state for _, _, of_group in states for state in of_group if "step" in state]
        self._counters = torch.stack([state["step"] for state in counted]) if counted else None
        if self._counters is not None:
            for state, counter in zip(counted, self._counters, strict=True):
                state["step"] = counter
        self._kernels = [_Kernel(*each) for each in states if each[2]]


class _Kernel:
    """The arithmetic of Adam, AdamW or SGD for the parameters of one group that have gradients."""

    def __init__(self, optimizer: optim.Optimizer, group: dict[str, Any], states: Sequence[dict[str, Tensor]]) -> None:
        self._group = group  # whose rate a schedule sets
        self._parameters: list[Tensor] = [*_with_gradients(group)]
        self._states = {name: [state[name] for state in states] for name in states[0] if states[0][name] is not None}
        self._is_sgd = isinstance(optimizer, optim.SGD)
        self._adam = torch._fused_adamw_ if isinstance(optimizer, optim.AdamW) else torch._fused_adam_

    def __call__(self) -> None:
        group, states = self._group, self._states
        gradients = [each.grad for each in self._parameters if each.grad is not None]
        if self._is_sgd:
            torch._fused_sgd_(
                self._parameters, gradients, states.get("momentum_buffer", []),
                lr=group["lr"], weight_decay=group["weight_decay"], momentum=group["momentum"],
                nesterov=group["nesterov"], dampening=0.0, maximize=False, is_first_step=False,
            )  # fmt: skip
            return
        beta1, beta2 = group["betas"]
        self._adam(
            self._parameters, gradients, states["exp_avg"], states["exp_avg_sq"], [], states["step"],
            lr=group["lr"], weight_decay=group["weight_decay"], beta1=beta1, beta2=beta2, eps=group["eps"],
            amsgrad=False, maximize=False,
        )  # fmt: skip


class Clipping:
    """Scales the gradients of each of ``limits``' models to the norm given for it, where theirs is larger."""

    def __init__(self, limits: dict[nn.Module, float]) -> None:
        self._models = [list(model.parameters()) for model in limits]
        if limits:
            first = self._models[0][0]
            self._limits = first.new_tensor(list(limits.values()))
            self._nothing = first.new_zeros(())

    def __call__(self) -> None:
        if not self._models:
            return
        found = [[each.grad for each in parameters if each.grad is not None] for parameters in self._models]
        norms = iter(torch._foreach_norm([gradient for gradients in found for gradient in gradients]))
        rows = [next(norms) if each.grad is not None else self._nothing for model in self._models for each in model]
        totals = torch.stack(rows).view(len(self._models), -1).norm(dim=1)
        shares = (self._limits / (totals + EPSILON)).clamp(max=1)
        for gradients, share in zip(found, shares, strict=True):
            torch._foreach_mul_(gradients, share)


def _with_gradients(group: dict[str, Any]) -> list[nn.Parameter]:
    return [each for each in group["params"] if each.grad is not None]
