"""A project with a champion, which a server runs in, and its registry."""

import shutil

from tests.conftest import QUICK
from tests.store import copy_store

from darkroom.promotion.registry import REGISTERED_BY_TAG

NAME = "darkroom-digits"


def make_project(evaluated_once, tmp_path_factory, write_params, **settings):
    """A project whose server looks at the registry often, and an empty home of its user."""
    root = tmp_path_factory.mktemp("served") / "project"
    shutil.copytree(evaluated_once, root)
    copy_store(evaluated_once, root)
    write_params(root, **QUICK, serve__follow_seconds=0.2, **settings)
    (root / "home").mkdir()
    return root


def again(client, version):
    """Register the model of ``version`` once more, as another version."""
    tags = {key: value for key, value in version.tags.items() if key != REGISTERED_BY_TAG}
    model_id = str(version.source).removeprefix("models:/")
    return client.create_model_version(version.name, version.source, version.run_id, tags=tags, model_id=model_id)


def picture_of(root):
    """A test image of the project, its file."""
    return next((root / "reports/evaluate/gallery").glob("*.png")).read_bytes()
