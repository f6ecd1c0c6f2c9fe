"""Handwritten digits that need no network."""

import sys

import pytest
import torch

from hf_untangle.data.digits import digits
from hf_untangle.errors import MissingExtraError


def test_the_parts_have_all_images_once_and_every_digit():
    parts = digits()
    together = [parts.train, parts.validation, parts.test]
    assert [len(part.labels) for part in together] == [1000, 297, 500]
    assert len(torch.cat([part.images for part in together]).flatten(1).unique(dim=0)) == 1797
    assert all(len(part.labels.unique()) == 10 for part in together)


def test_pixels_are_grey_from_0_to_1_in_every_form():
    train = digits().train
    assert (float(train.images.min()), float(train.images.max())) == (0, 1)
    assert train.flat()[0].shape == (1000, 64) and train.planes()[0].shape == (1000, 1, 8, 8)


def test_a_seed_repeats_the_split_and_another_changes_it():
    assert torch.equal(digits(3).test.images, digits(3).test.images)
    assert not torch.equal(digits(3).test.images, digits(4).test.images)


def test_without_scikit_learn_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtraError, match="come with scikit-learn, which is not installed"):
        digits()
