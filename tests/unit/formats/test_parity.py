"""What a model answers in batches, and what counts as another answer."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from darkroom.data.batches import Split
from darkroom.evaluation.logits import predict_logits
from darkroom.formats.parity import compare, differing_predictions, nan_on_failure

CLASSES = 3


def first_pixel(images):
    """Logits that are the first pixel's, in the class of that number and nowhere else."""
    return torch.nn.functional.one_hot(images[:, 0, 0, 0].long(), CLASSES).float()


def split_of(classes):
    labels = torch.tensor(classes)
    return Split(labels.to(torch.uint8)[:, None, None, None].repeat(1, 1, 2, 2), labels)


@given(st.lists(st.integers(0, CLASSES - 1), min_size=1, max_size=40), st.integers(1, 50))
def test_the_logits_of_a_split_do_not_depend_on_the_size_of_batches(classes, size):
    split = split_of(classes)

    assert torch.equal(predict_logits(first_pixel, split, size), first_pixel(split.images))


def test_whoever_waits_is_told_of_every_batch():
    told = []
    predict_logits(first_pixel, split_of([0] * 10), 4, told.append)

    assert told == [4, 4, 2]


def refuses_pairs(images):
    if len(images) == 2:
        raise RuntimeError("made for other batches")
    return first_pixel(images)


def answers_once(images):
    return first_pixel(images[:1])


@pytest.mark.parametrize("model", [refuses_pairs, answers_once])
def test_a_batch_without_an_answer_for_each_image_has_none(model):
    logits = predict_logits(nan_on_failure(model, CLASSES), split_of([1] * 5), 2)

    assert logits[:4].isnan().all()
    assert logits[4].tolist() == [0, 1, 0]


def test_an_interruption_is_no_refusal():
    def interrupted(images):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_logits(nan_on_failure(interrupted, CLASSES), split_of([0]), 1)


def test_another_class_and_no_number_are_other_answers():
    logits = torch.tensor([[2.0, 1, 0], [0, 1, 2], [torch.nan, 1, 2], [0, 5, torch.nan]])

    assert differing_predictions(logits, torch.tensor([0, 0, 0, 1])).tolist() == [False, True, True, True]


def test_a_model_agrees_with_itself():
    split = split_of([0, 1, 2, 2, 0, 1, 1, 0])
    found = compare(first_pixel, first_pixel(split.images), split, lambda size: lambda images: None)

    assert [(each.batch_size, each.differing_answers, each.unanswered, each.accuracy) for each in found] == [
        (1, 0, 0, 1.0),
        (7, 0, 0, 1.0),
        (64, 0, 0, 1.0),
    ]
    assert all(each.largest_logit_difference == 0 for each in found)


def test_a_fault_in_batches_of_one_size_is_found_there():
    split = split_of([0, 1, 2, 2, 0, 1, 1, 0])

    def model(images):
        logits = first_pixel(images)
        return 3 * logits.roll(1, 1) if len(images) == 7 else logits

    found = compare(model, first_pixel(split.images), split, lambda size: lambda images: None)

    assert [each.differing_answers for each in found] == [0, 7, 0]
    assert [each.largest_logit_difference for each in found] == [0, 3, 0]
    assert [each.accuracy for each in found] == [1, 1 / 8, 1]


def test_images_without_an_answer_are_counted():
    split = split_of([0, 1, 2, 2])

    def model(images):
        assert len(images) > 1, "made for more"
        return first_pixel(images)

    found = compare(model, first_pixel(split.images), split, lambda size: lambda images: None)

    assert [(each.differing_answers, each.unanswered) for each in found] == [(4, 4), (0, 0), (0, 0)]
    assert found[0].largest_logit_difference == 0
