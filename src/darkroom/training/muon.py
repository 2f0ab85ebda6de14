"""Muon for matrices, AdamW for everything else, as one optimizer."""

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn, optim

# The coefficients of the quintic iteration, and what keeps a matrix of zeros from being divided by zero: torch's own.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
EPSILON = 1e-7


class MuonAdamW(optim.Optimizer):
    """torch's Muon (Jordan et al., "Muon: an optimizer for hidden layers", 2024) and AdamW side by side.

    Muon takes the weights of dense layers and convolutions, the latter as one row for each filter. AdamW takes
    the rest, and of the matrices the last one: the head, as Muon's authors advise. Muon's steps are scaled to
    the size of AdamW's (Liu et al., "Muon is scalable for LLM training", 2025), so that one learning rate and
    one weight decay serve both.

    ``groups`` are parameter groups, each with its own ``lr``; ``iterations`` are Muon's, of Newton and Schulz.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        momentum: float,
        weight_decay: float,
        iterations: int,
        *,
        capturable: bool = False,
    ) -> None:
        parameters = [parameter for group in groups for parameter in group["params"]]
        super().__init__(parameters, {"lr": lr})
        matrices = [parameter for parameter in parameters if parameter.ndim in (2, 4)]
        hidden = set(matrices[:-1])
        # Views of the parameters' own memory: what Muon does to them happens to the parameters.
        self._views = {parameter: nn.Parameter(_as_matrix(parameter)) for parameter in matrices[:-1]}
        with_muon = [
            _part(group, [self._views[each] for each in group["params"] if each in hidden]) for group in groups
        ]
        with_adamw = [_part(group, [each for each in group["params"] if each not in hidden]) for group in groups]
        self.parts: list[optim.Optimizer] = []
        if hidden:
            self.parts.append(
                Muon(
                    [group for group in with_muon if group["params"]],
                    lr,
                    weight_decay,
                    momentum,
                    nesterov=momentum > 0,
                    ns_steps=iterations,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        if any(group["params"] for group in with_adamw):
            rest = [group for group in with_adamw if group["params"]]
            self.parts.append(optim.AdamW(rest, lr, weight_decay=weight_decay, fused=True, capturable=capturable))
        self._share_groups()

    def _share_groups(self) -> None:
        """A schedule sets the rates in our groups: they are the parts' own."""
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of both."""
        assert closure is None, "neither part evaluates the loss again"
        self.follow_parameters()
        for part in self.parts:
            part.step()

    def follow_parameters(self) -> None:
        """Precedes the steps of the parts: parameters may have moved in memory, and have new gradients."""
        for parameter, view in self._views.items():
            view.data = _as_matrix(parameter)
            view.grad = None if parameter.grad is None else _as_matrix(parameter.grad, like=parameter)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)
        for parameter in self._views:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()


class Muon(optim.Muon):
    """torch's, which on other devices than the CPU multiplies matrices of one shape together: fewer, larger kernels."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        step_together([self])

    def step_alone(self) -> None:
        """torch's own step, a matrix at a time."""
        super().step()  # type: ignore[no-untyped-call]

    def averages(self, matrices: Sequence[Tensor]) -> list[Tensor]:
        """The moving average of the gradients of each."""
        for matrix in matrices:
            if "momentum_buffer" not in self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix, memory_format=torch.preserve_format)
        return [self.state[matrix]["momentum_buffer"] for matrix in matrices]


def step_together(optimizers: Sequence[Muon]) -> None:
    """A step of each of ``optimizers``, whose matrices are on one device."""
    devices = {matrix.device.type for each in optimizers for group in each.param_groups for matrix in group["params"]}
    if devices == {"cpu"}:
        for optimizer in optimizers:
            optimizer.step_alone()
    elif devices:
        take_together(optimizers)


def take_together(optimizers: Sequence[Muon]) -> None:
    """``step_together`` with all matrices of a shape multiplied at once.

    Rates may be numbers, which is a kernel less for each group, or tensors: nothing is read from the device.
    """
    learning = [
        (optimizer, group, [matrix for matrix in group["params"] if matrix.grad is not None])
        for optimizer in optimizers
        for group in optimizer.param_groups
    ]
    groups = [group for _, group, of_group in learning for _ in of_group]
    matrices: list[Tensor] = [matrix for _, _, of_group in learning for matrix in of_group]
    if not matrices:
        return
    averages = [average for optimizer, _, of_group in learning for average in optimizer.averages(of_group)]
    gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
    torch._foreach_lerp_(averages, gradients, [1 - group["momentum"] for group in groups])
    # Nesterov's, which without momentum is the gradient itself.
    updates = torch._foreach_lerp(gradients, averages, [group["momentum"] for group in groups])
    decays = [[1 - group["lr"] * group["weight_decay"]] * len(of_group) for _, group, of_group in learning]
    _multiply(matrices, [factor for of_group in decays for factor in of_group])
    kinds = [(matrix.shape, group["ns_steps"]) for matrix, group in zip(matrices, groups, strict=True)]
    for kind in dict.fromkeys(kinds):
        shape, iterations = kind
        members = [number for number, each in enumerate(kinds) if each == kind]
        stack = orthogonalize(torch.stack([updates[number] for number in members]), iterations)
        changes = list(stack.to(matrices[members[0]].dtype))
        # The size of AdamW's steps.
        rates = {id(group): -0.2 * max(shape) ** 0.5 * group["lr"] for group in groups}
        _multiply(changes, [rates[id(groups[number])] for number in members])
        torch._foreach_add_([matrices[number] for number in members], changes)


def _multiply(tensors: Sequence[Tensor], factors: Sequence[Any]) -> None:
    """Multiply each of ``tensors`` by its factor, in place: numbers in one call, tensors in one call per factor."""
    if not any(isinstance(factor, Tensor) for factor in factors):
        torch._foreach_mul_(list(tensors), list(factors))
        return
    for _, members in groupby(zip(tensors, factors, strict=True), key=lambda pair: id(pair[1])):
        scaled, (factor, *_) = zip(*members, strict=True)
        torch._foreach_mul_(list(scaled), factor)


def orthogonalize(matrices: Tensor, iterations: int) -> Tensor:
    """``matrices`` [K, m, n] with singular values near 1, in bfloat16: what torch's Muon does with one of them."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    stack = matrices.to(torch.bfloat16)
    if tall:
        stack = stack.transpose(1, 2)
    stack = stack / stack.norm(dim=(1, 2), keepdim=True).clamp(min=EPSILON)
    for _ in range(iterations):
        gram = torch.bmm(stack, stack.transpose(1, 2))
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        stack = torch.baddbmm(stack, polynomial, stack, beta=a)
    return stack.transpose(1, 2) if tall else stack


def _part(group: dict[str, Any], parameters: list[nn.Parameter]) -> dict[str, Any]:
    return {**group, "params": parameters}


def _as_matrix(values: Tensor, like: Tensor | None = None) -> Tensor:
    """One row for each output, in the order in which the parameter ``like`` lies in memory."""
    like = values if like is None else like
    values = values.detach()
    if values.ndim == 4 and not like.is_contiguous():
        # Channels last. In which order the columns stand makes no difference to Muon.
        values = values.permute(0, 2, 3, 1)
    return values.flatten(1)
