from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F
from torchvision.transforms import RandomResizedCrop

from guard_plugins.data.augment import crop_and_resize, random_crop, random_horizontal_flip, random_resized_crop
from guard_plugins.data.boxes import Boxes, draw_boxes

IMAGENET_RATIO = (3 / 4, 4 / 3)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(16, 3, 10, 14, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# --- crops with padding


def test_random_crop_equals_one_slice_per_image(images):
    torch.manual_seed(5)
    ours = random_crop(images, padding=3)
    torch.manual_seed(5)
    tops, lefts = torch.randint(0, 7, (2, 16, 1)).squeeze(2).tolist()
    for image, out, top, left in zip(images, ours, tops, lefts, strict=True):
        assert torch.equal(out, F.pad(image, (3,) * 4)[:, top : top + 10, left : left + 14])


def test_random_crop_reaches_every_shift_equally_often():
    image = torch.zeros(1, 1, 5, 5)
    image[..., 2, 2] = 1
    crops = random_crop(image.expand(9000, -1, -1, -1), padding=1)
    counts = crops.sum(0)[0, 1:4, 1:4]
    assert counts.sum() == 9000
    assert ((counts - 1000).abs() < 5 * math.sqrt(1000)).all()


def test_random_crop_without_padding_is_the_identity(images):
    assert torch.equal(random_crop(images, padding=0), images)


# --- flips


def test_flip_mirrors_whole_images_half_of_the_time(images):
    batch = images[:1].expand(4000, -1, -1, -1)
    out = random_horizontal_flip(batch)
    mirrored = (out == batch.flip(-1)).flatten(1).all(1)
    kept = (out == batch).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert abs(mirrored.sum().item() - 2000) < 5 * math.sqrt(1000)


def test_flip_probability_and_sharing(images):
    assert torch.equal(random_horizontal_flip(images, p=1), images.flip(-1))
    assert torch.equal(random_horizontal_flip(images, p=0), images)
    outcomes = {torch.equal(random_horizontal_flip(images, shared=True), images) for _ in range(20)}
    assert outcomes == {True, False}
    for _ in range(20):
        out = random_horizontal_flip(images, shared=True)
        assert torch.equal(out, images) or torch.equal(out, images.flip(-1))


# --- resized crops


def naive_crop_and_resize(images, boxes):
    """Cut out, then resize, one image at a time."""
    out = []
    for image, top, left, height, width in zip(images, *(field.tolist() for field in boxes), strict=True):
        window = image[None, :, top : top + height, left : left + width]
        out.append(F.interpolate(window, size=image.shape[-2:], mode="bilinear", align_corners=False))
    return torch.cat(out)


def test_crop_and_resize_equals_cutting_and_resizing(images):
    boxes = draw_boxes(16, (10, 14), scale=(0.05, 1.0), ratio=IMAGENET_RATIO)
    assert torch.allclose(crop_and_resize(images, boxes), naive_crop_and_resize(images, boxes), atol=1e-5)


def test_crop_and_resize_of_extreme_boxes(images):
    boxes = Boxes(*(torch.tensor(column) for column in ([0, 0, 9, 2], [0, 0, 13, 3], [10, 1, 1, 8], [14, 14, 1, 1])))
    assert torch.allclose(crop_and_resize(images[:4], boxes), naive_crop_and_resize(images[:4], boxes), atol=1e-5)
    assert torch.allclose(crop_and_resize(images[:4], boxes)[0], images[0], atol=1e-5)


def test_random_resized_crop_uses_one_box_an_image_or_one_for_all(images):
    for shared in (False, True):
        torch.manual_seed(7)
        ours = random_resized_crop(images, scale=(0.2, 0.9), shared=shared)
        torch.manual_seed(7)
        boxes = draw_boxes(1 if shared else 16, (10, 14), scale=(0.2, 0.9), ratio=IMAGENET_RATIO)
        if shared:
            boxes = Boxes(*(field.expand(16) for field in boxes))
        assert torch.allclose(ours, naive_crop_and_resize(images, boxes), atol=1e-5)


@pytest.mark.parametrize(
    "augment",
    [
        lambda x: random_crop(x, padding=2),
        random_horizontal_flip,
        lambda x: random_resized_crop(x, scale=(0.2, 0.9)),
        lambda x: random_resized_crop(x, scale=(0.2, 0.9), shared=True),
    ],
)
def test_gradients_reach_the_images(images, augment):
    def seeded(x):
        torch.manual_seed(1)
        return augment(x)

    assert torch.autograd.gradcheck(seeded, (images[:2, :1].double().requires_grad_(),))


@pytest.mark.parametrize(
    ("size", "scale", "ratio"),
    [((32, 32), (0.08, 1.0), IMAGENET_RATIO), ((20, 60), (0.5, 1.0), (0.9, 1.1)), ((9, 7), (0.1, 0.3), (0.5, 2.0))],
)
def test_boxes_are_distributed_as_torchvisions(size, scale, ratio):
    count = 4000
    ours = torch.stack(draw_boxes(count, size, scale=scale, ratio=ratio)).double()
    image = torch.empty(1, *size)
    theirs = torch.tensor([RandomResizedCrop.get_params(image, scale, ratio) for _ in range(count)]).T.double()
    # mean and second moment of top, left, height, width and area agree within five standard errors
    for a, b in ((ours, theirs), (ours.square(), theirs.square()), (ours[2] * ours[3], theirs[2] * theirs[3])):
        error = ((a.var(-1) + b.var(-1)) / count).sqrt()
        assert ((a.mean(-1) - b.mean(-1)).abs() <= 5 * error + 1e-9).all()


def test_boxes_lie_within_the_image():
    top, left, height, width = draw_boxes(5000, (13, 21), scale=(0.01, 1.0), ratio=(0.2, 5.0))
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (height > 0).all()
    assert (width > 0).all()
    assert (top + height).max() == 13
    assert (left + width).max() == 21


def test_boxes_that_cannot_fit_are_the_centre():
    boxes = draw_boxes(3, (10, 40), scale=(0.99, 1.0), ratio=(0.9, 1.1))
    assert torch.stack(boxes).T.tolist() == [[0, 14, 10, 11]] * 3
    boxes = draw_boxes(3, (40, 10), scale=(0.99, 1.0), ratio=(0.9, 1.1))
    assert torch.stack(boxes).T.tolist() == [[14, 0, 11, 10]] * 3
    assert torch.stack(draw_boxes(1, (8, 8), scale=(1.5, 2.0), ratio=(0.9, 1.1))).T.tolist() == [[0, 0, 8, 8]]


@pytest.mark.parametrize("augment", [random_horizontal_flip, random_resized_crop, lambda x: random_crop(x, padding=2)])
def test_the_global_seed_decides(images, augment):
    torch.manual_seed(3)
    first = augment(images)
    torch.manual_seed(3)
    assert torch.equal(augment(images), first)
    assert not torch.equal(augment(images), first)
    assert first.shape == images.shape
    assert first.is_contiguous()
