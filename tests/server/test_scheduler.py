"""A scheduler calls an entry point of MLproject, as `mlflow run` does, with the server as its store."""


def call(team, *arguments):
    return team.run("mlflow", "run", ".", "--env-manager", "local", *arguments, check=False)


def test_what_is_promoted_ends_well(team):
    ended = call(team, "-e", "promote", "-P", "reason=it's nightly; and quoted")
    assert ended.returncode == 0, ended.stderr
    assert "is champion already" in ended.stderr


def test_what_is_not_promoted_is_a_failure(team):
    ended = call(team, "-e", "promote", "-P", "version=99")
    assert ended.returncode != 0
    assert "error: 99: darkroom-digits has no such version or alias" in ended.stderr
