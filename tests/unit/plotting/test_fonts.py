"""Names in any script: drawn with a font that has the characters, or told of once."""

import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image

from darkroom import plotting
from darkroom.plotting import fonts


@pytest.fixture(autouse=True)
def machine(monkeypatch, tmp_path):
    """A machine with matplotlib's own fonts, which has told of nothing yet; gives how another font gets there."""
    manager = font_manager.fontManager
    own = [entry for entry in manager.ttflist if "mpl-data" in entry.fname]
    installed = []
    monkeypatch.setattr(manager, "ttflist", own)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: installed)
    monkeypatch.setattr(fonts, "_reported", set())
    forget = fonts._families.cache_clear
    forget()

    def install(characters, family="Made Sans"):
        path = tmp_path / f"{family}.ttf"
        make_font(path, characters, family)
        installed.append(str(path))

    yield install
    forget()
    manager._findfont_cached.cache_clear()


def make_font(path, characters, family):
    """A font in which each of the characters is a black square as high as it is wide."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, 1000), (1000, 1000), (1000, 0)):
        pen.lineTo(corner)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({ord(character): "square" for character in characters})
    builder.setupGlyf({".notdef": TTGlyphPen(None).glyph(), "square": square})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "square": (1000, 0)})
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


def figure_of(*names):
    figure = plotting.new_figure(4, 1 + 0.5 * len(names))
    axes = figure.subplots()
    axes.set_yticks(range(len(names)), names)
    plotting.tidy(axes, "Names")
    return figure


def drawn(names, path):
    """The picture of a figure with these names, [H, W], and the font families of each name."""
    figure = figure_of(*names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with fonts.glyphs(figure):
            figure.savefig(path)
    families = {label.get_text(): label.get_fontfamily() for label in figure.axes[0].get_yticklabels()}
    with Image.open(path) as image:
        return np.asarray(image.convert("L")), families


def test_a_font_that_has_the_characters_is_taken_for_the_texts_that_need_it(machine, tmp_path, capsys):
    machine("猫犬")
    _, families = drawn(["猫", "cat", "dog 犬"], tmp_path / "figure.png")
    assert families["猫"][-1] == families["dog 犬"][-1] == "Made Sans"
    assert "Made Sans" not in families["cat"]
    assert capsys.readouterr().err == ""


def test_its_glyphs_are_what_is_drawn(machine, tmp_path):
    boxes, _ = drawn(["猫" * 8], tmp_path / "boxes.png")
    fonts._families.cache_clear()
    machine("猫")
    squares, _ = drawn(["猫" * 8], tmp_path / "squares.png")
    assert (squares < 50).sum() > 2 * (boxes < 50).sum()


def test_a_font_that_was_installed_since_is_found(machine, tmp_path, capsys):
    drawn(["猫"], tmp_path / "figure.png")
    assert "no font on this machine has 猫" in capsys.readouterr().err
    # By the next command.
    fonts._families.cache_clear()
    machine("猫")
    assert drawn(["猫"], tmp_path / "figure.png")[1]["猫"][-1] == "Made Sans"


def test_without_a_font_this_is_said_once_and_matplotlib_says_nothing(tmp_path, capsys):
    for _ in range(2):
        drawn(["日本語", "cat"], tmp_path / "figure.png")
    assert capsys.readouterr().err == (
        "warning: no font on this machine has 日 本 語 (as in '日本語'): plots show boxes instead, tables and CSV "
        "files are whole; install fonts-noto-cjk (Debian, Ubuntu) or other fonts that have them\n"
    )


def test_what_some_fonts_lack_is_told_of_and_the_rest_is_drawn(machine, tmp_path, capsys):
    machine("猫")
    assert drawn(["猫語"], tmp_path / "figure.png")[1]["猫語"][-1] == "Made Sans"
    assert "no font on this machine has 語 (as in '猫語')" in capsys.readouterr().err


def test_few_fonts_are_taken_those_without_serifs_first(machine):
    machine("猫", "Only Cats Sans")
    machine("猫犬", "Made Serif")
    machine("猫犬", "Made Sans")
    assert fonts._families(frozenset("猫犬")) == (["Made Sans"], frozenset())


def test_a_font_of_boxes_for_everything_is_none(machine, tmp_path, capsys):
    machine("猫", "Last Resort")
    drawn(["猫"], tmp_path / "figure.png")
    assert "no font on this machine has 猫" in capsys.readouterr().err


def test_a_damaged_font_is_passed_over(machine, tmp_path):
    machine("犬", "Aaa Sans")
    (tmp_path / "Aaa Sans.ttf").write_bytes(b"not a font")
    machine("猫")
    assert fonts._families(frozenset("猫犬")) == (["Made Sans"], frozenset("犬"))


def test_names_that_the_font_has_cost_no_look_at_other_fonts(monkeypatch, tmp_path):
    monkeypatch.setattr(fonts, "_families", lambda missing: pytest.fail("looked for a font"))
    drawn(["Katze", "größe", "кот", "γάτα", "a\nb"], tmp_path / "figure.png")


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("ねこ", "fonts-noto-cjk"),
        ("고양이", "fonts-noto-cjk"),
        ("แมว", "fonts-noto-core"),
        ("🦖", "fonts-symbola"),
        ("🦖猫", "fonts-noto-cjk and fonts-symbola"),
    ],
)
def test_the_package_suits_the_script(name, package, tmp_path, capsys):
    drawn([name], tmp_path / "figure.png")
    assert f"install {package} (Debian" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a\nb\t c", "a b c"), ("5$", r"5\$"), ("x" * 30, "x" * 17 + "…"), ("_a", "_a"), ("", ""), ("猫" * 9, "猫" * 9),
     ("猫" * 10, "猫" * 8 + "…"), ("חתול", "חתול\u200e"), ("a\x07b", "a\ufffdb"), ("\udce9t\u00e9", "\ufffdté")],
)  # fmt: skip
def test_names_are_shortened_to_one_line_that_can_be_drawn(name, shown):
    assert plotting.shorten(name) == shown
