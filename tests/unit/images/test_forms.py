"""What is read of every form of image file and layout of folders, and that the documentation says so."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from tests.unit.datasets.folders import FOLDER, quiet
from tests.unit.datasets.layouts import LAYOUTS
from tests.unit.images.forms import FORMS

from darkroom.config.settings import Dataset, Preprocess
from darkroom.errors import DataError
from darkroom.images.decoder import BrokenImageError, Decoder, read_header

PAGE = Path("docs/own-images.md")
ABOUTS = [form.about for form in FORMS]


def decoded(form):
    content = form.make()
    shape = np.shape(form.pixels)
    size = form.decoder.get("size") or shape[:2] or (6, 8)
    channels = 3 if len(shape) == 3 else 1
    return Decoder(channels, **{"size": size} | form.decoder)(content)


@pytest.mark.parametrize("form", [form for form in FORMS if not form.refused], ids=lambda form: form.about)
def test_a_form_is_read_as_its_owner_sees_it(form):
    expected = np.asarray(form.pixels).astype(int)
    expected = expected[None] if expected.ndim == 2 else expected.transpose(2, 0, 1)
    found = decoded(form).astype(int)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= form.within


@pytest.mark.parametrize("form", [form for form in FORMS if form.refused], ids=lambda form: form.about)
def test_a_form_that_cannot_be_read_rightly_is_refused_with_its_name(form):
    with pytest.raises(BrokenImageError, match=form.refused):
        decoded(form)


# Of these every file has colors, whether they are gray or not; MPO is made of JPEGs.
ALWAYS_COLOR = ("WebP", "AVIF")


@pytest.mark.parametrize(
    "form",
    [form for form in FORMS if form.pixels is not None and not {"bands"} & form.decoder.keys()],
    ids=lambda form: form.about,
)
def test_the_header_tells_gray_from_color(form):
    is_color = np.ndim(form.pixels) == 3 or any(name in form.about for name in ALWAYS_COLOR)
    assert read_header(form.make()).channels == (3 if is_color else 1)


PAGED = ("TIFF of two pages", "animated GIF", "animated WebP", "animated PNG")


@pytest.mark.parametrize("form", [form for form in FORMS if not form.refused], ids=lambda form: form.about)
def test_only_several_pages_or_frames_are_told_of(form):
    assert read_header(form.make()).has_pages == (form.about in PAGED)


def test_the_documentation_lists_every_form_that_is_tested():
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert [row for row in rows if row[0] in ABOUTS] == [(form.about, form.read) for form in FORMS]


def test_there_are_as_many_forms_as_people_have():
    assert len(set(ABOUTS)) == len(FORMS) >= 60


def read_folder(layout, tmp_path):
    source = layout.make(tmp_path / "source", layout.files)
    raw, scratch = tmp_path / "raw", tmp_path / "scratch"
    scratch.mkdir()
    FOLDER.download(Dataset(name="folder", path=str(source), **layout.dataset), raw, quiet)
    return FOLDER.decode(raw, Preprocess(), scratch, quiet)


@pytest.mark.parametrize("layout", [each for each in LAYOUTS if not each.refused], ids=lambda layout: layout.about)
def test_a_layout_is_read_as_its_owner_means_it(layout, tmp_path):
    found = read_folder(layout, tmp_path)
    assert found.classes == layout.classes
    assert Counter(found.splits.tolist()) == layout.splits
    unlabeled = found.left_out["unlabelled"]["count"]
    assert sum(found.left_out["left_out"].values()) + unlabeled == layout.left_out
    # Every file on disk is an image that is read, or left out.
    assert len(found.images) + layout.left_out == len(layout.files)


@pytest.mark.parametrize("layout", [each for each in LAYOUTS if each.refused], ids=lambda layout: layout.about)
def test_a_layout_that_may_mean_two_things_is_refused(layout, tmp_path):
    with pytest.raises(DataError, match=f"(?s){layout.refused}"):
        read_folder(layout, tmp_path)


def test_the_documentation_lists_every_layout_that_is_tested():
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    abouts = [layout.about for layout in LAYOUTS]
    assert [row for row in rows if row[0] in abouts] == [(layout.about, layout.read) for layout in LAYOUTS]
