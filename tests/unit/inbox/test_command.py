"""`darkroom inbox`: what is listed, chosen and accepted, and what is refused."""

import csv
import fcntl
import io
import json
import os
import re
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tests.defaults import write_params
from tests.inbox_project import SETTINGS, picture, put
from tests.unit.refusals import refused

from darkroom.commands import inbox
from darkroom.data.batches import read_split
from darkroom.data.cache import DatasetCard
from darkroom.datasets.near_duplicates import audit
from darkroom.inbox.acceptance import COLUMNS
from darkroom.inbox.store import read_inbox


def saved(root, *decisions, header=COLUMNS):
    """What the page saves of (digest, decision, label)."""
    path = root / "inbox.csv"
    with path.open("w", newline="") as opened:
        table = csv.writer(opened)
        table.writerow(header)
        table.writerows((*each, "Ann", "2026-01-03T00:00:00Z") for each in decisions)
    return str(path)


def table(root):
    with (root / "data/folder/inbox/labels.csv").open(newline="") as opened:
        return list(csv.DictReader(opened))


def files(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_it_lists_all_and_asks_about_each_thing_once(root, darkroom, monkeypatch):
    plain = [put(root, picture(1000 + number)) for number in range(4)]
    twin = np.clip(picture(1000).astype(int) + 3, 0, 255).astype(np.uint8)
    alike = put(root, twin)
    named = put(root, picture(2000), label="dog")
    card = DatasetCard.read(root / "data/processed/folder")
    test = read_split(root / "data/processed/folder", card, "test").images[0].numpy()
    known = put(root, np.clip(test.astype(int) + 3, 0, 255).astype(np.uint8))
    # Of a large dataset the images of all splits are compared too.
    monkeypatch.setattr(audit, "MOST_COMPARED", 10)

    code, output, errors = darkroom("inbox")

    assert code == 0
    assert output.splitlines()[0] == "data/inbox: 6 pictures (undecided 5, named 1), 0.0 MB"
    assert "removed: 1 alike an image of the val or test split" in output
    assert "left out: 1 alike another one" in output
    assert not (root / "data/inbox" / f"{known}.png").exists()
    assert "5 pictures to label" in errors
    page = (root / "reports/inbox/index.html").read_text()
    assert known not in page
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    asked = {each["digest"]: set(each["alike"]) for each in data["pictures"]}
    (first,) = asked.keys() & {plain[0], alike}
    assert asked == {digest: set() for digest in (*plain[1:], named)} | {first: {plain[0], alike} - {first}}
    found = json.loads(darkroom("inbox", "--json", "--images", "2")[1])
    assert len(found["pictures"]) == 6
    assert found["chosen"][0] == named
    assert len(found["chosen"]) == 2


def test_labeled_pictures_are_trained_on_with_their_origin_and_never_tested_on(root, darkroom):
    digests = [put(root, picture(1000 + number), label="dog" if number == 0 else None) for number in range(12)]
    listed = DatasetCard.read(root / "data/processed/folder")
    before = read_split(root / "data/processed/folder", listed, "test").images
    decisions = [(digest, "label", ("cat", "fox")[number % 2]) for number, digest in enumerate(digests[:10])]

    code, output, _ = darkroom("inbox", "--accept", saved(root, *decisions, (digests[10], "discard", "")))

    assert code == 0
    assert "10 pictures joined the train split" in output
    assert "1 discarded, 1 left" in output
    assert [each.record.digest for each in read_inbox(root / "data/inbox")[0]] == [digests[11]]
    rows = table(root)
    assert [(row["file"], row["label"]) for row in rows] == [(f"{each[0]}.png", each[2]) for each in decisions]
    first = {key: rows[0][key] for key in ("model", "version", "answer", "reason", "received", "who", "when")}
    assert first == {
        "model": "m", "version": "3", "answer": "cat", "reason": "named", "received": "2026-01-02T03:04:05+00:00",
        "who": "Ann", "when": "2026-01-03T00:00:00Z",
    }  # fmt: skip
    for stage in ("download", "preprocess"):
        assert darkroom(stage)[0] == 0
    with (root / "data/processed/folder/files.csv").open(newline="") as opened:
        joined = {row["file"]: row for row in csv.DictReader(opened) if row["file"].startswith("inbox/")}
    assert {row["split"] for row in joined.values()} == {"train"}
    assert [joined[f"inbox/{each[0]}.png"]["class"] for each in decisions] == [each[2] for each in decisions]
    card = DatasetCard.read(root / "data/processed/folder")
    assert card.sizes["train"] == listed.sizes["train"] + 10
    assert np.array_equal(read_split(root / "data/processed/folder", card, "test").images, before)


def test_when_all_are_discarded_the_dataset_stays_as_it_is(root, darkroom):
    digests = [put(root, picture(1000 + number)) for number in range(2)]
    before = files(root / "data/folder")
    code, output, _ = darkroom("inbox", "--accept", saved(root, *((digest, "discard", "") for digest in digests)))
    assert code == 0
    assert "0 pictures joined the train split" in output
    assert "2 discarded, 0 left" in output
    assert read_inbox(root / "data/inbox") == ([], [])
    assert files(root / "data/folder") == before
    assert not (root / "data/folder/inbox").exists()


def nearly(pixels, step):
    return np.clip(pixels.astype(int) + step, 0, 255).astype(np.uint8)


def test_what_shows_an_accepted_picture_is_removed_unless_somebody_has_named_its_class(root, darkroom):
    digests = [put(root, picture(1000 + number)) for number in range(3)]
    assert darkroom("inbox", "--accept", saved(root, *((digest, "label", "cat") for digest in digests[:2])))[0] == 0
    assert put(root, picture(1000)) == digests[0]
    put(root, nearly(picture(1000), 3))
    named = put(root, nearly(picture(1001), 3), label="dog")
    code, output, _ = darkroom("inbox")
    assert code == 0
    assert "removed: 2 alike a picture that has joined the dataset" in output
    assert {path.stem for path in (root / "data/inbox").glob("*.png")} == {digests[2], named}
    assert set(json.loads(darkroom("inbox", "--json")[1])["chosen"]) == {digests[2], named}


@pytest.mark.parametrize("again", [False, True])
def test_a_later_decision_about_a_picture_that_joined_changes_its_label_or_removes_it(root, darkroom, again):
    digests = [put(root, picture(1000 + number)) for number in range(4)]
    assert darkroom("inbox", "--accept", saved(root, *((digest, "label", "cat") for digest in digests[:3])))[0] == 0
    if again:  # a server has kept them once more
        assert [put(root, picture(1000 + number)) for number in range(3)] == digests[:3]
    decisions = [(digests[0], "label", "dog"), (digests[1], "discard", ""), (digests[2], "label", "cat")]
    code, output, errors = darkroom("inbox", "--accept", saved(root, *decisions))
    assert code == 0
    assert "0 pictures joined the train split, 1 got another label, 1 removed from it, with labels in" in output
    assert "; 0 discarded, 1 left" in output
    assert "dvc repro" in errors
    assert [(row["file"], row["label"]) for row in table(root)] == [
        (f"{digests[0]}.png", "dog"),
        (f"{digests[2]}.png", "cat"),
    ]
    assert {path.stem for path in (root / "data/folder/inbox").glob("*.png")} == {digests[0], digests[2]}
    assert [each.record.digest for each in read_inbox(root / "data/inbox")[0]] == [digests[3]]


def test_servers_wait_while_pictures_are_moved(root, darkroom, monkeypatch):
    digest = put(root, picture(1000))
    held = []

    def watch(name):
        real = getattr(inbox, name)

        def watched(*arguments):
            opened = os.open(root / "data/inbox", os.O_RDONLY)
            with suppress(BlockingIOError):
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                raise AssertionError("the inbox is free")
            os.close(opened)
            held.append(name)
            return real(*arguments)

        monkeypatch.setattr(inbox, name, watched)

    watch("read_inbox")
    watch("accept")
    assert darkroom("inbox", "--accept", saved(root, (digest, "label", "cat")))[0] == 0
    assert held == ["read_inbox", "accept"]


def test_pictures_alike_a_decided_one_are_removed_with_it(root, darkroom):
    digests = [put(root, picture(1000 + number)) for number in range(5)]
    first = [(digests[4], "label", "cat")]
    assert darkroom("inbox", "--accept", saved(root, *first))[0] == 0
    decisions = [(digests[0], "label", "cat"), (digests[1], "alike", ""), (digests[2], "alike", "")]
    # What has joined stays there.
    path = saved(root, *decisions, (digests[4], "alike", ""))
    code, output, _ = darkroom("inbox", "--accept", path)
    assert code == 0
    assert "1 picture joined the train split, with" in output
    assert "; 0 discarded, 2 alike a decided one removed, 1 left" in output
    assert [row["file"] for row in table(root)] == [f"{digests[4]}.png", f"{digests[0]}.png"]
    assert [each.record.digest for each in read_inbox(root / "data/inbox")[0]] == [digests[3]]
    assert darkroom("inbox", "--accept", path)[0] == 0


def test_an_interrupted_call_is_finished_by_the_next_one(root, darkroom, monkeypatch):
    digests = [put(root, picture(1000 + number)) for number in range(4)]
    labels = [(digest, "label", "cat") for digest in digests[1:]]
    path = saved(root, (digests[0], "discard", ""), *labels)
    unlink = type(root).unlink

    def killed(path, **options):
        if path.name == f"{digests[2]}.png":
            raise KeyboardInterrupt
        unlink(path, **options)

    monkeypatch.setattr(type(root), "unlink", killed)
    assert darkroom("inbox", "--accept", path)[0] == 130
    monkeypatch.setattr(type(root), "unlink", unlink)
    assert darkroom("inbox", "--accept", path)[0] == 0
    assert [row["file"] for row in table(root)] == [f"{digest}.png" for digest in digests[1:]]
    assert read_inbox(root / "data/inbox") == ([], [])


def test_an_empty_inbox_is_told_so(root, darkroom):
    code, output, errors = darkroom("inbox")
    assert (code, output, errors) == (0, "", "inbox: data/inbox is empty\n")
    code, output, _ = darkroom("inbox", "--json")
    assert code == 0
    assert json.loads(output) == {"pictures": [], "chosen": []}


def damage(root, digest):
    """Such a picture can be opened, but not decoded."""
    path = root / "data/inbox" / f"{digest}.png"
    with Image.open(path) as image:
        texts, size = image.info, (image.height, image.width)
    info = PngInfo()
    info.add_itxt("darkroom", texts["darkroom"])
    written = io.BytesIO()
    Image.fromarray(np.zeros(size, np.uint8)).save(written, "PNG", pnginfo=info)
    start = written.getvalue().index(b"IDAT")
    content = bytearray(written.getvalue())
    length = int.from_bytes(content[start - 4 : start], "big")
    content[start + 4 : start + 4 + length] = bytes(length)
    content[start + 4 + length : start + 8 + length] = zlib.crc32(content[start : start + 4 + length]).to_bytes(
        4, "big"
    )
    path.write_bytes(content)


def test_a_picture_that_cannot_be_decoded_is_left_out_with_a_warning(root, darkroom):
    digests = [put(root, picture(1000 + number)) for number in range(2)]
    damage(root, digests[0])
    code, _, errors = darkroom("inbox")
    assert code == 0
    assert f"{digests[0]}.png: left out" in errors
    assert "1 picture to label" in errors


def test_an_inbox_of_which_nothing_can_be_decoded_is_refused(root, darkroom):
    for number in range(2):
        damage(root, put(root, picture(1000 + number)))
    code, _, errors = darkroom("inbox")
    assert code == 2
    assert errors.splitlines()[-1] == "error: data/inbox: none of its 2 pictures can be decoded; remove them"


@pytest.mark.parametrize(
    ("lines", "pattern"),
    [
        (["{digest},label,cot,Ann,"], r"inbox.csv: line 2: unknown class 'cot'; did you mean 'cat'\?"),
        (["{digest},keep,cat,Ann,"], r"line 2: unknown decision 'keep'; choose from: label, discard, alike"),
        (["{digest},label,,Ann,"], r"line 2: label takes a label, found ''"),
        (["{digest},discard,cat,Ann,"], r"line 2: discard takes no label, found 'cat'"),
        (["{digest},label"], r"line 2: 2 cells, expected 5"),
        (["{digest},label,cat,Ann,", "{digest},discard,,Ann,"], r"line 3: a second decision about"),
        (["{digest},label,cat,Ann,", "ffff,label,cat,Ann,"], r"line 3: no picture 'ffff' in the inbox"),
        (["../cat/00,discard,,Ann,"], r"line 2: no picture '../cat/00' in the inbox"),
    ],
)
def test_a_decision_that_cannot_be_is_refused_and_nothing_is_changed(root, darkroom, lines, pattern):
    digest = put(root, picture(1000))
    path = root / "inbox.csv"
    path.write_text("\n".join([",".join(COLUMNS), *lines]).format(digest=digest))
    before = files(root / "data")
    refused(darkroom("inbox", "--accept", str(path)), pattern)
    assert files(root / "data") == before


def test_another_file_is_refused(root, darkroom):
    refused(darkroom("inbox", "--accept", saved(root, header=("a", "b"))), r"line 1: the columns are 'a,b'; expected")
    (root / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    refused(
        darkroom("inbox", "--accept", "picture.png"),
        r"picture.png: not a table .*; expected the file that the page of `darkroom inbox` saves, in UTF-8",
    )
    refused(darkroom("inbox", "--accept", "nowhere.csv"), r"nowhere.csv: cannot be read \(no such file or directory\)")


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({"serve__inbox": None}, r"serve.inbox: not set"),
        ({"dataset__name": "mnist"}, r"dataset.name: mnist is a published dataset, and stays as it is; to train on"),
        ({"dataset__path": "s3://bucket/x"}, r"dataset.path: s3://bucket/x is not on this machine; copy it"),
        ({"dataset__path": "nowhere"}, r"dataset.path: nowhere not found"),
        ({"dataset__path": "params.yaml"}, r"dataset.path: params.yaml is an archive; unpack it"),
        ({"dataset__path": "taken"}, r"taken/inbox: the dataset has a folder of this name"),
    ],
)
@pytest.mark.parametrize("accepting", [False, True])
def test_what_pictures_cannot_join_is_refused_with_what_to_do(project, darkroom, settings, pattern, accepting):
    root = project(**(SETTINGS | settings))
    (root / "taken/inbox").mkdir(parents=True)
    Image.new("L", (4, 4)).save(root / "taken/inbox/1.png")
    put(root, picture(0))
    refused(darkroom("inbox", *(["--accept", saved(root)] if accepting else [])), pattern)


@pytest.mark.parametrize("inbox", ["data/folder", "data/folder/inbox", "data/other/../folder/cat"])
@pytest.mark.parametrize("command", [("inbox",), ("inbox", "--accept", "x.csv"), ("serve",)])
def test_an_inbox_in_the_dataset_is_refused_with_another_place(project, darkroom, inbox, command):
    project(**(SETTINGS | {"serve__inbox": inbox}))
    refused(
        darkroom(*command), r"serve.inbox: \S+ is in dataset.path, .*; set a directory .*, such as data/folder-inbox$"
    )


def test_the_home_directory_may_be_in_its_name(root, darkroom, monkeypatch):
    from darkroom.serving import one_process

    write_params(root, **(SETTINGS | {"serve__inbox": "~/data/inbox"}))
    monkeypatch.setenv("HOME", str(root))
    served = []
    monkeypatch.setattr(one_process, "serve", lambda config, *others: served.append(config.serve.inbox))
    assert darkroom("serve", "--port", "0")[0] == 0
    assert served == [str(root / "data/inbox")]
    put(root, picture(1000))
    code, output, _ = darkroom("inbox")
    assert code == 0
    assert output.startswith(f"{root / 'data/inbox'}: 1 picture ")


def test_listing_and_accepting_at_once_are_refused(root, darkroom):
    refused(darkroom("inbox", "--json", "--accept", "x"), "give one of them")
