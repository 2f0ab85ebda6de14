"""Whatever people do in whatever order: the doctor finds what does not agree, and its advice makes it agree."""

import pytest
from tests.conftest import QUICK
from tests.pipeline.walk import Walk

STEPS = 4


def walk_through(walk: Walk, steps: int) -> None:
    try:
        walk.repro()
        walk.check()
        for number in range(steps):
            walk.step(number)
            walk.check()
    except Exception as problem:
        problem.add_note("\n".join(walk.said))
        raise


def test_after_every_step_all_agree_or_the_advice_makes_them(make_clone, tmp_path):
    walk_through(Walk(make_clone(tmp_path, **QUICK), seed=0), STEPS)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 6))
def test_the_same_holds_for_longer_walks(make_clone, tmp_path, seed):
    walk_through(Walk(make_clone(tmp_path, **QUICK), seed), steps=50)
