from darkroom.utils.markdown import plain, table


def test_a_table_has_a_line_of_alignments_below_its_header():
    assert table(["a", "b"], [["1", "2"]], "---:") == "| a | b |\n| --- | ---: |\n| 1 | 2 |"


def test_a_bar_does_not_end_a_cell():
    assert table(["a"], [["x | y"], [plain("x | y")]]).splitlines()[2:] == [r"| x \| y |"] * 2


def test_plain_text_is_shown_as_it_is():
    assert plain("*a*\n<b>") == r"\*a\* \<b\>"
