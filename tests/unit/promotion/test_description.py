"""What Darkroom writes in descriptions is replaced by what is newer; what a user writes stays."""

import pytest

from darkroom.promotion.description import updated

VERDICT = "The gate: **passed**, against no champion\n\n- accuracy: 0.9 (at least 0.8), passed"
NEWER = VERDICT.replace("passed**", "refused**")


def _result(name: str, accuracy: str) -> str:
    return f"Test accuracy **{accuracy}**, on 360 images of digits.\n\n{name}; best epoch 1."


@pytest.mark.parametrize("name", ["mlp on digits", "Try The gate: passed", "The gate: passed", "The gate: a\nb"])
def test_a_description_holds_one_result_and_one_verdict_whatever_the_name_of_the_run(name: str) -> None:
    text = updated(None, result=_result(name, "0.8"))
    assert text == _result(name, "0.8")

    text = updated(text, result=_result(name, "0.85"))
    assert text == _result(name, "0.85")

    text = updated(text, verdict=VERDICT)
    for _ in range(2):
        text = updated(text, result=_result(name, "0.9"))
        assert text == f"{_result(name, '0.9')}\n\n{VERDICT}"

    assert updated(text, verdict=NEWER) == f"{_result(name, '0.9')}\n\n{NEWER}"


def test_a_verdict_may_come_first() -> None:
    text = updated("", verdict=VERDICT)
    assert text == VERDICT
    assert updated(text, result=_result("mlp", "0.9")) == f"{_result('mlp', '0.9')}\n\n{VERDICT}"


def test_what_a_user_wrote_stays() -> None:
    assert updated("the version of Friday", result=_result("mlp", "0.9"), verdict=VERDICT) == "the version of Friday"
