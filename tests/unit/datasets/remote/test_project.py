"""Images in an object store as a project's dataset."""

from tests import s3
from tests.unit.datasets.remote.birds import BIRDS


def test_the_other_stages_need_nothing_of_it(server, project, darkroom):
    root = project(dataset__name="folder", dataset__path=BIRDS)

    assert darkroom("download")[0] == 0
    server.reads.clear()
    assert darkroom("preprocess")[0] == 0

    assert server.reads == []
    written = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    for secret in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert s3.ENVIRONMENT[secret].encode() not in written


def test_init_and_inspect_look_at_what_is_there(server, project, darkroom):
    root = project()
    (root / "recipes").mkdir()
    (root / "recipes" / "photos.yaml").write_text("recipe: {format: 1, about: pretrained}\n")
    code, output, errors = darkroom("init", BIRDS, "--force")
    assert (code, errors) == (0, "")
    assert output.startswith(f"{BIRDS}: 16 images in 2 classes (owl 8, wren 8)")
    assert f"path: {BIRDS} " in (root / "params.yaml").read_text()
    server.reads.clear()
    code, output, _ = darkroom("datasets", "--inspect", BIRDS)
    assert code == 0
    assert f'path: "{BIRDS}"' in output
    assert darkroom("download")[0] == 0
    assert server.reads == []


def test_init_reads_the_labels_of_a_table(server, project, darkroom):
    server.put(
        {"birds/labels.csv": b"file,label\n" + b"".join(f"owl/{n}.png,{'ab'[n % 2]}\n".encode() for n in range(8))}
    )
    recipes = project() / "recipes"
    recipes.mkdir()
    (recipes / "photos.yaml").write_text("recipe: {format: 1, about: pretrained}\n")
    code, output, _ = darkroom("init", f"{BIRDS}/labels.csv", "--force")
    assert code == 0
    assert "8 images in 2 classes (a 4, b 4)" in output
