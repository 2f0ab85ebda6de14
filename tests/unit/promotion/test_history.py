"""The log that decides who is champion: what counts, what a reader sees, and how a change shows."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from darkroom.errors import TrackingError
from darkroom.promotion.history import Entry, History, Kind, damage, effective, state_of, with_digest

NAME = "a-model"


def entry(kind=Kind.PROMOTED, version="1", **more):
    known = {"weights_sha256": f"weights of {version}", "run_id": "0" * 32, "who": "somebody", "champion": version}
    return Entry(kind=kind, version=version, **known | more)


def written(*entries):
    """Entries as a registry would number them, each with its digest."""
    log = []
    for number, each in enumerate(entries, start=1):
        log.append(replace(with_digest(each, log), number=number))
    return log


# --- what counts -------------------------------------------------------------------------------------------


def test_without_entries_there_is_no_champion():
    assert state_of([]).champion == ""


def test_each_change_that_follows_the_one_before_counts():
    log = written(entry(), entry(version="2", before="1", previous="1", after=1), entry(version="3", after=2))

    assert [each.number for each in effective(log)] == [1, 2, 3]
    assert state_of(log).champion == "3"


def test_of_two_changes_decided_on_the_same_champion_the_first_counts():
    log = written(entry(), entry(version="2", after=1), entry(version="3", after=1))

    assert [each.number for each in effective(log)] == [1, 2]
    assert state_of(log).champion == "2"


def test_a_change_decided_on_one_that_did_not_count_does_not_count():
    log = written(entry(), entry(version="2", after=1), entry(version="3", after=1), entry(version="4", after=3))

    assert state_of(log).champion == "2"


def test_a_refusal_changes_nothing_and_is_followed_by_nothing():
    log = written(entry(), entry(Kind.REFUSED, version="2", champion="1", after=1), entry(version="3", after=1))

    assert [each.number for each in effective(log)] == [1, 3]


def test_a_change_that_follows_a_deleted_one_counts():
    first, _, third = written(entry(), entry(version="2", after=1), entry(version="3", after=2))

    assert state_of([first, third]).champion == "3"
    assert damage([first, third])[-1] == "entry 2 was deleted"


@given(st.lists(st.integers(0, 6), max_size=30))
def test_writers_that_lag_behind_each_other_leave_one_line_of_champions(lags):
    """Each writer decides on the log as it was ``lag`` entries ago, as if it had been slow since."""
    log = []
    for number, lag in enumerate(lags, start=1):
        seen = log[: max(0, len(log) - lag)]
        latest = state_of(seen)
        made = entry(version=str(number), before=latest.champion, previous=latest.champion, after=latest.number)
        log.append(replace(with_digest(made, seen), number=number))

    changes = effective(log)
    for before, after in zip([None, *changes], changes, strict=False):
        assert after.before == (before.champion if before else "")
        assert after.after == (before.number if before else 0)
    assert not damage(log)
    # Readers that saw less of it agree with those that saw more about what counted until then.
    for length in range(len(log)):
        assert effective(log[:length]) == changes[: len(effective(log[:length]))]


# --- what shows that it was changed ------------------------------------------------------------------------


@pytest.mark.parametrize("change", [{"version": "9"}, {"reason": "none"}, {"who": "else"}, {"evidence_sha256": "0"}])
def test_a_changed_entry_shows_itself(change):
    first, second = written(entry(reason="better"), entry(version="2", after=1))

    assert damage([replace(first, **change), second]) == [
        "entry 1 was changed after it was written: its digest differs"
    ]


def test_an_entry_that_was_changed_with_its_digest_shows_in_the_next_one():
    first, second = written(entry(), entry(version="2", after=1))
    forged = with_digest(replace(first, reason="a better story"), [])

    assert damage([forged, second]) == ["entry 2 was changed after it was written: its digest differs"]


def test_a_log_that_nobody_touched_shows_no_damage():
    assert damage(written(entry(), entry(Kind.REFUSED, after=1), entry(version="2", after=1))) == []


# --- in the registry ---------------------------------------------------------------------------------------


def test_an_entry_is_read_as_it_was_written(client, add):
    history = History(client, NAME)
    given = entry(run_id=add(), reason="better", previous="", evidence="models:/a/1/gate/x.json")

    returned = history.append(given, [])

    assert history.read() == [returned]
    assert replace(returned, number=0, digest="") == given


def test_an_entry_that_is_appended_follows_the_latest_change(client, add):
    history, run = History(client, NAME), add(3)
    for version, kind in (("1", Kind.PROMOTED), ("2", Kind.REFUSED), ("3", Kind.PROMOTED)):
        history.append(entry(kind, version, run_id=run), history.read())

    assert [each.after for each in history.read()] == [0, 1, 1]
    assert state_of(history.read()).champion == "3"


def test_the_page_of_mlflow_shows_each_entry_as_a_sentence(client, add):
    History(client, NAME).append(entry(version="2", before="1", run_id=add(2), reason="fewer mistakes"), [])

    about = client.get_registered_model(f"{NAME}-history").description
    (shown,) = client.search_model_versions(f"name = '{NAME}-history'")
    assert "every promotion, refusal and rollback" in about
    assert shown.description == "version 2 became champion instead of version 1, by somebody: fewer mistakes"
    assert shown.tags.keys() == {"kind", "version", "before", "who", "reason", "details"}
    assert shown.tags["who"] == "somebody"


def test_the_page_shows_the_latest_entries_in_a_list_that_its_field_can_hold(client, add):
    history, run = History(client, NAME), add()
    history.append(entry(run_id=run), [])
    log = written(*(entry(reason="many words " * 2000, run_id=run) for _ in range(300)))

    history.describe(log)

    about = client.get_registered_model(f"{NAME}-history").description
    assert "UTC: entry 300, version 1 became champion, by somebody: many words" in about
    assert len(about) <= 5000


def test_a_reason_of_any_length_is_kept_whole(client, add):
    history, long = History(client, NAME), "many words " * 2000
    history.append(entry(run_id=add(), reason=long), [])

    (shown,) = client.search_model_versions(f"name = '{NAME}-history'")
    assert history.read()[0].reason == long
    assert len(shown.description) <= 5000


def test_a_version_that_somebody_registered_in_the_history_is_refused(client, add, tmp_path):
    run = add()
    client.create_registered_model(f"{NAME}-history")
    client.create_model_version(f"{NAME}-history", str(tmp_path), run)

    with pytest.raises(TrackingError, match=r"^a-model-history version 1: not an entry of the history .* delete it"):
        History(client, NAME).read()


@pytest.mark.parametrize(
    ("kind", "before", "said"),
    [
        (Kind.PROMOTED, "", "version 2 became champion, by somebody"),
        (Kind.PROMOTED, "1", "version 2 became champion instead of version 1, by somebody"),
        (Kind.FORCED, "1", "version 2 was made champion instead of version 1 against the gate's verdict, by somebody"),
        (Kind.REFUSED, "1", "version 2 was refused, version 1 stays champion, by somebody"),
        (Kind.REFUSED, "", "version 2 was refused, by somebody"),
        (Kind.ROLLED_BACK, "3", "back to version 2 from version 3, by somebody"),
    ],
)
def test_an_entry_says_what_happened(kind, before, said):
    assert entry(kind, "2", before=before).sentence() == said
