"""A change of the champion happens or does not, whatever happens in between."""

import re

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST
from tests.unit.promotion.conftest import NAME

from darkroom.errors import OvertakenError, TrackingError
from darkroom.promotion.aliases import change_champion, reconcile_aliases
from darkroom.promotion.history import Entry, History, Kind, effective


class Killed(BaseException):
    """The end of a process: nothing that the code does on errors is done."""


class Failing:
    """A client that lets ``steps`` calls through; the next one is ``problem``, before or after it is carried out."""

    def __init__(self, client, steps, problem, *, is_late=False):
        self.left = steps
        self._client, self._problem, self._is_late = client, problem, is_late

    def __getattr__(self, name):
        method = getattr(self._client, name)

        def call(*arguments, **options):
            self.left -= 1
            if self.left >= 0:
                return method(*arguments, **options)
            if self._is_late and self.left == -1:
                method(*arguments, **options)
            raise self._problem

        return call


class Around:
    """A client that does what another one does, but for what its kinds say."""

    def __init__(self, client):
        self._client = client

    def __getattr__(self, name):
        return getattr(self._client, name)


def away():
    return MlflowException("API request failed: Max retries exceeded with url")


def entry(version, before="", previous="", kind=Kind.PROMOTED):
    return Entry(
        kind=kind, version=version, weights_sha256=f"weights of {version}", run_id="0" * 32, who="somebody",
        before=before, champion=version if kind is not Kind.REFUSED else before, previous=previous,
    )  # fmt: skip


def promote(client, version):
    entries, state = reconcile_aliases(client, NAME)
    return change_champion(client, NAME, entry(version, state.champion, state.champion), entries)


def other(version):
    """Of the versions 1 and 2 the other one."""
    return "2" if version == "1" else "1"


# --- changes -----------------------------------------------------------------------------------------------


def test_a_change_moves_both_aliases(client, add, aliases):
    add(2)
    promote(client, "1")
    assert aliases() == {"champion": "1"}
    promote(client, "2")
    assert aliases() == {"champion": "2", "previous": "1"}


def test_a_refusal_is_recorded_and_moves_nothing(client, add, aliases):
    add(2)
    promote(client, "1")
    entries, state = reconcile_aliases(client, NAME)
    change_champion(client, NAME, entry("2", state.champion, state.previous, Kind.REFUSED), entries)

    assert aliases() == {"champion": "1"}
    assert [each.kind for each in History(client, NAME).read()] == ["promoted", "refused"]


def test_a_change_that_was_decided_on_an_earlier_champion_is_refused(client, add, aliases):
    add(3)
    promote(client, "1")
    entries, state = reconcile_aliases(client, NAME)
    promote(client, "2")

    with pytest.raises(OvertakenError, match=r"version 2 became champion .* while the gate ran \(history, entry 2\)"):
        change_champion(client, NAME, entry("3", state.champion, state.champion), entries)
    assert aliases() == {"champion": "2", "previous": "1"}


def test_the_first_change_follows_aliases_that_were_there_before_the_history(client, add, aliases):
    add(2)
    client.set_registered_model_alias(NAME, "champion", "1")

    assert reconcile_aliases(client, NAME)[1].champion == "1"
    promote(client, "2")
    assert aliases() == {"champion": "2", "previous": "1"}


# --- what is found undone ------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_late", [False, True], ids=["before", "after"])
def test_a_process_killed_at_any_step_leaves_what_the_next_command_finishes(client, add, aliases, is_late):
    """Every call to the store in turn is the last one that the process begins, or finishes."""
    add(2)
    promote(client, "1")
    outcomes = []
    for steps in range(30):
        _, state = reconcile_aliases(client, NAME)
        version = other(state.champion)
        dying = Failing(client, steps, Killed(), is_late=is_late)
        try:
            entries, _ = reconcile_aliases(dying, NAME)
            change_champion(dying, NAME, entry(version, state.champion, state.champion), entries)
        except Killed:
            assert aliases()["champion"] in {state.champion, version}
        else:
            break
        is_recorded = effective(History(client, NAME).read())[-1].version == version
        settled = reconcile_aliases(client, NAME)[1]
        assert settled.champion == (version if is_recorded else state.champion)
        assert aliases()["champion"] == settled.champion
        assert aliases().get("previous", "") == settled.previous
        outcomes.append(is_recorded)
    else:
        pytest.fail("there are more steps than were tried")
    # Up to one call nothing is changed, from that one on everything is.
    assert outcomes == sorted(outcomes)
    assert {*outcomes} == {False, True}


@pytest.mark.parametrize("is_late", [False, True], ids=["before", "after"])
def test_a_store_that_is_gone_at_any_step_is_told_in_one_line_and_leaves_the_same(client, add, aliases, is_late):
    add(2)
    promote(client, "1")
    said, lines = set(), set()
    for steps in range(30):
        entries, state = reconcile_aliases(client, NAME)
        version = other(state.champion)
        failing = Failing(client, steps, away(), is_late=is_late)
        try:
            change_champion(failing, NAME, entry(version, state.champion, state.champion), entries)
        except TrackingError as problem:
            said.add(re.sub(r"entry \d+", "entry", str(problem)).partition(f" of {NAME}")[0])
            lines.add(str(problem).count("\n"))
        else:
            break
        settled = reconcile_aliases(client, NAME)[1].champion
        assert settled in {state.champion, version}
        assert aliases()["champion"] == settled
    else:
        pytest.fail("there are more steps than were tried")
    stopped = "MLflow's store stopped answering (no connection)"
    assert lines == {0}
    assert said == {f"{stopped} while the history", f"{stopped} after entry of the history"}


def test_an_entry_whose_answer_was_lost_is_found_and_not_written_twice(client, add, aliases):
    add(2)
    promote(client, "1")

    promote(AnswerLost(client), "2")

    assert [each.version for each in History(client, NAME).read()] == ["1", "2"]
    assert aliases() == {"champion": "2", "previous": "1"}


class AnswerLost(Around):
    """A client that is not told that its entry was taken."""

    def create_model_version(self, *arguments, **options):
        self._client.create_model_version(*arguments, **options)
        raise away()


def test_an_alias_that_was_moved_by_hand_is_moved_back_and_told_of(client, add, aliases, capsys):
    add(3)
    promote(client, "1")
    promote(client, "2")
    client.set_registered_model_alias(NAME, "champion", "3")

    reconcile_aliases(client, NAME)

    assert aliases()["champion"] == "2"
    said = capsys.readouterr().err
    assert "alias champion named version 3, but entry 2 of the history says version 2, which it names now" in said


def test_aliases_in_their_places_are_left_alone(client, add, capsys):
    add(2)
    promote(client, "1")
    reading = Failing(client, 2, AssertionError("it wrote, or asked more than needed"))

    reconcile_aliases(reading, NAME)

    assert capsys.readouterr().err == ""


def test_a_champion_that_was_deleted_is_told_of(client, add, capsys):
    add(2)
    promote(client, "1")
    client.delete_model_version(NAME, "1")

    reconcile_aliases(client, NAME)

    assert "a-model version 1, champion by the history, was deleted from the registry" in capsys.readouterr().err


def test_a_history_of_another_registry_is_refused(client, add):
    add(2)
    promote(client, "1")
    client.set_model_version_tag(NAME, "1", "darkroom.weights_sha256", "others")
    client.delete_registered_model_alias(NAME, "champion")

    with pytest.raises(TrackingError, match=r"version 1 is not the model in its history .* mixed up"):
        reconcile_aliases(client, NAME)


def test_a_history_that_grows_while_aliases_are_moved_is_followed_to_its_end(client, add, aliases):
    """One that was slow would else leave the alias at a champion that is none any more."""
    add(3)
    promote(client, "1")
    slow = SlowToMove(client, lambda: promote(client, "3"))
    promote(slow, "2")

    assert [each.version for each in effective(History(client, NAME).read())] == ["1", "2", "3"]
    assert aliases() == {"champion": "3", "previous": "2"}


def test_two_who_make_the_same_alias_at_once_both_come_through(client, add, aliases):
    """MLflow looks whether the alias is there and then writes it: the later one of two is answered by the database."""
    add(2)
    met = Meeting(client, times=1)
    promote(met, "1")

    assert met.times == 0
    assert aliases() == {"champion": "1"}


def test_a_store_that_never_takes_the_alias_is_told_of_and_not_asked_for_ever(client, add):
    add(1)

    with pytest.raises(MlflowException, match="already exists"):
        promote(Meeting(client, times=1000), "1")


class Meeting(Around):
    """A client that meets another one each time that it moves an alias, so many times."""

    def __init__(self, client, times):
        super().__init__(client)
        self.times = times

    def set_registered_model_alias(self, *arguments):
        if not self.times:
            self._client.set_registered_model_alias(*arguments)
            return
        self.times -= 1
        raise MlflowException("duplicate key: the alias already exists", BAD_REQUEST)


class SlowToMove(Around):
    """A client whose first move of an alias is carried out only when ``others`` have done theirs."""

    def __init__(self, client, others):
        super().__init__(client)
        self._others = others

    def set_registered_model_alias(self, *arguments):
        others, self._others = self._others, lambda: None
        others()
        self._client.set_registered_model_alias(*arguments)
