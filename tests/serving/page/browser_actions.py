"""What a person does on the page, and what is read there."""

import base64
from collections.abc import Sequence

from playwright.sync_api import Locator, Page
from tests.serving.page.strokes import DIGITS, Point, Stroke

# A file that is brought without a file chooser: dropped, or pasted.
BRING = """
([kind, name, type, content]) => {
  const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type }));
  const options = { bubbles: true, cancelable: true };
  const event = kind === "paste"
    ? new ClipboardEvent(kind, { ...options, clipboardData: carried })
    : new DragEvent(kind, { ...options, dataTransfer: carried });
  document.body.dispatchEvent(event);
}
"""


def label(page: Page, role: str = "champion") -> Locator:
    """The answer of the champion, or of the challenger."""
    return page.locator(f".column.{role} .label")


def draw(page: Page, digit: str, *, scale: float = 0.7, corner: Point = (0.15, 0.15)) -> None:
    """Draw a digit with the mouse."""
    draw_strokes(page, DIGITS[digit][0], scale=scale, corner=corner)


def draw_strokes(page: Page, strokes: Sequence[Stroke], *, scale: float, corner: Point) -> None:
    paper = page.locator("#paper")
    paper.wait_for()
    box = paper.bounding_box()
    assert box
    for stroke in strokes:
        points = [
            (box["x"] + (corner[0] + scale * x) * box["width"], box["y"] + (corner[1] + scale * y) * box["height"])
            for x, y in stroke
        ]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=3)
        page.mouse.up()


def look_again(page: Page) -> None:
    """Come back to the page, which then asks the server at once and not after two seconds."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def upload(page: Page, content: bytes, name: str = "picture.png") -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content})


def bring(page: Page, kind: str, content: bytes, name: str = "picture.png", mime: str = "image/png") -> None:
    """Drop or paste a file."""
    page.evaluate(BRING, [kind, name, mime, base64.b64encode(content).decode()])
