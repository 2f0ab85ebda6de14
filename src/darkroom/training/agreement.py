"""Whether all processes of a training are about to train the same."""

from collections.abc import Mapping
from typing import Any

from darkroom.errors import TrainingError, quoted
from darkroom.training.ranks import Ranks


def check_agreement(ranks: Ranks, facts: Mapping[str, Any]) -> None:
    """Compare ``facts``, each with its name, with those of the other processes.

    Raises TrainingError in every process if one of them differs, with its name.
    """
    first, *others = ranks.gather(dict(facts))
    for rank, other in enumerate(others, 1):
        for name in dict.fromkeys([*first, *other]):
            if first.get(name) != other.get(name):
                raise TrainingError(
                    f"the processes of this training disagree on {name}: process 0 has {quoted(first.get(name))}, "
                    f"process {rank} has {quoted(other.get(name))}; give all of them the same files and packages"
                )
