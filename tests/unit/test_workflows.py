"""What runs at GitHub: workflows that are well formed and may do little, and the scripts that they call."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MARKER = "<!-- darkroom compare -->"


@pytest.fixture(scope="module")
def promote():
    # In YAML 1.1, which the pure parser does not read, `on` were a boolean.
    return YAML(typ="safe", pure=True).load(ROOT / ".github" / "workflows" / "promote.yml")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_is_well_formed(path):
    workflow = YAML(typ="safe", pure=True).load(path)
    assert {"name", "on", "permissions", "jobs"} <= workflow.keys()
    for job in workflow["jobs"].values():
        assert "timeout-minutes" in job
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_no_text_of_others_is_put_into_a_shell(path):
    for job in YAML(typ="safe", pure=True).load(path)["jobs"].values():
        for step in job["steps"]:
            assert "${{" not in step.get("run", ""), step


def test_promoting_has_no_more_rights_than_it_needs(promote):
    assert promote["permissions"] == {}
    rights = {name: job.get("permissions") for name, job in promote["jobs"].items()}
    assert rights == {
        "compare": {"contents": "read", "pull-requests": "write"},
        "fork": None,
        "promote": {"contents": "read"},
    }


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_to_a_commit(path):
    jobs = YAML(typ="safe", pure=True).load(path)["jobs"]
    used = [step["uses"] for job in jobs.values() for step in job["steps"] if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action) for action in used), used
    assert len(set(used)) == len({action.partition("@")[0] for action in used})


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_programs_that_are_fetched_are_pinned(path):
    for job in YAML(typ="safe", pure=True).load(path)["jobs"].values():
        for step in job["steps"]:
            assert re.search(r"==\d", step.get("run", "")) or "pipx" not in step.get("run", "")


def test_secrets_are_for_the_jobs_that_no_fork_can_start(promote):
    with_secrets = {name for name, job in promote["jobs"].items() if "secrets." in json.dumps(job)}
    assert with_secrets == {"compare", "promote"}
    conditions = {name: job["if"] for name, job in promote["jobs"].items()}
    same = "github.event.pull_request.head.repo.full_name == github.repository"
    assert same in conditions["compare"]
    assert same.replace("==", "!=") in conditions["fork"]
    assert "github.event_name == 'push'" in conditions["promote"]
    assert "pull_request_target" not in promote["on"]


def test_what_changes_a_model_is_watched(promote):
    assert promote["on"]["push"] == {"branches": ["main"], "paths": promote["on"]["pull_request"]["paths"]}
    assert {"params.yaml", "dvc.yaml", "src/**", "recipes/**"} <= set(promote["on"]["pull_request"]["paths"])


def test_a_promotion_is_not_interrupted(promote):
    assert promote["concurrency"]["cancel-in-progress"] == "${{ github.event_name == 'pull_request' }}"


def workflow(name):
    return YAML(typ="safe", pure=True).load(ROOT / ".github" / "workflows" / f"{name}.yml")


def test_every_week_the_newest_releases_are_tested_and_every_lock_file_is_audited():
    newest = workflow("newest")
    (schedule,) = newest["on"]["schedule"]
    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", schedule["cron"])
    commands = [step["run"] for step in newest["jobs"]["test"]["steps"] if "run" in step]
    assert [command.split()[0:2] for command in commands] == [["make", "lock"], [".ci/run"]]

    audit = newest["jobs"]["audit"]
    locks = {
        path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("requirements*.lock"), *ROOT.glob("deploy/*.lock"))
    }
    assert set(audit["strategy"]["matrix"]["lock"]) == locks
    assert any("pip-audit" in step.get("run", "") and '"$LOCK"' in step["run"] for step in audit["steps"])


def test_a_release_lists_what_is_pinned():
    steps = workflow("release")["jobs"]["package"]["steps"]
    (listing,) = [step["run"] for step in steps if "cyclonedx" in step.get("run", "")]
    assert "requirements.lock" in listing
    output = Path(listing.split("--output-file ")[1].split()[0])
    assert output.parent.as_posix() == steps[-1]["with"]["path"]


def test_the_security_policy_says_where_to_report():
    policy = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    assert "*Report a vulnerability*" in policy
    assert "docs/security.md" in policy


# --- .ci/compare -------------------------------------------------------------------------------------


def program(directory, name, text):
    (directory / name).write_text(f"#!{sys.executable}\n{text}")
    (directory / name).chmod(0o755)


@pytest.fixture
def compare(tmp_path, monkeypatch):
    """What the comment says of the registered model, when `darkroom compare` ends with ``code``; and the exit code."""
    (tmp_path / "reports" / "compare").mkdir(parents=True)
    (tmp_path / "reports" / "compare" / "comparison.md").write_text("| the table |\n")
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci" / "compare"
    script.write_text((ROOT / ".ci" / "compare").read_text())
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")

    def run(version, aliases, code=0, error=""):
        registered = {"name": "darkroom-digits", "version": version, "aliases": aliases}
        program(
            tmp_path,
            "darkroom",
            "import sys\n"
            "if sys.argv[1:] == ['register']: sys.exit()\n"
            f"if sys.argv[1:] == ['results', '--json']: sys.exit(print({json.dumps({'registered': registered})!r}))\n"
            f"assert sys.argv[1:] == ['compare', 'champion', {version!r}]\n"
            f"print('on the terminal')\nprint({error!r}, file=sys.stderr)\nsys.exit({code})",
        )
        ended = subprocess.run(["bash", script], capture_output=True, text=True)
        return ended.stdout, ended.returncode

    return run


def test_the_comment_is_the_comparison_with_the_champion(compare):
    assert compare("7", ["challenger"]) == (f"{MARKER}\n| the table |\n", 0)


def test_the_comment_compares_the_version_of_this_pull_request_though_another_is_challenger(compare):
    assert compare("7", [])[0].endswith("| the table |\n")


def test_the_first_champion_is_told_without_a_comparison(compare):
    said, code = compare("1", ["challenger", "champion"], code=2)
    assert (said.splitlines()[0], code) == (MARKER, 0)
    assert "Version 1 is the champion" in said


def test_what_cannot_be_compared_is_said_in_the_comment(compare):
    said, code = compare("2", ["challenger"], code=2, error="error: champion: no such alias")
    assert code == 0
    assert "Version 2 was not compared with the champion" in said
    assert "    error: champion: no such alias" in said


def test_a_bug_is_no_comment(compare):
    assert compare("2", ["challenger"], code=1, error="Traceback")[1] == 1


# --- .ci/comment -------------------------------------------------------------------------------------

GH = """
import json, pathlib, sys
comments = pathlib.Path("comments.json")
kept = json.loads(comments.read_text())
arguments = sys.argv[1:]
assert arguments[0] == "api"
if "--method" not in arguments:
    # What gh makes of the filter: a line for each comment of a bot, JSON in JSON's place.
    assert "repos/o/r/issues/5/comments" in arguments
    for each in kept:
        if each["bot"]:
            print(json.dumps([each["id"], each["body"]]))
else:
    method, place = arguments[arguments.index("--method") + 1 :][:2]
    body = pathlib.Path(arguments[arguments.index("--field") + 1].removeprefix("body=@")).read_text()
    if method == "POST":
        assert place == "repos/o/r/issues/5/comments"
        kept.append({"id": 100 + len(kept), "body": body, "bot": True})
    else:
        assert method == "PATCH"
        (found,) = [each for each in kept if place == f"repos/o/r/issues/comments/{each['id']}"]
        found["body"] = body
    comments.write_text(json.dumps(kept))
"""


@pytest.fixture
def comment(tmp_path, monkeypatch):
    """The comments of a pull request after one was put there."""
    program(tmp_path, "gh", GH)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("GITHUB_REPOSITORY", "o/r")
    monkeypatch.setenv("PULL_REQUEST", "5")

    def run(text, earlier):
        (tmp_path / "comments.json").write_text(json.dumps(earlier))
        (tmp_path / "comment.md").write_text(text)
        subprocess.run(["bash", ROOT / ".ci" / "comment", "comment.md"], cwd=tmp_path, check=True)
        return [each["body"] for each in json.loads((tmp_path / "comments.json").read_text())]

    return run


def test_the_first_push_makes_a_comment_and_the_next_one_replaces_it(comment):
    others = {"id": 1, "body": "Nice!", "bot": False}, {"id": 2, "body": "Coverage 99 %", "bot": True}
    first, second = f"{MARKER}\nfirst\n", f"{MARKER}\nsecond\n"
    assert comment(first, others) == ["Nice!", "Coverage 99 %", first]
    ours = {"id": 3, "body": first, "bot": True}
    assert comment(second, [*others, ours]) == ["Nice!", "Coverage 99 %", second]


def test_what_a_person_quotes_is_not_replaced(comment):
    quoted = {"id": 1, "body": f"{MARKER}\nlook", "bot": False}
    assert comment(f"{MARKER}\nnew\n", [quoted]) == [quoted["body"], f"{MARKER}\nnew\n"]
