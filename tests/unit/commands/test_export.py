"""`darkroom export` on a project: what it writes and notes, and what it refuses without writing anything."""

import json
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from mlflow.artifacts import load_dict

from darkroom.commands.export import run
from darkroom.config import load
from darkroom.data.batches import read_split
from darkroom.data.cache import DatasetCard
from darkroom.errors import DarkroomError, ModelError, TrackingError
from darkroom.export import exporter
from darkroom.models.card import ModelCard
from darkroom.models.files import load_classifier, load_weights
from darkroom.promotion import evaluated_model
from darkroom.promotion.registry import find
from darkroom.stages import download, preprocess
from darkroom.utils.files import sha256
from darkroom.workspace import Workspace

NAME = "darkroom-digits"
FORMS = ["onnx", "pt2", "pth", "safetensors"]


@pytest.fixture
def export(evaluated):
    """Run the command in the project of an evaluated model."""

    def export(form="onnx", *, model=None, quantize=False, to=None):
        config = load(evaluated / "params.yaml")
        run(config, Workspace(), form, reference=model, quantize=quantize, to=to and Path(to))

    return export


@pytest.fixture
def client(registered):
    """The store, with the model as version 1."""
    return registered[0]


@pytest.fixture
def test_split():
    cache = Workspace().processed("digits")
    return read_split(cache, DatasetCard.read(cache), "test")


def files(root):
    """Everything below a project but MLflow's own, with the time it was written."""
    return {
        path: path.stat().st_mtime_ns
        for path in root.rglob("*")
        if path.is_file() and not {"mlruns", "mlflow.db"} & set(path.relative_to(root).parts)
    }


def refused(export, root, pattern, error=ModelError, **arguments):
    before = files(root)
    with pytest.raises(error, match=pattern) as raised:
        export(**arguments)
    assert "\n" not in str(raised.value)
    assert files(root) == before


def answers_of(form, path):
    """The answers of a file to the test images, read as its docs say."""
    images = read_split(
        Workspace().processed("digits"), DatasetCard.read(Workspace().processed("digits")), "test"
    ).images
    if form == "onnx":
        session = onnxruntime.InferenceSession(path)
        return torch.from_numpy(session.run(["logits"], {"image": images.numpy()})[0])
    with torch.no_grad():
        if form == "pt2":
            return torch.export.load(path).module()(images)
        card = ModelCard.read(path.with_suffix(".json"))
        return load_weights(path, load(Workspace().params).model, card.dataset_card)(images)


@pytest.mark.parametrize("form", FORMS)
def test_the_model_that_lies_here_is_exported_with_its_check(form, export, evaluated, test_split, capsys):
    (evaluated / "mlflow.db").unlink()
    export(form)

    path = Path("models", "exported", f"model.{form}")
    classifier, card = load_classifier(evaluated / "models/model.safetensors", evaluated / "models/model.json")
    with torch.no_grad():
        expected = classifier(test_split.images)
    torch.testing.assert_close(answers_of(form, path), expected, rtol=1e-4, atol=1e-5)
    found = json.loads(Path(f"{path}.check.json").read_text())
    right = int((expected.argmax(1) == test_split.labels).sum())
    assert (found["form"], found["images"], found["accuracy"]) == (form, 360, pytest.approx(right / 360))
    assert [(each["batch_size"], each["differing_answers"]) for each in found["checks"]] == [(1, 0), (7, 0), (64, 0)]
    assert all(each["accuracy"] == found["accuracy"] for each in found["checks"])
    assert all(0 <= each["largest_logit_difference"] < 1e-4 for each in found["checks"])
    assert (found["sha256"], found["size_bytes"]) == (sha256(path), path.stat().st_size)
    assert found["model"]["weights_sha256"] == card.weights_sha256
    assert not (evaluated / "mlflow.db").exists()
    captured = capsys.readouterr()
    assert captured.err == ""
    assert f"{form}, 64 at once" in captured.out
    assert f"{path}: models/model.safetensors" in captured.out


@pytest.mark.parametrize("form", FORMS)
def test_a_version_is_exported_and_told_of_it(form, export, client):
    export(form, model="challenger")

    path = Path("models", "exported", f"{NAME}-1.{form}")
    version = client.get_model_version(NAME, "1")
    assert version.tags[f"export.{form}"].startswith("0 of 360 answers differ, largest logit difference ")
    noted = load_dict(f"runs:/{version.run_id}/export/{form}.json")
    assert noted == json.loads(Path(f"{path}.check.json").read_text())
    assert noted["model"]["version"] == "1"


def test_safetensors_of_a_version_are_the_bytes_that_were_trained(export, client):
    export("safetensors", model="1")

    exported, trained = Path("models", "exported", f"{NAME}-1.safetensors"), Path("models", "model.safetensors")
    assert exported.read_bytes() == trained.read_bytes()
    assert ModelCard.read(exported.with_suffix(".json")) == ModelCard.read(trained.with_suffix(".json"))


def test_the_model_that_lies_here_is_known_by_its_weights(export, client, made_once):
    export("onnx")

    version = client.get_model_version(NAME, "1")
    assert "export.onnx" in version.tags
    found = {each.key: json.loads(each.value) for each in onnx.load("models/exported/model.onnx").metadata_props}
    assert (found["name"], found["version"], found["run_id"]) == (NAME, "1", version.run_id)


def test_the_metadata_say_what_the_file_is(export, client, made_once):
    export("onnx", model="1")

    card = ModelCard.read(Path("models", "model.json"))
    reference = json.loads(Path("reports", "evaluate", "reference.json").read_text())
    found = onnx.load(f"models/exported/{NAME}-1.onnx").metadata_props
    assert {each.key: json.loads(each.value) for each in found} == {
        "classes": list("0123456789"),
        "shape": [1, 8, 8],
        "fingerprint": card.dataset["fingerprint"],
        "weights_sha256": card.weights_sha256,
        "decoder": card.dataset["decoder"],
        "temperature": reference["temperature"],
        "name": NAME,
        "version": "1",
        "run_id": client.get_model_version(NAME, "1").run_id,
    }


def test_a_temperature_of_other_weights_is_not_taken(export, evaluated, made_once):
    identity = evaluated / "reports" / "evaluate" / "identity.json"
    identity.write_text(
        identity.read_text().replace(ModelCard.read(Path("models/model.json")).weights_sha256, "0" * 64)
    )
    export("onnx")

    assert "temperature" not in {each.key for each in onnx.load("models/exported/model.onnx").metadata_props}


def test_a_run_is_told_that_its_model_was_exported(export, client):
    run_id = find(client, NAME, "1").run_id
    export("pt2", model=run_id)

    assert Path("models", "exported", f"{NAME}-{run_id[:8]}.pt2").is_file()
    assert client.get_run(run_id).data.tags["export.pt2"].startswith("0 of 360 answers differ")
    assert "export.pt2" not in client.get_model_version(NAME, "1").tags


def test_a_quantized_file_is_reported_beside_the_full_one(export, client, test_split, capsys, made_once):
    export("onnx", model="1", quantize=True)

    path = Path("models", "exported", f"{NAME}-1-int8.onnx")
    found = json.loads(Path(f"{path}.check.json").read_text())
    assert found["form"] == "onnx-int8"
    assert found["speed"]["int8"]["size_bytes"] == found["size_bytes"] == path.stat().st_size
    assert all(value > 0 for each in found["speed"].values() for value in each.values())
    right = int((answers_of("onnx", path).argmax(1) == test_split.labels).sum())
    assert found["checks"][2]["accuracy"] == pytest.approx(right / 360)
    tag = client.get_model_version(NAME, "1").tags["export.onnx-int8"]
    assert "of the size" in tag
    assert "times as fast" in tag
    assert "images/s" in capsys.readouterr().out


def test_a_quantized_file_may_have_any_name(export, evaluated, made_once):
    export("onnx", to="plain.onnx")
    for name in ("fp32.onnx", "full.onnx"):
        export("onnx", quantize=True, to=name)

        speed = json.loads(Path(f"{name}.check.json").read_text())["speed"]
        assert speed["fp32"]["size_bytes"] == Path("plain.onnx").stat().st_size
        assert speed["int8"]["size_bytes"] == Path(name).stat().st_size != Path("plain.onnx").stat().st_size


def test_a_quantized_file_without_answers_is_not_written(export, evaluated, monkeypatch, made_once):
    read = exporter.read_onnx

    def reader(path):
        model = read(path)
        return model if path.name.startswith("fp32") else lambda images: model(images) * float("nan")

    monkeypatch.setattr(exporter, "read_onnx", reader)
    refused(export, evaluated, r"^the int8 file gives no answer for 360 of 360 test images; ", quantize=True)


def test_quantization_sees_the_validation_split_and_not_the_test_split(export, evaluated, monkeypatch, made_once):
    seen = []
    quantize = exporter.quantize_int8
    monkeypatch.setattr(
        exporter, "quantize_int8", lambda full, split, *others: (seen.append(split), quantize(full, split, *others))
    )
    export("onnx", quantize=True)

    cache = Workspace().processed("digits")
    assert torch.equal(seen[0].images, read_split(cache, DatasetCard.read(cache), "val").images)


def test_an_export_may_be_repeated(export, evaluated):
    export("pth", to="out/digits.pth")
    export("pth", to="out/digits.pth")

    assert {path.name for path in Path("out").iterdir()} == {"digits.pth", "digits.json", "digits.pth.check.json"}


# --- what is refused, and then not written -------------------------------------------------------------------


@pytest.fixture
def wrong(monkeypatch):
    """Make what reads an exported file answer otherwise for some images."""

    def wrong(change):
        read = exporter._read

        def reader(*given):
            model = read(*given)
            return lambda images: change(model(images))

        monkeypatch.setattr(exporter, "_read", reader)

    return wrong


@pytest.mark.parametrize("form", FORMS)
def test_a_file_that_answers_otherwise_is_not_written(form, export, evaluated, wrong):
    wrong(lambda logits: logits.roll(1, 1) if len(logits) == 7 else logits)

    pattern = (
        rf"^the {form} file answers 35[0-9] of 360 test images differently from the model .*; nothing was written$"
    )
    refused(export, evaluated, pattern, form=form)


def test_a_file_that_answers_not_at_all_is_not_written(export, evaluated, wrong):
    wrong(lambda logits: logits * float("nan"))

    refused(export, evaluated, r"^the pth file answers 360 of 360 test images differently from the model ", form="pth")


def test_an_earlier_export_survives_one_that_fails(export, evaluated, wrong):
    export("pth")
    wrong(lambda logits: -logits)

    refused(export, evaluated, r"^the pth file answers ", form="pth")


def test_a_refused_export_is_not_noted(export, client, evaluated, wrong):
    wrong(lambda logits: -logits)
    refused(export, evaluated, r"^the pth file answers ", form="pth", model="1")

    assert "export.pth" not in client.get_model_version(NAME, "1").tags


def test_an_interruption_leaves_nothing(export, evaluated, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    before = files(evaluated)
    monkeypatch.setattr(exporter, "compare", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export("pth")
    assert files(evaluated) == before


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ({"form": "pth", "quantize": True}, r"^--quantize: of onnx only, not of pth; "),
        ({"form": "onnx", "to": "a.pth"}, r"^a\.pth: the name of a file in the format onnx ends in \.onnx$"),
        ({"form": "pt2", "to": "a"}, r"^a: the name of a file in the format pt2 ends in \.pt2$"),
        ({"form": "safetensors", "to": "models/model.safetensors"}, r"^models/model\.safetensors: the trained model"),
        ({"form": "pth", "to": "models/../models/model.pth"}, r"model\.pth: the trained model and its card are there"),
        ({"form": "pth", "to": "params.d.pth"}, r"^params\.d\.json: the card of params\.d\.pth goes there, but"),
        ({"form": "onnx", "to": "directory.onnx"}, r"^directory\.onnx: a directory; give --output the name of a file$"),
    ],
)
def test_a_place_that_is_none_for_the_file_is_refused(export, evaluated, arguments, pattern):
    Path("directory.onnx").mkdir()
    Path("params.d.json").write_text("{}")

    refused(export, evaluated, pattern, **arguments)


def test_the_card_of_other_weights_is_not_written_over(export, evaluated):
    export("pth", to="out/digits.pth")
    card = Path("out/digits.json")
    card.write_text(card.read_text().replace(ModelCard.read(card).weights_sha256, "0" * 64))

    refused(
        export, evaluated, r"^out/digits\.json: the card of other weights, digits\.pth; give",
        form="safetensors", to="out/digits.safetensors",
    )  # fmt: skip


@pytest.mark.parametrize("model", [None, "1"])
def test_without_the_test_images_nothing_is_exported(export, evaluated, client, model):
    place = Path("data", "processed", "digits")
    place.rename("away")

    refused(
        export, evaluated, r"^data/processed/digits: does not hold the test images of .*; run `dvc repro preprocess`$",
        DarkroomError, model=model,
    )  # fmt: skip


def test_other_test_images_are_refused(export, evaluated, write_params):
    write_params(evaluated, preprocess__seed=5)
    config = load(evaluated / "params.yaml")
    for stage in (download, preprocess):
        stage.run(config, Workspace())

    refused(export, evaluated, r"^data/.*: does not hold the test images .* found [0-9a-f]{12}\); run", DarkroomError)


def test_a_version_that_is_not_there_is_refused_with_those_that_are(export, evaluated, client):
    refused(export, evaluated, r"^7: .*choose from: 1, challenger", TrackingError, model="7")


def test_looking_for_a_version_makes_no_store(export, evaluated):
    (evaluated / "mlflow.db").unlink()

    pattern = r"^no MLflow store at .*; `dvc repro` trains and registers a model"
    refused(export, evaluated, pattern, TrackingError, model="champion")
    assert not (evaluated / "mlflow.db").exists()


@pytest.fixture
def older(client, monkeypatch):
    """The version was registered without a card."""
    read = evaluated_model.Model.load

    def without_card(place):
        model = read(place)
        del model.metadata["card"]
        return model

    monkeypatch.setattr(evaluated_model.Model, "load", without_card)


@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_weights_alone_of_an_older_version_are_refused(form, export, evaluated, older):
    refused(
        export, evaluated, r"^version 1: registered without the settings .*; export it as onnx or pt2, or",
        form=form, model="1",
    )  # fmt: skip


@pytest.mark.parametrize("form", ["onnx", "pt2"])
def test_an_older_version_is_exported_with_its_graph(form, export, older, client):
    export(form, model="1")

    assert Path("models", "exported", f"{NAME}-1.{form}").is_file()
    assert f"export.{form}" in client.get_model_version(NAME, "1").tags


def test_a_store_that_is_away_stops_no_export_of_what_lies_here(export, evaluated, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    export("pth")

    assert Path("models", "exported", "model.pth").is_file()
    said = capsys.readouterr().err
    assert said.startswith("warning: MLflow store http://127.0.0.1:9 cannot be used")
    assert said.endswith("what the check finds is noted beside the file only\n")
