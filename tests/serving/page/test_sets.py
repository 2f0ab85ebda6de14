"""How the page shows prediction sets."""

from dataclasses import dataclass, replace

import numpy as np
from playwright.sync_api import expect
from tests.serving.page.browser_actions import draw, label, look_again
from tests.serving.page.served import serve

CASES = (
    ([7], "Sure", "Only this class fits."),
    ([7], "Unsure", "Only 7 fits, and less than 95.0 % speak for it."),
    ([1, 7], "Unsure", "One of 7 or 1."),
    ([0, 1, 7], "Unsure", "One of 7, 0 or 1."),
    ([0, 1, 2, 3, 4, 5, 7, 8], "Unsure", "8 of 10 classes fit."),
    (range(10), "Unsure", "Every class fits."),
    ([1], "Unsure", "Only 1 fits, and less than 95.0 % speak for it."),
    ([], "Unsure", "No class fits as well as it fits most images of this probability."),
)


@dataclass(frozen=True)
class Fixed:
    """The same set for every image."""

    labels: tuple[int, ...]
    coverage = 0.95
    expected_size = 1.1

    def of(self, probabilities, energies):
        return np.isin(np.broadcast_to(np.arange(10), probabilities.shape), self.labels)


def sure_of_seven(images, by=30.0):
    """Logits for which 7 is the most probable digit, then 0, 1 and so on."""
    logits = -np.arange(10, dtype=np.float32) / 10
    logits[7] = by
    return np.tile(logits, (len(images), 1))


def doubtful_of_seven(images):
    return sure_of_seven(images, by=0.3)


def test_one_glance_tells_sure_from_unsure(digits, open_page):
    versions = [
        replace(
            digits,
            version=str(number),
            about=dict(digits.about) | {"version": str(number)},
            runtime=replace(digits.runtime, infer=doubtful_of_seven if number == 1 else sure_of_seven),
            sets=Fixed(tuple(members)),
        )
        for number, (members, _, _) in enumerate(CASES)
    ]
    with serve(versions[0]) as served:
        page = open_page(served)
        draw(page, "7")
        for version, (members, word, line) in zip(versions, CASES, strict=True):
            served.service.serve(version, None)
            look_again(page)
            expect(page.locator(".column.champion .pill")).to_have_text(f"version {version.version}")
            expect(page.locator(".set-word")).to_have_text(word)
            expect(page.locator(".set-line")).to_have_text(line)
            expect(page.locator("#spoken")).to_contain_text(f"{word}. {line}")
            look_again(page)
            expect(page.locator("#drift")).to_contain_text(f"Labels in a prediction set{len(members):.2f}expected 1.10")
        expect(page.locator("#card")).to_contain_text("hold the true class of 95.0 % of usual images")


def test_a_version_without_prediction_sets_shows_none(digits, open_page):
    with serve(digits) as served:
        page = open_page(served)
        draw(page, "7")
        expect(label(page)).to_have_text("7")
        expect(page.locator(".set")).to_have_count(0)
        expect(page.locator("#drift")).not_to_contain_text("prediction set")
        expect(page.locator("#card")).not_to_contain_text("Prediction sets")
