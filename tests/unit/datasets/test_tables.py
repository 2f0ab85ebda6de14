"""Tables of labels: where they lie, and which of their columns is what."""

import io
import tarfile
import zipfile

import pyarrow as pa
import pytest
from pyarrow import parquet

from darkroom.datasets.tables import COLUMNS, find_table, read_table, store_table
from darkroom.errors import DataError


@pytest.fixture
def read(tmp_path):
    """Read a table of this content."""

    def read(content, name="t.csv"):
        path = tmp_path / "stored"
        if isinstance(content, dict):
            parquet.write_table(pa.table(content), path)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(path, name)

    return read


def texts(table, role):
    return table.columns[role].to_pylist()


def test_a_table_has_files_and_labels(read):
    table = read("image,label\na.png,cat\nb.png,dog\n")
    assert (texts(table, "file"), texts(table, "label")) == (["a.png", "b.png"], ["cat", "dog"])
    assert table.reading == "t.csv: files from column 'image', labels from column 'label'"


@pytest.mark.parametrize("role", COLUMNS)
def test_columns_are_known_by_their_usual_names_in_any_case(read, role):
    rest = [name for name in ("file", "label") if name != role]
    for name in " ".join(COLUMNS[role]).split():
        for written in (name, name.upper(), f" {name.capitalize()}_"):
            table = read(",".join([written, *rest]) + "\n" + ",".join(["x", *"yz"[: len(rest)]]) + "\n")
            assert texts(table, role) == ["x"]


def test_spaces_and_underscores_in_names_of_columns_do_not_matter(read):
    table = read("Image ID,Class_Name,Patient Id,Data\n1,cat,p,x\n")
    assert table.named == {"file": "Image ID", "label": "Class_Name", "group": "Patient Id"}


def test_a_column_of_files_is_preferred_to_one_of_numbers(read):
    assert read("id,filename,label\n1,a.png,cat\n").named["file"] == "filename"


def test_a_column_called_group_is_preferred_to_one_of_patients(read):
    table = read("file,label,patient,group\na.png,cat,p,g\n")
    assert (texts(table, "group"), list(table.others)) == (["g"], ["patient"])


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("file,path,label", "'file' and 'path' may each be the column of the files; rename the other or take it away"),
        ("file,label,class,y", "'label' and 'class' and 'y' may each be the column of the labels; rename the others"),
        ("file,label,patient_id,camera", "'patient_id' and 'camera' may each be the column of the groups"),
        ("file,label,set,subset", "'set' and 'subset' may each be the column of the splits"),
        ("file,label,label", "two columns 'label'"),
    ],
)
def test_columns_of_which_two_may_be_meant_are_refused(read, header, found):
    with pytest.raises(DataError, match=f"t.csv: .*{found}"):
        read(f"{header}\n" + ",".join("x" for _ in header.split(",")) + "\n")


@pytest.mark.parametrize(
    ("header", "role", "names"),
    [
        ("image,MEL,NV", "label", "'image', 'MEL', 'NV'"),
        ("size,label", "file", "'size', 'label'"),
        ("a.png,cat", "file", "'a.png', 'cat'"),
    ],
)
def test_a_missing_column_is_refused_with_the_columns_found(read, header, role, names):
    with pytest.raises(
        DataError, match=rf"t.csv: no column of {role}s; found {names} in the first line; call it {role}"
    ):
        read(f"{header}\n1,2,3\n".replace(",3", "" if header.count(",") == 1 else ",3"))


def test_what_else_a_table_says_is_kept(read):
    table = read(",file,label,Age,sex\n0,a.png,cat,007,\n")
    assert {name: values.to_pylist() for name, values in table.others.items()} == {"Age": ["007"], "sex": [""]}
    assert table.reading.endswith("; kept for each image: 'Age', 'sex'")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_tables_of_a_spreadsheet_are_read(read, separator):
    rows = [["Datei", "file", "label"], ['"a, b; c"', "é.png", "Käse"], ["", "b.png", "NA"]]
    table = read("\r\n".join(separator.join(row) for row in rows).encode("utf-8-sig") + b"\r\n\r\n")
    assert (texts(table, "file"), texts(table, "label")) == (["é.png", "b.png"], ["Käse", "NA"])


def test_cells_are_text_as_it_is_written_without_spaces_around_it(read):
    table = read("file,label\n001, 1.0\n2e5 ,True\nnan,null\n")
    assert (texts(table, "file"), texts(table, "label")) == (["001", "2e5", "nan"], ["1.0", "True", "null"])


def test_cells_may_hold_breaks_of_lines(read):
    assert texts(read('file,label,note\na.png,cat,"one\ntwo"\nb.png,dog,\n'), "label") == ["cat", "dog"]


def test_rows_that_a_quotation_mark_swallows_are_refused(read):
    rows = ["a.png,cat,ok", 'b.png,cat,"', "c.png,dog,ok", "d.png,dog,ok", 'e.png,dog,"', "f.png,dog,ok"]
    match = (
        r"^t\.csv: a cell in column 'note' has 3 lines, of which 3 look like rows of the table, in line 3, of b\.png: "
        r"a quotation mark is too many or missing$"
    )
    with pytest.raises(DataError, match=match):
        read("\n".join(["file,label,note", *rows]) + "\n")


def test_a_note_of_several_lines_may_have_as_many_commas_as_a_row(read):
    table = read('file,label,note\na.png,cat,"small, round, red\nand, as said, old"\nb.png,dog,ok\n')
    assert texts(table, "label") == ["cat", "dog"]


def test_a_parquet_file_is_read(read):
    table = read({"image_id": [7, 8], "target": pa.array([1.0, 0.0]), "age": [3, None]}, "t.parquet")
    assert (texts(table, "file"), texts(table, "label")) == (["7", "8"], ["1", "0"])
    assert table.others["age"].to_pylist() == ["3", ""]


def test_images_in_a_parquet_file_are_left_out(read):
    table = read({"image": [{"bytes": b"x"}], "thumb": [b"x"], "path": ["a.png"], "label": ["cat"]}, "t.parquet")
    assert (texts(table, "file"), table.others) == (["a.png"], {})


@pytest.mark.parametrize("role", ["file", "label", "patient"])
def test_empty_cells_are_refused_with_their_number_and_the_first_line(read, role):
    rows = [{"file": f"{row}.png", "label": "cat", "patient": "p"} for row in range(4)]
    rows[1][role] = rows[3][role] = " "
    content = "file,label,patient\n" + "".join(",".join(row.values()) + "\n" for row in rows)
    with pytest.raises(DataError, match=rf"t.csv: 2 rows without a \w+ in column '{role}', the first in line 3; fill"):
        read(content)


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_number_that_is_missing_is_an_empty_cell(read, missing):
    with pytest.raises(
        DataError, match="1 row without a label in column 'y', the first in row 2; fill in or remove it"
    ):
        read({"file": ["a", "b"], "y": [1.0, missing]}, "t.parquet")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"\nfile,label\n", "its first line, which names the columns, is empty"),
        (b"file,label\n", "no rows"),
        (b"file,label\na.png,cat\nb.png\n", "Row #3: Expected 2 columns, got 1: b.png"),
        (b"file,label\na.png,cat,x\n", "Expected 2 columns, got 3"),
        (b"file,label\na.png,K\xe4se\n", "save it as CSV UTF-8"),
        ("file,label\na.png,cat\n".encode("utf-16"), "save it as CSV UTF-8"),
    ],
)
def test_a_damaged_table_is_refused_with_the_reason(read, content, reason):
    with pytest.raises(DataError, match=f"t.csv: .*{reason}"):
        read(content)


def test_a_first_line_for_excel_alone_is_refused(read):
    with pytest.raises(DataError, match=r"its first line is 'sep=;', which only Excel reads; remove the line$"):
        read("sep=;\nfile;label\na.png;cat\n")


def test_a_parquet_file_that_is_none_is_refused(read):
    with pytest.raises(DataError, match=r"t\.parquet: not a table that can be read"):
        read(b"file,label\na.png,cat\n", "t.parquet")


TEXT = "file,label\na.png,cat\n"


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A directory of images, seen from the project's root, and a place for what is downloaded."""
    (tmp_path / "images").mkdir()
    (tmp_path / "raw").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path / "images"


@pytest.mark.parametrize("given", ["labels.csv", "images/labels.csv", "{images}/labels.csv"])
def test_a_table_is_copied_from_the_dataset(images, tmp_path, given):
    (images / "labels.csv").write_text(TEXT)
    store_table(given.format(images=images), images, tmp_path / "raw")
    assert find_table(tmp_path / "raw").read_text() == TEXT


def test_another_table_takes_the_place_of_the_first_and_none_that_of_the_other(images, tmp_path):
    (images / "a.csv").write_text(TEXT)
    parquet.write_table(pa.table({"file": ["a"], "label": ["b"]}), images / "b.parquet")
    store_table("a.csv", images, tmp_path / "raw")
    store_table("b.parquet", images, tmp_path / "raw")
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["b.parquet"]
    store_table(None, images, tmp_path / "raw")
    assert find_table(tmp_path / "raw") is None


def test_a_table_that_cannot_be_read_leaves_the_first_one_alone(images, tmp_path):
    (images / "a.csv").write_text(TEXT)
    store_table("a.csv", images, tmp_path / "raw")
    (images / "a.csv").write_text("nothing\n")
    with pytest.raises(DataError, match=r"^a\.csv: no column of files"):
        store_table("a.csv", images, tmp_path / "raw")
    assert find_table(tmp_path / "raw").read_text() == TEXT


def test_a_table_of_a_directory_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: not found; set dataset\.path to where the images"):
        store_table("labels.csv", tmp_path / "nowhere", tmp_path / "raw")


def test_without_a_table_there_is_nothing_to_store(tmp_path):
    store_table(None, tmp_path / "nowhere", tmp_path / "raw")
    assert find_table(tmp_path / "raw") is None


@pytest.mark.parametrize("given", ["labels.csv", "../labels.csv"])
def test_a_table_outside_the_dataset_is_refused_as_its_changes_would_go_unnoticed(images, tmp_path, given):
    (tmp_path / "labels.csv").write_text(TEXT)
    (tmp_path.parent / "labels.csv").write_text(TEXT)
    with pytest.raises(DataError, match=r"labels\.csv is outside dataset\.path .* would go unnoticed; put it there"):
        store_table(given, images, tmp_path / "raw")


def test_a_missing_table_and_one_of_another_kind_are_refused(images, tmp_path):
    with pytest.raises(DataError, match=r"dataset\.labels: no labels\.csv in dataset\.path"):
        store_table("labels.csv", images, tmp_path / "raw")
    with pytest.raises(DataError, match=r"labels\.xlsx: expected a table, \.csv or \.parquet; save it as CSV UTF-8"):
        store_table("labels.xlsx", images, tmp_path / "raw")


def archived(path, names):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, TEXT)
    else:
        with tarfile.open(path, "w:gz") as packed:
            for name in names:
                member = tarfile.TarInfo(name)
                member.size = len(TEXT)
                packed.addfile(member, io.BytesIO(TEXT.encode()))
    return path


@pytest.mark.parametrize("name", ["pets.zip", "pets.tar.gz"])
def test_a_table_is_copied_out_of_an_archive(images, tmp_path, name):
    source = archived(tmp_path / name, ["pets/labels.csv", "pets/1.png"])
    store_table("pets/labels.csv", source, tmp_path / "raw")
    assert find_table(tmp_path / "raw").read_text() == TEXT


@pytest.mark.parametrize("name", ["pets.zip", "pets.tar.gz"])
def test_tables_of_an_archive_are_named_where_the_one_asked_for_is_not_there(images, tmp_path, name):
    source = archived(tmp_path / name, ["pets/labels.csv", "pets/1.png"])
    with pytest.raises(DataError, match=r"no labels\.csv in dataset\.path .*; it holds pets/labels\.csv; give the"):
        store_table("labels.csv", source, tmp_path / "raw")
