"""Muon for matrices, AdamW for everything else, as one optimizer."""

from collections.abc import Callable
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
        self._parts: list[optim.Optimizer] = []
        if hidden:
            self._parts.append(
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
            self._parts.append(optim.AdamW(rest, lr, weight_decay=weight_decay, fused=True, capturable=capturable))
        groups = [group for part in self._parts for group in part.param_groups]
        # The last group is to learn at the whole rate.
        self._order = sorted(range(len(groups)), key=lambda number: float(groups[number]["lr"]))
        self._share_groups()

    def _share_groups(self) -> None:
        """A schedule sets the rates in our groups: they are the parts' own."""
        groups = [group for part in self._parts for group in part.param_groups]
        self.param_groups = [groups[number] for number in self._order]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of both."""
        assert closure is None, "neither part evaluates the loss again"
        for parameter, view in self._views.items():
            view.data = _as_matrix(parameter)  # which may have moved in memory
            view.grad = None if parameter.grad is None else _as_matrix(parameter.grad, like=parameter)
        for part in self._parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self._parts:
            part.zero_grad(set_to_none)
        for parameter in self._views:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()


class Muon(optim.Muon):
    """torch's, which on other devices than the CPU multiplies matrices of one shape together: fewer, larger kernels."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            matrices: list[Tensor] = [matrix for matrix in group["params"] if matrix.grad is not None]
            if matrices and matrices[0].device.type == "cpu":
                super().step()  # type: ignore[no-untyped-call]
                return
            if matrices:
                self.take_together(matrices, group)

    def take_together(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        """A step with the settings of ``group``, whose rate may be a tensor: nothing is read from the device."""
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        momentum, lr = group["momentum"], group["lr"]
        averages = [self._average(matrix) for matrix in matrices]
        torch._foreach_lerp_(averages, gradients, 1 - momentum)
        updates = torch._foreach_lerp(gradients, averages, momentum) if group["nesterov"] else averages
        torch._foreach_mul_(matrices, 1 - lr * group["weight_decay"])
        for shape in dict.fromkeys(matrix.shape for matrix in matrices):
            members = [number for number, matrix in enumerate(matrices) if matrix.shape == shape]
            stack = orthogonalize(torch.stack([updates[number] for number in members]), group["ns_steps"])
            # The size of AdamW's steps.
            change = stack.to(matrices[members[0]].dtype) * (-0.2 * max(shape) ** 0.5 * lr)
            torch._foreach_add_([matrices[number] for number in members], list(change))

    def _average(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(matrix, memory_format=torch.preserve_format)
        average: Tensor = state["momentum_buffer"]
        return average


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
