"""A scheduler calls an entry point of MLproject, as `mlflow run` does, with the server as its store."""


def test_what_is_not_promoted_is_a_failure(team):
    command = ("mlflow", "run", ".", "--env-manager", "local", "-e", "promote", "-P", "version=99")
    ended = team.clone.run(*command, check=False, **team.server.environment)
    assert ended.returncode != 0
    assert "error: 99: darkroom-digits has no such version or alias" in ended.stderr
