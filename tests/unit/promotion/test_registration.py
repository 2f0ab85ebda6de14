"""Registering what lies in the working tree: once for the same weights, in whichever store, and only what belongs
together.
"""

import json
import shutil

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelOutput, LoggedModelStatus
from mlflow.exceptions import MlflowException
from tests.conftest import QUICK

from darkroom.config import load
from darkroom.errors import CacheError, ModelError
from darkroom.models.card import ModelCard
from darkroom.promotion import rebuild_run, registration
from darkroom.promotion.evaluated_model import load_evaluated_model
from darkroom.promotion.registry import find
from darkroom.promotion.training_run import read_training_run
from darkroom.stages import download, preprocess, train
from darkroom.stages.register import run
from darkroom.tracking.store import newest_model
from darkroom.workspace import Workspace

NAME = "darkroom-digits"
EVALUATE_AGAIN = "; run `darkroom evaluate` again$"


@pytest.fixture
def client(evaluated):
    """The client of a store that has not heard of the model, or after ``registered`` has it as version 1."""
    return MlflowClient(f"sqlite:///{evaluated / 'mlflow.db'}")


def runs(client):
    return client.search_runs([client.get_experiment_by_name("darkroom").experiment_id])


def files(root):
    """The pipeline's files with their content and times."""
    places = [path for name in ("data", "models", "reports") for path in (root / name).rglob("*") if path.is_file()]
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in places}


def damage(root):
    """Change every model in the store's files."""
    for path in (root / "mlruns").rglob("model.pt2"):
        path.write_bytes(path.read_bytes() + b"changed")


# --- a store that has not heard of the model ----------------------------------------------------------------


def test_the_run_is_rebuilt_from_the_files_and_the_files_stay_as_they_are(bring, client, evaluated):
    before = files(evaluated)
    registered = bring()
    assert (registered.name, registered.version, registered.is_new) == (NAME, "1", True)
    assert files(evaluated) == before
    (run,) = runs(client)
    card = json.loads((evaluated / "models" / "model.json").read_text())
    assert run.info.status == "FINISHED"
    assert run.data.tags["darkroom.run"] == card["run_id"]
    assert run.info.run_name == "mlp on digits, hidden 8, 1 epoch"
    assert run.data.params["model.hidden"] == "[8]"
    assert {"val/loss", "best/val_loss", "test/accuracy", "train/epoch_seconds"} <= run.data.metrics.keys()
    listed = {file.path for name in ("train", "evaluate") for file in client.list_artifacts(run.info.run_id, name)}
    assert {
        "train/curves.png",
        "evaluate/predictions.csv",
        "evaluate/identity.json",
        "evaluate/reference.json",
    } <= listed
    gallery = json.loads((evaluated / "reports" / "evaluate" / "gallery.json").read_text())
    pictures = {file.path for file in client.list_artifacts(run.info.run_id, "evaluate/gallery")}
    assert pictures == {f"evaluate/{each['file']}" for each in gallery}


def model_of(client, version="1"):
    return client.get_logged_model(client.get_model_version(NAME, version).source.removeprefix("models:/"))


def test_the_model_has_the_figures_of_the_test_split_on_its_dataset_and_can_be_sorted_by_them(bring, client, evaluated):
    bring()
    (run,) = runs(client)
    summary = json.loads((evaluated / "reports" / "evaluate" / "metrics.json").read_text())
    data = run.inputs.dataset_inputs[0].dataset
    model = model_of(client)
    points = [point for point in model.metrics if point.key.startswith("test/")]
    assert {point.key: point.value for point in points} == {f"test/{key}": value for key, value in summary.items()}
    assert {(point.dataset_name, point.dataset_digest) for point in points} == {("digits", data.digest)}
    order = {"field_name": "metrics.test/accuracy", "dataset_name": "digits", "dataset_digest": data.digest}
    (first,) = client.search_logged_models([run.info.experiment_id], order_by=[order])
    assert (first.model_id, first.name) == (model.model_id, run.info.run_name)
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": NAME, "version": "1"}]


def test_the_run_the_model_and_the_version_are_described_by_their_result(bring, client):
    bring()
    (run,) = runs(client)
    note = run.data.tags["mlflow.note.content"]
    accuracy, low, high = (run.data.metrics[f"test/{key}"] for key in ("accuracy", "accuracy_low", "accuracy_high"))
    headline = f"Test accuracy **{accuracy:.4f}**, 95 % interval {low:.4f} to {high:.4f}, on 360 images of digits."
    assert note.startswith(headline)
    place = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/evaluate/confusion_matrix.png"
    assert f"[Confusion matrix]({place}?" in note
    assert model_of(client).tags["mlflow.note.content"] == note
    assert client.get_model_version(NAME, "1").description == note


def test_the_description_names_the_training_as_its_run_is_named(registered, bring, client):
    (run,) = runs(client)
    assert "\n\nmlp on digits, hidden 8, 1 epoch; best epoch 1." in client.get_model_version(NAME, "1").description
    client.update_run(run.info.run_id, name="the run of Friday")
    bring()
    assert "\n\nthe run of Friday; best epoch 1." in client.get_model_version(NAME, "1").description
    assert "\n\nthe run of Friday; best epoch 1." in client.get_run(run.info.run_id).data.tags["mlflow.note.content"]


def test_the_description_names_the_training_where_the_run_is_lost(registered, bring, client, monkeypatch):
    client.update_run(runs(client)[0].info.run_id, name="the run of Friday")
    monkeypatch.setattr(registration, "_find_run", lambda client, run_id: None)
    bring()
    assert "\n\nmlp on digits, hidden 8, 1 epoch; best epoch 1." in client.get_model_version(NAME, "1").description


def test_what_somebody_has_written_about_a_run_a_model_or_a_version_stays(registered, bring, client):
    (run,) = runs(client)
    client.set_tag(run.info.run_id, "mlflow.note.content", "the run of Friday")
    client.set_logged_model_tags(model_of(client).model_id, {"mlflow.note.content": "the model of Friday"})
    client.update_model_version(NAME, "1", "the version of Friday")
    bring()
    assert client.get_run(run.info.run_id).data.tags["mlflow.note.content"] == "the run of Friday"
    assert model_of(client).tags["mlflow.note.content"] == "the model of Friday"
    assert client.get_model_version(NAME, "1").description == "the version of Friday"


def test_the_model_gets_the_figures_of_another_evaluation_and_known_ones_once(registered, bring, client, evaluated):
    path = evaluated / "reports" / "evaluate" / "metrics.json"
    summary = json.loads(path.read_text())
    before = client.get_model_version(NAME, "1").description
    for _ in range(2):
        path.write_text(json.dumps(summary | {"top_2_accuracy": 0.75, "accuracy": 0.5}))
        bring()
    points = {}
    for point in sorted(model_of(client).metrics, key=lambda point: point.timestamp):
        points.setdefault(point.key, []).append(point.value)
    assert points["test/top_2_accuracy"] == [0.75]
    assert points["test/accuracy"] == [summary["accuracy"], 0.5]
    assert points["test/log_loss"] == [summary["log_loss"]]
    assert json.loads(model_of(client).tags["mlflow.modelVersions"]) == [{"name": NAME, "version": "1"}]
    after = client.get_model_version(NAME, "1").description
    assert after.startswith("Test accuracy **0.5000**")
    verdict = before.partition("The gate: **passed**, against no champion")
    assert verdict[1]
    assert after.endswith("".join(verdict[1:]))


@pytest.mark.parametrize("trained_in", ["f" * 40, None])
def test_a_rebuilt_run_tells_the_commit_of_the_training_and_not_of_who_brings_it(
    bring, client, evaluated, monkeypatch, trained_in
):
    code = {"mlflow.source.git.commit": trained_in, "darkroom.git_dirty": "true"} if trained_in else {}
    path = evaluated / "models" / "model.json"
    card = json.loads(path.read_text())
    facts = {key: value for key, value in card["facts"].items() if key.startswith("system.")}
    path.write_text(json.dumps(card | {"facts": facts | code}))
    today = {"mlflow.source.git.commit": "0" * 40, "darkroom.git_dirty": "false"}
    monkeypatch.setattr("darkroom.tracking.runs.code_version", lambda: today)

    bring()

    found = read_training_run(client, runs(client)[0].info.run_id)
    assert (found.commit, found.was_dirty) == (trained_in, trained_in is not None)


def test_what_was_registered_is_evidence_that_holds(bring, client, evaluated, tmp_path):
    bring()
    for reference in ("challenger", runs(client)[0].info.run_id):
        model = load_evaluated_model(client, find(client, NAME, reference), tmp_path / reference)
        accuracy = json.loads((evaluated / "reports" / "evaluate" / "metrics.json").read_text())["accuracy"]
        assert model.answers.correct.mean() == pytest.approx(accuracy)
        assert (
            model.fingerprint == json.loads((evaluated / "models" / "model.json").read_text())["dataset"]["fingerprint"]
        )


@pytest.mark.parametrize("lies_here", ["nothing", "data of other settings"])
def test_the_data_need_not_be_here(bring, evaluated, project, lies_here):
    if lies_here == "nothing":
        shutil.rmtree(evaluated / "data" / "processed")
    else:
        project(**QUICK, preprocess__image_size=[9, 9])
        for stage in (download, preprocess):
            stage.run(load(evaluated / "params.yaml"), Workspace())
    assert bring().is_new


def test_the_command_says_what_was_registered_and_whether_it_is_new(evaluated, capsys):
    config = load(evaluated / "params.yaml")
    for state in ("registered as", "already registered as"):
        run(config, Workspace())
        said = capsys.readouterr().err.splitlines()[-1]
        assert said == f"register: models/model.safetensors, {state} {NAME} version 1 (challenger, champion)"


# --- the same weights again ---------------------------------------------------------------------------------


def test_the_same_weights_get_no_second_version_and_the_digests_of_now(registered, bring, client, evaluated):
    report = evaluated / "reports" / "evaluate"
    predictions = report / "predictions.csv"
    predictions.write_text(predictions.read_text().replace("\n", "\r\n"))
    identity = json.loads((report / "identity.json").read_text())
    identity["predictions_sha256"] = registration.sha256(predictions)
    (report / "identity.json").write_text(json.dumps(identity))

    again = bring()

    assert (again.version, again.is_new) == ("1", False)
    (run,) = runs(client)
    for tags in (run.data.tags, client.get_model_version(NAME, "1").tags):
        assert tags["darkroom.predictions_sha256"] == identity["predictions_sha256"]
    load_evaluated_model(client, find(client, NAME, "1"), evaluated / "evidence")  # finds the file of these digests


def test_a_training_repeated_to_the_same_weights_has_a_run_of_its_own_and_no_version(
    registered, bring, client, evaluated
):
    path = evaluated / "models" / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"run_id": "another"}))
    store = registration.Store(client, client.get_experiment_by_name("darkroom").experiment_id)
    rebuild_run.rebuild_run(store, Workspace(), ModelCard.read(path))

    assert not bring().is_new

    assert ["test/accuracy" in each.data.metrics for each in runs(client)] == [True, True]
    for reference in ("1", *(each.info.run_id for each in runs(client))):
        load_evaluated_model(client, find(client, NAME, reference), evaluated / "evidence")


@pytest.mark.parametrize("step", ["create_model_version", "update_model_version", "set_registered_model_alias"])
def test_a_registration_that_was_broken_off_is_completed_by_the_next(registered, bring, client, monkeypatch, step):
    client.delete_registered_model(NAME)  # the run and its model stay

    def break_off(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, break_off)
        with pytest.raises(KeyboardInterrupt):
            bring()
    again = bring()
    assert (again.version, again.aliases) == ("1", ("challenger",))
    assert len(runs(client)) == 1
    assert client.get_model_version(NAME, "1").tags["test.accuracy"]


def test_a_run_that_was_broken_off_before_its_model_is_completed(bring, client, monkeypatch, capsys):
    def break_off(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(rebuild_run, "log_model", break_off)
        with pytest.raises(KeyboardInterrupt):
            bring()
    assert [run.info.status for run in runs(client)] == ["KILLED"]
    capsys.readouterr()

    assert bring().is_new
    assert "lacks its model in this store; completed from the files" in capsys.readouterr().err
    (run,) = runs(client)
    assert run.info.status == "FINISHED"


# --- a store in which something is wrong --------------------------------------------------------------------


def test_a_changed_model_in_the_store_is_not_blessed_but_registered_anew(
    registered, bring, client, evaluated, capsys, tmp_path
):
    digest = client.get_model_version(NAME, "1").tags["darkroom.model_sha256"]
    damage(evaluated)
    capsys.readouterr()

    again = bring()

    assert (again.version, again.is_new) == ("2", True)
    assert (
        f"{NAME} version 1 has the same weights, but its model was changed or deleted in the store"
        in capsys.readouterr().err
    )
    assert client.get_model_version(NAME, "1").tags["darkroom.model_sha256"] == digest
    load_evaluated_model(client, find(client, NAME, "2"), tmp_path)
    assert not bring().is_new


def test_of_several_models_of_a_run_the_last_one_counts_in_whatever_order_mlflow_lists_them(
    registered, bring, client, evaluated
):
    damage(evaluated)
    bring()
    (run,) = runs(client)
    first, second = (client.get_logged_model(each.model_id) for each in run.outputs.model_outputs)
    last = max(first, second, key=lambda model: model.creation_timestamp)
    assert newest_model(client, run) == f"models:/{last.model_id}"
    for _ in range(4):
        last = client.create_logged_model(run.info.experiment_id, "model", run.info.run_id)
        client.finalize_logged_model(last.model_id, LoggedModelStatus.READY)
        client.log_outputs(run.info.run_id, [LoggedModelOutput(last.model_id, 0)])
        assert newest_model(client, runs(client)[0]) == f"models:/{last.model_id}"


def test_a_version_whose_run_was_deleted_still_counts_and_gets_what_it_lacks(
    registered, bring, client, evaluated, tmp_path
):
    client.delete_run(runs(client)[0].info.run_id)
    (report,) = (evaluated / "mlruns" / "models").rglob("evaluate")
    shutil.rmtree(report)  # which a version may lack

    again = bring()

    assert (again.version, again.is_new) == ("1", False)
    assert runs(client) == []
    assert load_evaluated_model(client, find(client, NAME, "1"), tmp_path).reference() is not None


def test_a_version_whose_model_was_deleted_no_longer_counts(registered, bring, client, evaluated, capsys):
    shutil.rmtree(evaluated / "mlruns" / "models")
    capsys.readouterr()
    assert (bring().version, bring().is_new) == ("2", False)
    assert "version 1 has the same weights, but its model was changed or deleted" in capsys.readouterr().err


def test_a_store_that_does_not_answer_is_not_taken_for_a_damaged_one(registered, bring, client, monkeypatch):
    def away(*arguments, **options):
        raise MlflowException("API request failed: Max retries exceeded")

    monkeypatch.setattr(registration, "download_artifacts", away)
    with pytest.raises(MlflowException, match="Max retries exceeded"):
        bring()
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 1


# --- files that do not belong together -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "made_by"),
    [
        ("models/model.json", "darkroom train"),
        ("models/model.safetensors", "darkroom train"),
        ("reports/train/metrics.json", "darkroom train"),
        ("reports/train/history.csv", "darkroom train"),
        ("reports/evaluate/identity.json", "darkroom evaluate"),
        ("reports/evaluate/metrics.json", "darkroom evaluate"),
        ("reports/evaluate/predictions.csv", "darkroom evaluate"),
    ],
)
def test_a_missing_file_is_named_with_the_commands_that_bring_it(bring, client, evaluated, name, made_by):
    (evaluated / name).unlink()
    with pytest.raises(
        ModelError, match=rf"^{name}: not found; `dvc pull .*{name}` brings it .*, `{made_by}` makes it$"
    ):
        bring()
    assert client.search_model_versions() == []
    assert client.get_experiment_by_name("darkroom") is None or runs(client) == []


def change(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


@pytest.mark.parametrize(
    ("part", "value", "pattern"),
    [
        (("settings", "model", "name"), "nonsuch", r"settings\.model\.name: unknown value 'nonsuch'"),
        (("settings", "model", "filters"), "many", r"settings\.model\.filters: expected a list"),
        (("settings", "train"), {}, r"settings\.train\.epochs: missing"),
        (("best_epoch",), {}, r"best_epoch\.epoch: missing"),
        (("best_epoch", "val_accuracy"), "x", r"best_epoch\.val_accuracy"),
    ],
)
@pytest.mark.parametrize("is_known", [False, True], ids=["new", "registered"])
def test_a_damaged_card_is_refused_before_anything_is_written(bring, client, evaluated, is_known, part, value, pattern):
    if is_known:
        bring()
    path = evaluated / "models" / "model.json"
    card = json.loads(path.read_text())
    *above, last = part
    inner = card
    for key in above:
        inner = inner[key]
    inner[last] = value
    path.write_text(json.dumps(card))

    with pytest.raises(ModelError, match=rf"^models/model\.json: damaged \({pattern}.*; run `darkroom train` again$"):
        bring()
    assert len(client.search_model_versions()) == is_known
    assert client.get_experiment_by_name("darkroom") is None or len(runs(client)) == is_known


@pytest.mark.parametrize(
    ("name", "fields", "pattern"),
    [
        ("identity.json", {"weights_sha256": "0" * 64}, "an evaluation of other weights than models/ holds"),
        ("identity.json", {"fingerprint": "0" * 64}, "an evaluation on other data than models/ was trained on"),
        ("identity.json", {"more": 1}, r"identity\.json: damaged \(more: unexpected keyword argument\)"),
    ],
)
def test_an_evaluation_of_something_else_is_refused(bring, evaluated, name, fields, pattern):
    change(evaluated / "reports" / "evaluate" / name, **fields)
    with pytest.raises(ModelError, match=pattern + EVALUATE_AGAIN):
        bring()


def test_a_damaged_reference_is_refused_before_anything_is_written(bring, client, evaluated):
    (evaluated / "reports" / "evaluate" / "reference.json").write_text("junk")
    with pytest.raises(ModelError, match=r"^reports/evaluate/reference\.json: .*; run `darkroom evaluate` again$"):
        bring()
    assert client.search_model_versions() == []
    assert client.get_experiment_by_name("darkroom") is None or runs(client) == []


def test_a_run_is_not_rebuilt_without_the_report_that_belongs_to_it(bring, client, evaluated):
    shutil.rmtree(evaluated / "reports" / "preprocess")
    with pytest.raises(ModelError, match=r"^reports/preprocess: no such directory; .*`darkroom preprocess` makes it$"):
        bring()
    assert client.get_experiment_by_name("darkroom") is None or runs(client) == []


def test_a_training_that_lacks_the_report_of_its_data_does_not_begin(bring, evaluated):
    shutil.rmtree(evaluated / "reports" / "preprocess")
    before = (evaluated / "models" / "model.json").read_bytes()
    with pytest.raises(CacheError, match=r"^reports/preprocess: no such directory; .*`darkroom preprocess` makes it$"):
        train.run(load(evaluated / "params.yaml"), Workspace())
    assert (evaluated / "models" / "model.json").read_bytes() == before
    assert not [*(evaluated / "models" / "checkpoints").glob("*.pt")]


def test_an_identity_of_an_older_form_is_refused(bring, evaluated):
    path = evaluated / "reports" / "evaluate" / "identity.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps({"weights_sha256": found["weights_sha256"]}))
    with pytest.raises(ModelError, match=r"identity\.json: damaged \(fingerprint: field required\)" + EVALUATE_AGAIN):
        bring()


@pytest.mark.parametrize("name", ["identity.json", "metrics.json"])
@pytest.mark.parametrize("content", ["{", "[]", "\0"])
def test_a_damaged_file_is_refused(bring, evaluated, name, content):
    (evaluated / "reports" / "evaluate" / name).write_text(content)
    with pytest.raises(ModelError, match=name.replace(".", r"\.") + ".*" + EVALUATE_AGAIN):
        bring()


@pytest.mark.parametrize("content", ["epoch,val_loss\n1,0.5\n", "epoch\nx\n", "epoch,val_loss\n1\n", "\0", "twice"])
def test_a_damaged_course_of_the_training_is_refused(bring, evaluated, content):
    path = evaluated / "reports" / "train" / "history.csv"
    heading, epoch = path.read_text().splitlines()
    path.write_text("\n".join([heading, epoch, epoch.replace("1", "2", 1)]) if content == "twice" else content)
    with pytest.raises(ModelError, match=r"^reports/train: damaged or incomplete \(.*\); run `darkroom train` again$"):
        bring()


def test_a_version_has_the_intervals_that_its_report_has(bring, client, evaluated):
    path = evaluated / "reports" / "evaluate" / "metrics.json"
    summary = json.loads(path.read_text())
    del summary["log_loss_low"], summary["log_loss_high"]
    path.write_text(json.dumps(summary))
    bring()
    tags = client.get_model_version(NAME, "1").tags
    for key in ("accuracy_low", "f1_macro_low", "f1_macro_high", "calibration_error_high"):
        assert tags[f"test.{key}"] == f"{summary[key]:.6g}"
    assert "test.log_loss" in tags
    assert "test.log_loss_low" not in tags


def test_figures_of_an_older_form_are_refused(bring, evaluated):
    path = evaluated / "reports" / "evaluate" / "metrics.json"
    path.write_text(json.dumps({"accuracy": 0.9}))
    with pytest.raises(ModelError, match=r"metrics\.json: lacks accuracy_low, .*" + EVALUATE_AGAIN):
        bring()


def test_predictions_that_were_changed_are_refused(bring, evaluated):
    path = evaluated / "reports" / "evaluate" / "predictions.csv"
    path.write_text(path.read_text().replace(",0,", ",1,"))
    with pytest.raises(ModelError, match=r"predictions\.csv: changed since it was written" + EVALUATE_AGAIN):
        bring()


def test_a_model_of_another_dataset_than_the_settings_name_is_refused(evaluated, project):
    project(**QUICK, dataset__name="mnist")
    config = load(evaluated / "params.yaml")
    with pytest.raises(
        ModelError, match=r"a model of digits, but params\.yaml names mnist; set dataset\.name to digits"
    ):
        run(config, Workspace())
