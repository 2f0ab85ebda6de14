"""Muon for matrices, AdamW for everything else, as one optimizer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn, optim


class MuonAdamW(optim.Optimizer):
    """torch's Muon (Jordan et al., "Muon: an optimizer for hidden layers", 2024) and AdamW side by side.

    Muon takes the weights of dense layers and convolutions, the latter as one row for each filter. AdamW takes
    the rest, and of the matrices the last one: the head, as Muon's authors advise. Muon's steps are scaled to
    the size of AdamW's (Liu et al., "Muon is scalable for LLM training", 2025), so that one learning rate and
    one weight decay serve both.

    ``groups`` are parameter groups, each with its own ``lr``.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, momentum: float, weight_decay: float) -> None:
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
                optim.Muon(
                    [group for group in with_muon if group["params"]],
                    lr,
                    weight_decay,
                    momentum,
                    nesterov=momentum > 0,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        if any(group["params"] for group in with_adamw):
            rest = [group for group in with_adamw if group["params"]]
            self._parts.append(optim.AdamW(rest, lr, weight_decay=weight_decay, fused=True))
        self._share_groups()

    def _share_groups(self) -> None:
        """A schedule sets the rates in our groups: they are the parts' own."""
        groups = [group for part in self._parts for group in part.param_groups]
        self.param_groups = sorted(groups, key=lambda group: float(group["lr"]))

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
