"""Every way in which a picture comes to the model, and that it comes unchanged."""

import base64
import io

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect
from tests.serving.page.browser_actions import bring, draw, draw_strokes, label, upload
from tests.serving.page.served import made_up, serve
from tests.serving.page.strokes import DIGITS, png
from tests.serving.page.strokes import draw as picture_of

from darkroom.serving.loaded_model import GalleryImage


def test_a_seven_drawn_with_the_mouse_is_a_seven(served, open_page):
    page = open_page(served)
    draw(page, "7")
    expect(label(page)).to_have_text("7")
    expect(page.locator("#spoken")).to_contain_text("7, ")


@pytest.mark.parametrize(("scale", "corner"), [(0.35, (0.05, 0.6)), (0.9, (0.05, 0.05))])
def test_a_seven_is_a_seven_wherever_and_however_large_it_is_drawn(served, open_page, scale, corner):
    page = open_page(served)
    draw(page, "7", scale=scale, corner=corner)
    expect(label(page)).to_have_text("7")


def test_each_stroke_is_answered_and_can_be_taken_back(served, open_page):
    page = open_page(served)
    undo, clear = page.get_by_role("button", name="Undo"), page.get_by_role("button", name="Clear")
    draw(page, "1")
    expect(label(page)).to_have_text("1")
    first = page.locator(".seen-image").get_attribute("src")
    draw_strokes(page, DIGITS["7"][0], scale=0.7, corner=(0.15, 0.15))
    expect(page.locator(".seen-image")).not_to_have_attribute("src", first)
    undo.click()
    expect(page.locator(".seen-image")).to_have_attribute("src", first)
    undo.click()
    expect(page.get_by_text("Draw something, or choose a picture.")).to_be_visible()
    expect(undo).to_be_disabled()
    draw(page, "7")
    expect(label(page)).to_have_text("7")
    clear.click()
    expect(page.get_by_text("Draw something, or choose a picture.")).to_be_visible()
    expect(clear).to_be_disabled()


def test_a_finger_draws_as_well(served, open_page):
    page = open_page(served, has_touch=True)
    paper = page.locator("#paper")
    box = paper.bounding_box()
    touch = {"pointerId": 7, "pointerType": "touch", "isPrimary": True, "button": 0, "bubbles": True}
    # A capture needs a real pointer, which dispatched events do not have.
    page.evaluate("document.getElementById('paper').setPointerCapture = () => {}")
    for kind, y in (("pointerdown", 0.2), ("pointermove", 0.5), ("pointermove", 0.8), ("pointerup", 0.8)):
        place = {"clientX": box["x"] + 0.5 * box["width"], "clientY": box["y"] + y * box["height"]}
        paper.dispatch_event(kind, touch | place)
    expect(label(page)).to_have_text("1")


@pytest.mark.parametrize("how", ["upload", "drop", "paste"])
def test_a_file_is_answered_as_it_is(served, digits, open_page, how):
    content = picture_of(DIGITS["0"][0], scale=0.9, corner=(0.05, 0.05), canvas=97)
    page = open_page(served)
    expect(page.locator("#model-name")).to_have_text("demo")
    if how == "upload":
        upload(page, content)
    else:
        bring(page, how, content)
    image = page.locator(".seen-image")
    expect(image).to_be_visible()
    assert np.array_equal(seen(image), digits.transform(content).pixels[0])
    assert page.locator(".seen-size").text_content() == "8 \u00d7 8 pixels"
    expect(page.get_by_text("the negative of the picture")).to_be_visible()
    assert page.locator("#preview").evaluate("(image) => image.naturalWidth") == 97


def seen(image):
    encoded = image.get_attribute("src").partition(",")[2]
    return np.array(Image.open(io.BytesIO(base64.b64decode(encoded))))


def test_what_is_shown_is_the_tensor_that_the_model_got(served, digits, open_page):
    page = open_page(served)
    draw(page, "4")
    image = page.locator(".seen-image")
    expect(image).to_be_visible()
    pixels = seen(image)
    probability = np.exp(digits.runtime.infer(pixels[None, None])[0] / digits.reference.temperature)
    probability /= probability.sum()
    expect(label(page)).to_have_text(str(probability.argmax()))
    shares = [float(share.strip("<> %")) for share in page.locator(".column .bar-share").all_text_contents()]
    assert shares == pytest.approx(np.sort(100 * probability)[::-1], abs=0.11)
    assert image.evaluate("(image) => getComputedStyle(image).imageRendering") == "pixelated"


def test_the_gallery_is_tried_by_keyboard_alone(served, digits, open_page):
    page = open_page(served)
    tiles = page.locator(".tile")
    expect(tiles).to_have_count(20)
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.classList.contains('tile')"):
            break
    expect(tiles.first).to_be_focused()
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    expect(tiles.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(label(page)).to_have_text(digits.gallery[1].predicted)
    expect(page.get_by_text(f"This test image is labeled {digits.gallery[1].actual}.")).to_be_visible()
    page.keyboard.press("End")
    expect(tiles.nth(19)).to_be_focused()
    page.keyboard.press("Tab")
    assert not page.evaluate("document.activeElement.classList.contains('tile')")


def test_an_image_of_the_gallery_is_not_turned_into_its_negative(open_page):
    def darkness(images):
        return np.stack([images.mean((1, 2, 3)), 255 - images.mean((1, 2, 3))], 1).astype(np.float32)

    light = png(np.full((8, 8), 250, np.uint8))
    loaded = made_up(
        darkness,
        classes=("light", "dark"),
        shape=(1, 8, 8),
        mean=(0.2,),
        gallery=[GalleryImage(light, "light", "light")],
    )
    with serve(loaded) as served:
        page = open_page(served)
        page.locator(".tile").click()
        expect(label(page)).to_have_text("light")


def test_the_camera_takes_a_picture(served, open_page):
    page = open_page(served, permissions=["camera"])
    page.get_by_role("button", name="Camera").click()
    shoot = page.get_by_role("button", name="Take the picture")
    expect(shoot).to_be_enabled()
    shoot.click()
    expect(page.locator("#camera-dialog")).to_be_hidden()
    expect(page.locator(".seen-image")).to_be_visible()
    assert page.locator("#preview").evaluate("(image) => image.naturalWidth") >= 320
    # The camera's light goes out.
    assert page.evaluate("document.getElementById('video').srcObject") is None


def test_a_browser_that_gives_no_camera_to_the_page_opens_the_phones_own(served, open_page):
    page = open_page(served)
    page.evaluate("Object.defineProperty(navigator, 'mediaDevices', { value: undefined })")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Camera").click()
    assert chooser.value.element.get_attribute("capture") == "environment"


def test_a_camera_that_is_forbidden_is_explained(served, open_page):
    page = open_page(served)
    page.evaluate(
        "() => { const refuse = () => Promise.reject(new DOMException('no', 'NotAllowedError'));"
        " navigator.mediaDevices.getUserMedia = refuse; }"
    )
    page.get_by_role("button", name="Camera").click()
    expect(page.get_by_text("The browser does not allow this page to use the camera.")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#camera-dialog")).to_be_hidden()


def test_a_file_that_is_refused_leaves_the_servers_line_and_the_next_is_answered(served, open_page):
    page = open_page(served)
    upload(page, b"ftypheic, not a picture", "photo.heic")
    expect(page.get_by_role("alert")).to_contain_text("not an image")
    page.get_by_role("button", name="Clear").click()
    draw(page, "7")
    expect(label(page)).to_have_text("7")


def test_a_format_that_the_browser_cannot_show_is_answered_and_named(served, open_page):
    written = io.BytesIO()
    Image.open(io.BytesIO(picture_of(DIGITS["0"][0]))).save(written, "TIFF")
    page = open_page(served)
    upload(page, written.getvalue(), "zero.tiff")
    expect(page.locator(".seen-image")).to_be_visible()
    expect(page.locator("#preview-name")).to_have_text("zero.tiff")
    expect(page.locator("#preview-name")).to_be_visible()


def test_a_file_that_is_too_large_is_refused_in_words(digits, open_page):
    noise = png(np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8))
    with serve(digits, max_request_mb=1.0) as served:
        page = open_page(served)
        upload(page, noise)
        expect(page.get_by_role("alert")).to_contain_text("larger than 1 MB")


def test_text_from_the_clipboard_is_no_picture(served, open_page):
    page = open_page(served)
    expect(page.locator("#model-name")).to_have_text("demo")
    page.evaluate(
        "document.body.dispatchEvent(new ClipboardEvent('paste', { bubbles: true, clipboardData: new DataTransfer() }))"
    )
    expect(page.locator("#notice")).to_have_text("The clipboard contains no picture.")


def test_a_model_of_photographs_has_no_paper(open_page):
    with serve(made_up(lambda images: np.zeros((len(images), 2), np.float32), classes=("cat", "dog"))) as served:
        page = open_page(served)
        expect(page.get_by_role("button", name="Drop a picture, paste one or choose a file")).to_be_visible()
        expect(page.locator("#paper")).to_be_hidden()
        expect(page.get_by_role("button", name="Undo")).to_be_hidden()
