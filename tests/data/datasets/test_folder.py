from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from guard_plugins.data.base import DataRequest
from guard_plugins.data.datasets.folder import Folder
from guard_plugins.data.images import splits
from guard_plugins.data.images.splits import FileSplit
from guard_plugins.data.splits import TensorSplit
from guard_plugins.errors import DataError


def load(root, **request):
    return Folder().load(DataRequest(root=root, **request))


def every(split):
    return split.images(torch.arange(len(split)))


def naive(root, split):
    """Class by class, file by file, with nothing but Pillow."""
    images, labels = [], []
    for label, folder in enumerate(sorted((root / split).iterdir())):
        for path in sorted(folder.iterdir()):
            images.append(torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).float() / 255)
            labels.append(label)
    return torch.stack(images), torch.tensor(labels)


def test_equals_a_naive_reader(tree):
    data = load(tree)
    for split, name in ((data.train, "train"), (data.test, "test")):
        images, labels = naive(tree, name)
        assert torch.equal(every(split), images)
        assert torch.equal(split.labels, labels)
    assert data.classes == ("ant", "bee", "cat")
    assert data.image_shape == (3, 6, 6)
    assert data.name == "folder"


def test_constants_are_those_of_the_training_pixels(tree):
    data = load(tree)
    images, _ = naive(tree, "train")
    assert data.mean == pytest.approx(images.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert data.std == pytest.approx(images.std((0, 2, 3), unbiased=False).tolist(), abs=1e-6)


def test_val_serves_where_there_is_no_test(tree):
    expected = load(tree)
    (tree / "test").rename(tree / "val")
    assert torch.equal(every(load(tree).test), every(expected.test))


def test_test_wins_over_val(tree):
    shutil.copytree(tree / "train", tree / "val")
    assert len(load(tree).test) == 6


def test_limits_keep_the_first_files(tree):
    data = load(tree, train_per_class=2, test_per_class=1)
    images, labels = naive(tree, "train")
    assert torch.equal(every(data.train), images[[0, 1, 4, 5, 8, 9]])
    assert torch.equal(data.train.labels, labels[[0, 1, 4, 5, 8, 9]])
    assert data.test.labels.tolist() == [0, 1, 2]


def test_nested_and_foreign_files(tree, save):
    save(tree / "train" / "ant" / "more" / "9.PNG", seed=99)
    (tree / "train" / "ant" / "notes.txt").write_text("not an image")
    (tree / "train" / "ant" / "._0.png").write_bytes(b"a resource fork")
    (tree / "train" / ".cache").mkdir()
    assert load(tree).train.labels.tolist() == [0] * 5 + [1] * 4 + [2] * 4


def test_differing_sizes_need_an_image_size(tree, save):
    odd = save(tree / "train" / "bee" / "0.png", size=(9, 5))
    with pytest.raises(DataError) as caught:
        load(tree)
    message = str(caught.value)
    assert "not all of one size" in message
    assert "17 of 6x6" in message
    assert "1 of 5x9" in message
    assert str(odd) in message
    assert "--data.image-size" in message
    assert "shortest side here is 5" in message
    assert load(tree, image_size=5).image_shape == (3, 5, 5)


def test_sizes_that_agree_need_not_be_square(tmp_path, save):
    for split in ("train", "test"):
        for name in "ab":
            save(tmp_path / split / name / "0.png", size=(8, 5))
    assert load(tmp_path).image_shape == (3, 5, 8)


def test_image_size_keeps_the_central_square(tmp_path, save):
    for split in ("train", "test"):
        for name in "ab":
            path = save(tmp_path / split / name / "0.png", size=(16, 8))
    # as torchvision does it: the shorter side to 4 pixels first, the centre cut out afterwards
    expected = np.array(Image.open(path).resize((8, 4), Image.Resampling.BILINEAR).crop((2, 0, 6, 4)))
    image = load(tmp_path, image_size=4).test.images(torch.tensor([1]))[0]
    assert torch.equal((image * 255).round().byte().permute(1, 2, 0), torch.from_numpy(expected))


def test_grey_only_if_every_image_is(tmp_path, save):
    for split in ("train", "test"):
        for name in "ab":
            save(tmp_path / split / name / "0.png", mode="L")
    data = load(tmp_path)
    assert data.image_shape == (1, 6, 6)
    assert len(data.mean) == len(data.std) == 1
    save(tmp_path / "test" / "a" / "1.png", mode="RGBA")
    assert load(tmp_path).image_shape == (3, 6, 6)


def test_on_demand_equals_in_memory(tree):
    in_memory = load(tree)
    on_demand = load(tree, memory=(6 * 6 * 3 * 18 - 1) / 2**30)
    assert isinstance(in_memory.train, TensorSplit)
    assert isinstance(on_demand.train, FileSplit)
    index = torch.tensor([7, 0, 11, 0])
    assert torch.equal(on_demand.train.images(index), in_memory.train.images(index))
    assert torch.equal(on_demand.test.labels, in_memory.test.labels)
    assert (on_demand.mean, on_demand.std) == (in_memory.mean, in_memory.std)
    assert isinstance(load(tree, memory=6 * 6 * 3 * 18 / 2**30).train, TensorSplit)


# --- what can be wrong, with the path and the remedy in the message


def message_of(root, **request) -> str:
    with pytest.raises(DataError) as caught:
        load(root, **request)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_no_root():
    message = message_of(None)
    assert "Pass --data-root" in message
    assert "ROOT/train/CLASS" in message


def test_root_that_does_not_exist(tmp_path):
    message = message_of(tmp_path / "nowhere")
    assert f"{tmp_path / 'nowhere'} does not exist" in message
    assert "Correct --data-root" in message


def test_root_that_is_a_file(tree):
    path = tree / "train" / "ant" / "0.png"
    assert f"{path} is a file" in message_of(path)


def test_root_one_level_too_high(tree):
    message = message_of(tree.parent)
    assert f"no folder train/ in {tree.parent}" in message
    assert f"Pass --data-root {tree}." in message


def test_root_one_level_too_low(tree):
    message = message_of(tree / "train")
    assert "folders there: ant, bee, cat" in message
    assert "ROOT/train/CLASS" in message


def test_no_test_split(tree):
    shutil.rmtree(tree / "test")
    (tree / "test").mkdir()
    (tree / "test" / "0.png").touch()
    message = message_of(tree)
    assert f"no test split in {tree}" in message
    assert "Move a part of the training images there" in message


def test_classes_that_differ(tree):
    (tree / "test" / "cat").rename(tree / "test" / "cow")
    message = message_of(tree)
    assert f"classes of {tree / 'train'} and {tree / 'test'} differ" in message
    assert f"only in {tree / 'train'}: cat" in message
    assert f"only in {tree / 'test'}: cow" in message
    assert "same class subfolders" in message


def test_many_differing_classes_are_abridged(tree):
    for i in range(30):
        (tree / "test" / f"extra{i:02}").mkdir()
    assert "extra00, extra01, extra02, extra03, extra04 and 25 more" in message_of(tree)


def test_an_empty_class(tree):
    shutil.rmtree(tree / "train" / "bee")
    (tree / "train" / "bee").mkdir()
    (tree / "train" / "bee" / "readme.md").touch()
    message = message_of(tree)
    assert f"{tree / 'train' / 'bee'} holds no images" in message
    assert "remove the class from every split" in message


def test_one_class_is_not_enough(tmp_path, save):
    save(tmp_path / "train" / "a" / "0.png")
    save(tmp_path / "test" / "a" / "0.png")
    assert "fewer than two classes" in message_of(tmp_path)


def test_a_file_that_is_no_image(tree):
    path = tree / "train" / "bee" / "2.png"
    path.write_text("<html>404</html>")
    message = message_of(tree)
    assert f"The image {path} cannot be read" in message
    assert "UnidentifiedImageError" in message
    assert "Delete or replace the file" in message


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "webp", "tif"])
def test_a_cut_off_image_among_many(tree, save, ending):
    path = save(tree / "test" / "cat" / f"9.{ending}", size=(6, 6))
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) * 3 // 4])
    message = message_of(tree)
    assert f"The image {path} cannot be read" in message
    assert "Delete or replace the file" in message


def test_all_broken_files_are_counted(tree):
    for name in ("ant", "cat"):
        (tree / "train" / name / "1.png").write_bytes(b"")
    message = message_of(tree)
    assert f"{tree / 'train' / 'ant' / '1.png'} cannot be read" in message
    assert "2 of 18 files fail" in message
    assert str(tree / "train" / "cat" / "1.png") in message


def test_a_broken_file_read_on_demand(tree):
    data = load(tree, memory=0)
    path = tree / "train" / "ant" / "1.png"
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"1\.png cannot be read"):
        data.train.images(torch.tensor([0, 1]))


def test_a_file_that_vanishes(tree):
    path = tree / "train" / "ant" / "1.png"
    path.unlink()
    with pytest.raises(DataError, match=r"(?s)1\.png cannot be read.*FileNotFoundError"):
        splits.read_headers([path])


def test_raw_tiny_imagenet_is_pointed_to_its_own_reader(tree):
    (tree / "val").mkdir()
    (tree / "val" / "val_annotations.txt").touch()
    assert "--dataset tiny-imagenet" in message_of(tree)


@pytest.mark.images
@pytest.mark.slow
def test_real_cifar10(real_images):
    data = load(real_images / "cifar10", train_per_class=500, test_per_class=100)
    assert (len(data.train), len(data.test), data.image_shape) == (5000, 1000, (3, 32, 32))
    assert data.classes[:3] == ("airplane", "automobile", "bird")
    assert data.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.01)
    assert data.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=0.01)


@pytest.mark.parametrize("name", ["Train", "training"])
def test_a_split_under_another_name_is_no_class(tree, name):
    (tree / "train").rename(tree / name)
    with pytest.raises(DataError, match="its folders are no classes") as error:
        load(tree, split=0.5)
    assert f"Rename {tree / name} to {tree / 'train'}" in str(error.value)


def test_images_under_validation_are_not_passed_over(tree):
    shutil.rmtree(tree / "val", ignore_errors=True)
    (tree / "test").rename(tree / "validation")
    with pytest.raises(DataError, match="has test images of its own"):
        load(tree, split=0.5)


def test_a_folder_of_runs_is_no_class(tree):
    root = tree / "train"
    (root / "runs" / "mine").mkdir(parents=True)
    for name in ("config.yaml", "manifest.json"):
        (root / "runs" / "mine" / name).write_text("{}")
    with pytest.raises(DataError, match="holds runs, no images of a class"):
        load(root, split=0.5)


def test_a_class_name_that_is_no_text_is_refused(tree):
    (tree / "train" / "ant").rename(tree / "train" / "a\udcff")
    with pytest.raises(DataError, match="whose name is no UTF-8"):
        load(tree)


def test_a_class_may_be_called_train(tree):
    root = tree / "train"
    (root / "ant").rename(root / "Train")
    assert load(root, split=0.5).classes == ("Train", "bee", "cat")


@pytest.mark.parametrize("name", ["train_set", "Training-Images", "TRAINDATA", "train split"])
def test_splits_with_one_more_word_are_no_classes(tree, name):
    (tree / "train").rename(tree / name)
    (tree / "test").rename(tree / "test_set")
    for request in ({}, {"split": 0.5}):
        with pytest.raises(DataError) as caught:
            load(tree, **request)
        assert caught.value.do == f"Rename {tree / name} to {tree / 'train'}."


def test_a_test_split_with_one_more_word_is_named(tree):
    (tree / "test").rename(tree / "dev_images")
    with pytest.raises(DataError, match="no test split") as caught:
        load(tree)
    assert caught.value.do == f"Rename {tree / 'dev_images'} to {tree / 'test'}."


@pytest.mark.parametrize(
    ("file", "do"),
    [
        ("data/train-00000-of-00001.parquet", "use --dataset huggingface --data-root"),
        ("train/data-00000-of-00001.arrow", "use --dataset huggingface --data-root"),
        ("metadata.jsonl", "Labels are not read from metadata.jsonl: move every image into a folder"),
        ("train/metadata.csv", "Labels are not read from metadata.csv: move every image into a folder"),
    ],
)
def test_layouts_of_hugging_face_are_told_apart(tmp_path, file, do):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        load(tmp_path)
    assert do in caught.value.do


def test_images_without_class_folders_are_what_is_wrong(tree):
    for folder in (tree / "train").iterdir():
        shutil.copy(folder / "0.png", tree / f"train/{folder.name}.png")
        shutil.rmtree(folder)
    shutil.rmtree(tree / "test")
    with pytest.raises(DataError, match=r"There are no class folders in .*train") as caught:
        load(tree)
    assert caught.value.seen == "3 files, such as ant.png"
    assert "--data.split" not in caught.value.do
