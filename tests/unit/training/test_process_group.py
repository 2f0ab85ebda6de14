"""How a process learns that it is one of several, from torchrun's variables and from SLURM's."""

import pytest
import torch

from darkroom.config.settings import Train
from darkroom.errors import ConfigError
from darkroom.training.device import check_sharing, count_devices
from darkroom.training.process_group import joined, member
from darkroom.training.ranks import ALONE

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda"), torch.device("mps")
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
# As srun sets them in a step of two tasks on each of two machines.
SLURM = {
    "SLURM_JOB_ID": "41", "SLURM_STEP_ID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4", "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "gpu[07-08]",
}  # fmt: skip


def test_torchrun_says_all() -> None:
    assert member(TORCHRUN | {"HOME": "/root"}) == TORCHRUN


def test_slurm_says_the_same_in_its_own_words() -> None:
    assert member(SLURM) == TORCHRUN | {"MASTER_ADDR": "gpu07", "MASTER_PORT": "15043"}


def test_all_processes_of_a_step_have_the_same_port_and_address_and_those_of_another_have_not() -> None:
    first, second, other = (member(SLURM | change) for change in ({}, {"SLURM_PROCID": "0"}, {"SLURM_STEP_ID": "3"}))
    assert first
    assert second
    assert other
    assert first["MASTER_PORT"] == second["MASTER_PORT"] != other["MASTER_PORT"]
    assert first["MASTER_ADDR"] == second["MASTER_ADDR"]


def test_what_the_user_sets_goes_before_what_slurm_would_give() -> None:
    found = member(SLURM | {"MASTER_ADDR": "10.0.0.9", "MASTER_PORT": "7"})
    assert found
    assert (found["MASTER_ADDR"], found["MASTER_PORT"]) == ("10.0.0.9", "7")


def test_torchrun_inside_a_step_of_slurm_decides() -> None:
    assert member(SLURM | TORCHRUN) == TORCHRUN


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu1", "gpu1"),
        ("gpu1,gpu2", "gpu1"),
        ("gpu[03-05,9],big1", "gpu03"),
        ("gpu[7,9]", "gpu7"),
        ("a1-b[02-03]-ib,a2", "a1-b02-ib"),
    ],
)
def test_the_first_machine_of_a_step_is_where_all_meet(nodes: str, first: str) -> None:
    found = member(SLURM | {"SLURM_STEP_NODELIST": nodes})
    assert found
    assert found["MASTER_ADDR"] == first


@pytest.mark.parametrize("environment", [{}, {"SLURM_JOB_ID": "4", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}])
def test_outside_and_in_the_script_of_a_batch_a_process_is_alone(environment: dict[str, str]) -> None:
    assert member(environment) is None


def test_a_process_alone_joins_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with joined(CPU) as (ranks, device):
        assert (ranks, device) == (ALONE, CPU)
    for key, value in (TORCHRUN | {"RANK": "0", "WORLD_SIZE": "1"}).items():
        monkeypatch.setenv(key, value)
    with joined(CPU) as (ranks, device):
        assert (ranks, device) == (ALONE, CPU)


@pytest.mark.parametrize("missing", ["WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"])
def test_a_variable_that_is_missing_is_named(missing: str) -> None:
    with pytest.raises(ConfigError, match=f"RANK is set, but {missing} is not; start the processes with torchrun"):
        member({key: value for key, value in TORCHRUN.items() if key != missing})


@pytest.mark.parametrize("key", ["RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_PORT"])
def test_a_variable_that_is_no_number_is_named(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key}: expected a whole number, got 'one'"):
        member(TORCHRUN | {key: "one"})


def test_a_process_without_a_gpu_of_its_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for key, value in TORCHRUN.items():
        monkeypatch.setenv(key, value)
    with (
        pytest.raises(ConfigError, match="process 1 of this machine has no GPU of its own: there are 1"),
        joined(CUDA),
    ):
        pass


# --- how many ----------------------------------------------------------------------------------------


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """With three GPUs and four cores."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr("darkroom.training.device.cores", lambda: [0, 1, 2, 3])


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("devices", "device", "count"),
    [(1, CPU, 1), (4, CPU, 4), ("auto", CPU, 1), ("auto", CUDA, 3), (2, CUDA, 2), ("auto", MPS, 1)],
)
def test_as_many_devices_train_as_are_asked_for(devices: int | str, device: torch.device, count: int) -> None:
    assert count_devices(Train(devices=devices, batch_size=12), device) == count


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(("devices", "device", "there"), [(5, CPU, "4 cores"), (4, CUDA, "3 GPUs"), (2, MPS, "1 GPU")])
def test_more_devices_than_there_are_are_refused(devices: int, device: torch.device, there: str) -> None:
    with pytest.raises(ConfigError) as raised:
        count_devices(Train(devices=devices), device)
    (line,) = raised.value.lines
    assert line == (
        f"train.devices: {devices} are more than this machine has ({there}); set it to {there.split()[0]} or less"
    )


@pytest.mark.parametrize(
    ("batch_size", "accumulate", "count", "following"),
    [(64, 1, 3, 66), (65, 1, 2, 66), (1, 1, 8, 8), (10, 2, 2, 12), (12, 4, 2, 14), (9, 2, 4, 16)],
)
def test_a_batch_that_cannot_be_divided_is_refused_with_the_next_that_can(
    batch_size: int, accumulate: int, count: int, following: int
) -> None:
    with pytest.raises(ConfigError) as raised:
        check_sharing(Train(batch_size=batch_size, accumulate=accumulate), count)
    (line,) = raised.value.lines
    assert line.startswith(f"train.batch_size: {batch_size}")
    assert line.endswith(f"cannot be divided among {count} devices; the next that can is {following}")
    check_sharing(Train(batch_size=following, accumulate=accumulate), count)


def test_a_compiled_model_is_not_trained_on_several_devices() -> None:
    settings = Train(compile="default")
    with pytest.raises(ConfigError) as raised:
        check_sharing(settings, 2)
    (line,) = raised.value.lines
    assert line == (
        "train.compile: a compiled model cannot be trained on 2 devices; set it to none, or train.devices to 1"
    )
    check_sharing(settings, 1)
