"""What is written into the audit's page."""

import base64
import hashlib
import io
import json
import re
import subprocess

import numpy as np
import pytest
from PIL import Image
from tests.unit.audit.pictures import Noise, digest

from darkroom.audit.findings import ImageRef
from darkroom.audit.page import write
from darkroom.audit.page.write import choose, current_user, write_page
from darkroom.datasets.fixes import Fix
from darkroom.pages.images import data_uri

HARMFUL = ("</script><script>alert(1)</script>", "<!--", '"quoted"', "'", "${data}", "$data", "a\u2028b")


def fix(row, decision="keep", given="a", new=""):
    return Fix(digest(row), f"{row}.png", given, decision, new, "Ann", "2026-11-29T12:00:00Z")


@pytest.fixture
def written(tmp_path):
    def written(findings, images, *, fixes=(), who="Ann", **options):
        path = tmp_path / "index.html"
        write_page(path, findings, images, classes=images.classes, fixes=fixes, who=who, dataset="folder", **options)
        return path.read_text(encoding="utf-8")

    return written


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_names_come_back_as_they_are_and_end_no_block(written):
    images = Noise(HARMFUL)
    plain = written([], Noise(("a", "b")))
    page = written([images.finding(row) for row in range(len(HARMFUL))], images, who=HARMFUL[0])
    assert data_of(page)["classes"] == list(HARMFUL)
    assert [found["given"] for found in data_of(page)["findings"]] == list(HARMFUL)
    assert data_of(page)["who"] == HARMFUL[0]
    assert [page.count(mark) for mark in ("<script", "</script", "<!--")] == [
        plain.count("<script"),
        plain.count("</script"),
        0,
    ]


def test_only_the_pages_own_script_and_style_may_run(written):
    page = written([], Noise(("a", "b")))
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    assert policy.startswith("default-src 'none'; img-src data:;")
    for kind, text in (("style", re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]),
                       ("script", re.findall(r"<script>(.*?)</script>", page, re.DOTALL)[0])):  # fmt: skip
        own = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{own}'" in policy


def test_there_is_no_address_in_the_page(written):
    images = Noise(("a", "b"))
    assert "//" not in re.sub(r"(?m)^\s*//.*$|base64,[^\"]*", "", written([images.finding(0, neighbors=[1])], images))


def test_an_image_is_written_once_however_many_findings_show_it(written):
    images = Noise(("a", "b"))
    found = data_of(written([images.finding(0, neighbors=[1, 2]), images.finding(0, "dark", neighbors=[1])], images))
    assert len(found["images"]) == 3
    assert found["findings"][0]["image"] == found["findings"][1]["image"]
    assert found["findings"][0]["neighbors"][:1] == found["findings"][1]["neighbors"]


def opened(uri):
    head, _, content = uri.partition(",")
    return head, Image.open(io.BytesIO(base64.b64decode(content)))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 64, 40), (1, 1, 1)])
def test_small_images_are_written_as_they_are(shape):
    pixels = Noise(("a",), shape).pixels(ImageRef("train", 0))
    head, image = opened(data_uri(pixels, 8))
    assert head == "data:image/png;base64"
    assert (np.asarray(image) == (pixels[0] if shape[0] == 1 else pixels.transpose(1, 2, 0))).all()


def test_photographs_are_made_smaller(written):
    images = Noise(("a", "b"), (3, 300, 600))
    found = data_of(written([images.finding(0, neighbors=[1])], images))
    assert [opened(image["source"])[1].size for image in found["images"]] == [(384, 192), (160, 80)]
    assert opened(found["images"][0]["source"])[0] == "data:image/jpeg;base64"


def test_of_many_findings_each_kind_has_its_most_suspicious_ones(monkeypatch):
    monkeypatch.setattr(write, "MAX_SHOWN", 10)
    images = Noise(("a", "b"))
    many = [images.finding(row, "label", score=row / 100) for row in range(90)]
    few = [images.finding(row, "dark", score=row / 100) for row in range(3)]
    chosen = [(found.kind, found.image.row) for found in choose([*few, *many], [])]
    assert chosen == [("label", 89 - rank) for rank in range(7)] + [("dark", row) for row in (2, 1, 0)]


def test_what_was_decided_comes_last(monkeypatch):
    monkeypatch.setattr(write, "MAX_SHOWN", 3)
    images = Noise(("a", "b"))
    findings = [images.finding(row, score=1 - row / 10) for row in range(4)]
    assert [found.image.row for found in choose(findings, [fix(0), fix(1)])] == [2, 3, 0]


def test_the_given_label_is_the_one_before_a_fix(written):
    images = Noise(("a", "b"))
    fixes = [fix(1, "relabel", "a", "b"), fix(2, "keep", "a")]
    found = data_of(written([images.finding(row) for row in (1, 2, 3)], images, fixes=fixes))["findings"]
    # The image 1 is labeled b by its fix, 3 without one.
    assert {each["digest"]: each["given"] for each in found} == {digest(1): "a", digest(2): "a", digest(3): "b"}


def test_the_given_label_is_known_when_its_fix_was_removed_after_it_was_applied(written):
    images = Noise(("a", "b"))
    page = data_of(written([images.finding(1)], images, fixes=[], applied=[fix(1, "relabel", "a", "b")]))
    assert [each["given"] for each in page["findings"]] == ["a"]
    assert page["fixes"] == []


def test_of_identical_images_the_one_with_the_given_label_is_meant(written):
    images = Noise(("a", "b"))
    fixes = [fix(2, "relabel", "b", "a"), fix(2, "keep", "a")]
    (found,) = data_of(written([images.finding(2)], images, fixes=fixes))["findings"]
    assert found["given"] == "a"


def test_the_user_is_the_one_that_git_knows(tmp_path, monkeypatch):
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    subprocess.run(["git", "config", "user.name", "Ann B."], cwd=tmp_path, check=True)
    assert current_user(tmp_path) == "Ann B."
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(write.getpass, "getuser", lambda: "ann")
    assert current_user(tmp_path) == "ann"
