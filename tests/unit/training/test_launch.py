"""Processes of one training are started together and end together."""

from pathlib import Path

import psutil
import pytest
from tests.forkserver import context
from tests.unit.training import members
from tests.wait import wait_until

from darkroom.errors import ConfigError, LostProcessError
from darkroom.training.launch import launch


@pytest.fixture(autouse=True)
def quick_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes begin with torch imported, and those that are told to end do not have long."""
    context()
    monkeypatch.setattr("darkroom.training.launch.START_METHOD", "forkserver")


def test_they_exchange_what_they_have(tmp_path: Path) -> None:
    launch(3, members.add_up, tmp_path)
    said = [(tmp_path / str(rank)).read_text() for rank in range(3)]
    assert said == ["3 [[6.0, 6.0, 6.0], [6.0, 6.0, 6.0]] 30.0 1"] * 3


def test_nothing_stays_in_the_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    launch(2, members.add_up, tmp_path)
    assert not [*temporary.iterdir()]


@pytest.mark.parametrize(("rank", "told"), [(0, "seen by 0"), (1, "seen by 1"), (None, "seen by 0")])
def test_a_mistake_is_told_once_by_who_made_it(rank: int | None, told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        launch(2, members.raise_in, rank)
    assert raised.value.lines == [told]
    assert "raise ConfigError" in "".join(raised.value.__notes__)


def test_a_problem_that_cannot_be_sent_is_told_with_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="LocalError: of this process"):
        launch(2, members.raise_what_cannot_be_sent)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_if_one_is_killed_the_others_end_in_order(tmp_path: Path, rank: int) -> None:
    with pytest.raises(LostProcessError) as raised:
        launch(3, members.be_killed, tmp_path, rank)
    (line,) = raised.value.lines
    assert line.startswith(f"process {rank} of the 3 that train together has ended by SIGKILL")
    assert "run the same command again" in line
    ended = {path.stem for path in tmp_path.glob("*.ended")}
    assert ended == {"0", "1", "2"} - {str(rank)}
    assert not any(psutil.pid_exists(int(path.read_text())) for path in tmp_path.glob("*.pid"))


def test_one_that_does_not_end_when_told_is_ended(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the first to end"):
        launch(2, members.ignore_the_end, tmp_path, 0)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


def test_if_the_one_that_has_started_them_is_killed_they_end(tmp_path: Path) -> None:
    starting = context().Process(target=members.start, args=(tmp_path,))
    starting.start()
    wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 2, "both were to begin")
    numbers = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
    starting.kill()
    starting.join()
    wait_until(lambda: not any(map(psutil.pid_exists, numbers)), "both were to end")
