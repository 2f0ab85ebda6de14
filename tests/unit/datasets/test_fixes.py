"""What people decided about single images is applied to those alone, or refused as a whole."""

import re

import numpy as np
import pytest

from darkroom.data.cache import SPLITS
from darkroom.data.digests import as_hex, content_digest, stack
from darkroom.datasets.fixes import COLUMNS, Fix, apply_fixes, describe, read_fixes, write_fixes
from darkroom.datasets.source import DecodedDataset
from darkroom.errors import DataError

CLASSES = ("cat", "dog", "fox")
# Two images of each class in each split; the last two have the same content and the labels cat and fox.
LABELS = np.array([0, 0, 1, 1, 2, 2] * 3 + [0, 2])
PLACES = np.array([0] * 6 + [1] * 6 + [2] * 6 + [0, 0])
CONTENTS = [f"image {number}".encode() for number in range(18)] + [b"same", b"same"]
DIGESTS = stack(map(content_digest, CONTENTS))
HEX = list(as_hex(DIGESTS))
ROWS = {split: np.flatnonzero(number == PLACES) for number, split in enumerate(SPLITS)}


def images(**changes):
    count = len(LABELS)
    found = {
        "images": np.arange(count * 4, dtype=np.uint8).reshape(count, 1, 2, 2), "labels": LABELS.copy(),
        "splits": np.full(count, ""), "classes": CLASSES, "names": tuple(f"{row}.png" for row in range(count)),
        "digests": DIGESTS,
    }  # fmt: skip
    return DecodedDataset(**found | changes)


def fix(row, decision, new="", given=None, digest=None):
    label = CLASSES[LABELS[row]] if given is None else given
    return Fix(digest or HEX[row], f"{row}.png", label, decision, new, "Ann", "2026-11-29T12:00:00Z", f"line {row}")


def placed(rows):
    places = np.full(len(LABELS), -1)
    for number, split in enumerate(SPLITS):
        places[rows[split]] = number
    return places


def applied(*fixes, **changes):
    decoded, rows, counts = apply_fixes(fixes, images(**changes), ROWS)
    return decoded.labels, placed(rows), counts


@pytest.mark.parametrize(
    ("made", "label", "place"),
    [
        (("keep",), 1, 0),
        (("drop",), 1, -1),
        (("relabel", "fox"), 2, 0),
        (("move", "val"), 1, 1),
        (("move", "test"), 1, 2),
    ],
    ids=lambda value: str(value),
)
def test_a_decision_changes_its_image_and_no_other(made, label, place):
    labels, places, counts = applied(fix(2, *made))

    assert (labels[2], places[2]) == (label, place)
    others = np.arange(len(LABELS)) != 2
    assert (labels[others] == LABELS[others]).all()
    assert (places[others] == PLACES[others]).all()
    assert counts == {"keep": 0, "drop": 0, "relabel": 0, "move": 0} | {made[0]: 1}


def test_an_image_that_is_moved_to_its_own_split_is_kept():
    _, places, counts = applied(fix(2, "move", "train"), fix(8, "move", "test"))
    assert (places[2], places[8]) == (0, 2)
    assert counts == {"keep": 1, "drop": 0, "relabel": 0, "move": 1}


def test_what_was_given_is_left_as_it_is():
    decoded = images()
    before = {split: rows.copy() for split, rows in ROWS.items()}
    apply_fixes([fix(0, "relabel", "dog"), fix(1, "drop")], decoded, ROWS)
    assert (decoded.labels == LABELS).all()
    assert all((ROWS[split] == before[split]).all() for split in SPLITS)


def test_the_rows_of_a_split_stay_in_order():
    _, rows, _ = apply_fixes([fix(17, "move", "train"), fix(0, "move", "test")], images(), ROWS)
    assert all((np.diff(each) > 0).all() for each in rows.values())


def test_images_without_files_are_known_by_their_pixels():
    pixels = images().images
    given = fix(3, "drop", digest=content_digest(pixels[3].tobytes()).hex())
    _, places, _ = applied(given, digests=None, names=())
    assert np.flatnonzero(places == -1).tolist() == [3]


def test_of_identical_images_those_with_the_label_get_the_fix():
    _, places, counts = applied(fix(18, "drop"))
    assert np.flatnonzero(places == -1).tolist() == [18]
    assert counts["drop"] == 1
    same = LABELS.copy()
    same[19] = same[18]
    _, places, counts = applied(fix(18, "drop"), labels=same)
    assert np.flatnonzero(places == -1).tolist() == [18, 19]
    assert counts["drop"] == 2


def test_identical_images_of_two_labels_may_be_decided_differently(tmp_path):
    lines = [fix(18, "relabel", "fox"), fix(19, "keep")]
    write_fixes(tmp_path / "fixes.csv", lines)
    labels, _, _ = applied(*read_fixes(tmp_path / "fixes.csv"))
    assert labels[[18, 19]].tolist() == [2, 2]


def test_the_counts_are_said_in_words():
    assert describe({"keep": 1, "drop": 0, "relabel": 1200, "move": 2}) == "1 image kept, 1,200 relabeled, 2 moved"


@pytest.mark.parametrize(
    ("fixes", "message"),
    [
        ([fix(4, "drop", digest="0" * 32)], "line 4: no image has the content that 4.png had; it was changed"),
        (
            [fix(4, "drop", digest="0" * 32), fix(5, "drop", digest="1" * 32), fix(0, "keep")],
            "line 4: no image has the content that 4.png had (and 1 more line); it was changed",
        ),
        (
            [fix(4, "drop", digest="0" * 32), fix(5, "drop", digest="1" * 32)],
            "4.png had (and 1 more line); the images of all lines were changed or removed, or another dataset is set",
        ),
        ([fix(4, "relabel", "dgo")], "line 4: unknown class 'dgo'; did you mean 'dog'?"),
        ([fix(4, "drop", given="cat")], "line 4: 4.png is labeled 'fox' now, and not 'cat' as when it was decided;"),
        ([fix(4, "relabel", "fox", given="cat")], "labeled 'fox' now, and not 'cat' as when it was decided; remove the "
         "line, which says the same"),
        ([fix(4, "keep", given="wolf")], "line 4: 4.png is labeled 'fox' now, and not 'wolf'"),
        ([fix(2, "drop"), fix(3, "relabel", "cat")], "line 2 and 1 more line: class 'dog' has no train image left"),
        ([fix(row, "move", "test") for row in (2, 3)], "line 2 and 1 more line: class 'dog' has no train image left"),
        ([fix(row, "drop") for row in (2, 3, 8, 9, 14, 15)], "line 2 and 1 more line: class 'dog' has no image left"),
        ([fix(row, "drop") for row in ROWS["val"]], "line 6 and 5 more lines: split val has no image left"),
    ],
)  # fmt: skip
def test_what_does_not_fit_the_images_is_refused(fixes, message):
    with pytest.raises(DataError, match=re.escape(message)) as raised:
        applied(*fixes)
    assert len(raised.value.lines) == 1


def test_a_move_that_divides_a_group_is_refused_and_one_of_the_whole_group_is_not():
    groups = np.arange(len(LABELS))
    groups[[2, 3]] = 2
    groups[[0]] = 18  # with one that is dropped
    with pytest.raises(DataError, match=r"line 2: 2\.png is one of 2 images of a group.*move all of them"):
        applied(fix(2, "move", "val"), groups=groups)
    _, places, _ = applied(fix(0, "move", "val"), fix(18, "drop"), groups=groups)
    assert places[0] == 1


# --- the file ----------------------------------------------------------------------------------------------

HEADER = ",".join(COLUMNS)
LINE = f"{HEX[0]},0.png,cat,drop,,Ann,2026-11-29"


def test_a_file_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "fixes.csv"
    lines = [
        Fix(HEX[0], 'a "b", c\nd.png', " =cat ", "relabel", "<script>'", "", ""),
        Fix(HEX[1], "", "é", "keep", "", "あ", ""),
    ]  # fmt: skip
    write_fixes(path, lines)
    assert read_fixes(path) == lines


def test_no_file_is_no_fixes_and_neither_is_one_without_lines(tmp_path):
    assert read_fixes(tmp_path / "fixes.csv") == []
    (tmp_path / "fixes.csv").write_text(f"{HEADER}\n\n")
    assert read_fixes(tmp_path / "fixes.csv") == []


def test_what_a_spreadsheet_writes_is_read(tmp_path):
    columns = [*COLUMNS[1:], COLUMNS[0]]  # in another order
    text = f"{','.join(columns)}\r\n0.png,cat,drop,,Ann,2026-11-29,{HEX[0].upper()}\r\n"
    (tmp_path / "fixes.csv").write_text(text, encoding="utf-8-sig", newline="")
    assert read_fixes(tmp_path / "fixes.csv") == [Fix(HEX[0], "0.png", "cat", "drop", "", "Ann", "2026-11-29")]


def test_the_same_line_twice_counts_once(tmp_path):
    (tmp_path / "fixes.csv").write_text(f"{HEADER}\n{LINE}\n{LINE.replace('Ann', 'Bob')}\n")
    assert [found.who for found in read_fixes(tmp_path / "fixes.csv")] == ["Ann"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the columns are '', without digest, file, given, decision, new, who, when; expected"),
        (HEADER.replace("given", "label"), "line 1: the columns are 'digest,file,label,decision,new,who,when', without "
         "given; expected digest,file,given"),
        (f"{HEADER},note", "line 1: the columns are 'digest,file,given,decision,new,who,when,note'; expected"),
        (f"{HEADER},new", "line 1: the columns are"),
        (HEADER.replace(",", ";"), "line 1: the columns are separated by semicolons; expected digest,file,given"),
        (HEADER.replace(",", "\t"), "line 1: the columns are separated by tabs; expected digest,file,given"),
        (f"{HEADER}\n{LINE}\n{LINE},more", "line 3: 8 cells, expected 7"),
        (f"{HEADER}\nabc", "line 2: 1 cell, expected 7"),
        (f"{HEADER}\n{LINE.replace(HEX[0], '1.2E+31')}", "line 2: the digest '1.2E+31' is not 32 hexadecimal digits"),
        (f"{HEADER}\n{LINE.replace('drop', 'Drop')}", "line 2: unknown decision 'Drop'; did you mean 'drop'?"),
        (f"{HEADER}\n{LINE.replace('drop', 'remove')}", "line 2: unknown decision 'remove'; did you mean 'drop'?"),
        (f"{HEADER}\n{LINE.replace('drop,', 'move,valid')}", "line 2: unknown split 'valid' in column new; did"),
        (f"{HEADER}\n{LINE.replace('drop,', 'keep,dog')}", "line 2: keep takes nothing in column new, found 'dog'"),
        (f"{HEADER}\n{LINE.replace('drop,', 'relabel,cat')}", "line 2: relabel to 'cat', which was given"),
        (f"{HEADER}\n{LINE}\n\n{LINE.replace('drop,', 'move,val')}", "line 4: move val for 0.png, but line 2 says "
         "drop; remove one of the two"),
        (f'{HEADER}\n"{LINE}', "not a table that can be read"),
    ],
)  # fmt: skip
def test_a_file_that_was_edited_badly_is_refused(tmp_path, text, message):
    (tmp_path / "fixes.csv").write_text(text)
    with pytest.raises(DataError, match=re.escape(f"fixes.csv: {message}")) as raised:
        read_fixes(tmp_path / "fixes.csv")
    assert len(raised.value.lines) == 1


def test_what_is_no_text_and_what_is_no_file_are_refused(tmp_path):
    (tmp_path / "fixes.csv").write_bytes(f"{HEADER}\n".encode() + b"\xff\xfe,")
    with pytest.raises(DataError, match="save it as CSV UTF-8"):
        read_fixes(tmp_path / "fixes.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_fixes(tmp_path)
