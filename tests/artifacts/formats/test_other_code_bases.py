"""Sets as MTT, FTD, DATM, TESLA, RFAD, FRePo and KIP leave them, and files that are refused by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from guard_plugins.artifacts.formats import named_classes, read_any, write_parquet, write_sre2l
from guard_plugins.artifacts.sets.distilled import DistilledSetError, load_distilled, save_distilled
from guard_plugins.data.distilled import DistilledSet
from tests.artifacts.formats.conftest import MEAN, STD, smooth
from tests.artifacts.formats.test_ranges import normalised


def read(path: Path) -> DistilledSet:
    return read_any(path, mean=MEAN, std=STD)


def refusal(path: Path) -> str:
    with pytest.raises(DistilledSetError) as caught:
        read(path)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_a_folder_of_mtt_and_its_iterations(tmp_path: Path) -> None:
    labels = torch.arange(3).repeat(2)
    for name, seed in (("best", 0), ("5000", 1)):
        torch.save(normalised(smooth(seed=seed)), tmp_path / f"images_{name}.pt")
        torch.save(labels, tmp_path / f"labels_{name}.pt")
    found = read(tmp_path)
    assert (found.images - smooth(seed=0)).abs().max() < 1e-6
    assert torch.equal(found.labels, labels)
    assert found.soft_labels is None
    assert found.student_lr is None
    assert (read(tmp_path / "images_5000.pt").images - smooth(seed=1)).abs().max() < 1e-6
    (tmp_path / "labels_best.pt").unlink()
    assert "There is no labels_best.pt" in refusal(tmp_path)


def test_a_folder_of_datm_has_logits_and_a_learned_rate(tmp_path: Path) -> None:
    folder, logits = tmp_path / "Normal", torch.randn(6, 3, generator=torch.Generator().manual_seed(0)) * 4
    folder.mkdir()
    torch.save(normalised(smooth()).requires_grad_(), folder / "images_best.pt")
    torch.save(logits, folder / "labels_best.pt")
    torch.save(torch.tensor(0.0126), folder / "lr_best.pt")
    found = read(tmp_path)
    assert found.soft_labels is not None
    assert torch.equal(found.soft_labels, logits)
    assert torch.equal(found.labels, logits.argmax(1))
    assert found.student_lr == pytest.approx(0.0126)
    save_distilled(tmp_path / "ours", found, ("a", "b", "c"))
    assert load_distilled(tmp_path / "ours").student_lr == found.student_lr
    torch.save(torch.tensor(-1.0), folder / "lr_best.pt")
    assert "does not hold a learning rate above 0" in refusal(tmp_path)


def test_a_folder_of_tesla_has_probabilities(tmp_path: Path) -> None:
    chances = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).softmax(1)
    torch.save(normalised(smooth()), tmp_path / "images_best.pt")
    torch.save(chances, tmp_path / "labels_best.pt")
    found = read(tmp_path)
    assert found.soft_labels is not None
    torch.testing.assert_close(found.soft_labels.softmax(1), chances)
    torch.save(torch.eye(3).repeat(2, 1), tmp_path / "labels_best.pt")
    assert read(tmp_path).soft_labels is None, "one-hot rows are classes"


def test_whitened_folders_are_read_by_their_undone_images(tmp_path: Path) -> None:
    whitened, labels = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 0.3, torch.arange(6)
    for name in ("best", "3000"):
        torch.save(whitened, tmp_path / f"images_{name}.pt")
        torch.save(labels, tmp_path / f"labels_{name}.pt")
    assert "seem to be whitened" in refusal(tmp_path)
    torch.save(smooth() * 1.02 - 0.01, tmp_path / "images_zca_3000.pt")
    torch.save(smooth(seed=9), tmp_path / "images_zca_4000.pt")
    assert torch.equal(read(tmp_path).images, (smooth() * 1.02 - 0.01).clamp(0, 1))
    (tmp_path / "images_3000.pt").unlink()
    assert "their iteration is not known" in refusal(tmp_path)


@pytest.mark.parametrize("content", [list, tuple, lambda pair: dict(zip(("images", "labels"), pair, strict=True))])
def test_one_pair_of_images_and_labels(tmp_path: Path, content) -> None:
    torch.save(content([smooth(), torch.arange(6)]), tmp_path / "set.pt")
    assert torch.equal(read(tmp_path / "set.pt").images, smooth())


@pytest.mark.parametrize("name", ["data.pt", "data_best.pt", "data2000.pt", "data_2000.pt"])
def test_idc_and_dream_need_their_decode_factor(tmp_path: Path, name: str) -> None:
    torch.save([smooth(), torch.arange(6)], tmp_path / name)
    assert "IDC or DREAM" in (message := refusal(tmp_path / name))
    assert "decode factor" in message


def test_npz_with_channels_first_or_last(tmp_path: Path) -> None:
    targets = np.eye(3, dtype=np.float32).repeat(2, 0) - 1 / 3
    for name, images in (("rfad", smooth()), ("kip", smooth().permute(0, 2, 3, 1))):
        np.savez(tmp_path / f"{name}.npz", images=normalised(smooth()).numpy(), labels=targets, k=1.0)
        found = read(tmp_path / f"{name}.npz")
        assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert found.soft_labels is None
        assert (found.images - smooth()).abs().max() < 1e-6
        np.savez(tmp_path / f"{name}-bytes.npz", image=(images * 255).round().byte().numpy(), label=np.arange(6))
        assert (read(tmp_path / f"{name}-bytes.npz").images - smooth()).abs().max() <= 0.51 / 255
    big = (smooth() * 255).numpy().astype(">f4")
    np.savez(tmp_path / "big.npz", x=big, y=np.arange(6, dtype=np.uint16)[:, None])
    assert read(tmp_path / "big.npz").labels.tolist() == list(range(6))


@pytest.mark.parametrize(
    ("arrays", "seen"),
    [
        ({"images": np.zeros((2, 3, 4, 4))}, "arrays: images"),
        ({"images": np.array([{}]), "labels": np.zeros(1)}, "allow_pickle"),
        ({"images": np.zeros((2, 3, 4, 4), np.complex64), "labels": np.zeros(2, int)}, "complex64"),
        ({"images": np.zeros((2, 48)), "labels": np.zeros(2, int)}, "(2, 48)"),
        ({"images": np.zeros((2, 3, 4, 4)), "labels": np.full((2, 3), np.nan)}, "not finite"),
        ({"images": np.zeros((2, 3, 4, 4)), "labels": np.array(["a", "b"])}, "<U1"),
    ],
)
def test_other_npz_files_are_refused(tmp_path: Path, arrays: dict[str, np.ndarray], seen: str) -> None:
    np.savez(tmp_path / "set.npz", **arrays)
    assert seen in refusal(tmp_path / "set.npz")


def test_damaged_npz_files_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=smooth().numpy(), labels=np.arange(6))
    whole = (tmp_path / "set.npz").read_bytes()
    for cut in (0, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "set.npz").write_bytes(whole[:cut])
        assert "NumPy archive" in refusal(tmp_path / "set.npz")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("set.pkl", "runs code"), ("set.pickle", "IDM"), ("set.zip", "Unpack it"), ("set.tar.gz", "Unpack it"),
        ("set.npy", "without labels"), ("set.h5", "HDF5"), ("set.tfrecord", "TensorFlow"),
    ],
)  # fmt: skip
def test_other_containers_are_refused_by_name(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    assert says in refusal(tmp_path / name)


def test_dd_ranking_needs_both_files(tmp_path: Path) -> None:
    for name, other in (("images", "labels"), ("labels", "images")):
        (tmp_path / name).mkdir()
        torch.save(torch.rand(2, 3, 4, 4), tmp_path / name / f"{name}.pt")
        assert f"There is no {other}.pt in {tmp_path / name}" in refusal(tmp_path / name)


def test_grey_images_stay_grey_in_sre2ls_layout(tmp_path: Path) -> None:
    grey = DistilledSet(smooth()[:, :1].contiguous(), torch.arange(3).repeat(2))
    write_sre2l(tmp_path, grey)
    assert torch.equal(read(tmp_path).images, grey.as_stored().images)
    Image.new("RGB", (16, 16)).save(tmp_path / "new000" / "class000_id007.png")
    mixed = read(tmp_path).images
    assert mixed.shape[1] == 3
    assert torch.equal(mixed[0, 1], grey.as_stored().images[0, 0])


@pytest.mark.parametrize("mode", ["1", "LA"])
def test_every_kind_of_grey_stays_grey(mode: str, tmp_path: Path) -> None:
    (tmp_path / "new000").mkdir()
    Image.new("L", (8, 8), 255).convert(mode).save(tmp_path / "new000" / "class000_id000.png")
    assert torch.equal(read(tmp_path).images, torch.ones(1, 1, 8, 8))


def test_images_deeper_than_8_bits_are_refused_in_sre2ls_layout(tmp_path: Path) -> None:
    (tmp_path / "new000").mkdir()
    Image.fromarray(np.full((8, 8), 30000, np.uint16)).save(tmp_path / "new000" / "class000_id000.png")
    assert "deeper than the 8 bits" in refusal(tmp_path)


def test_a_pipe_in_a_set_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "new000").mkdir()
    os.mkfifo(tmp_path / "new000" / "class000_id000.png")
    assert "no regular file" in refusal(tmp_path)


def test_a_pipe_in_place_of_the_tensors_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "distilled.safetensors")
    assert "no regular file" in refusal(tmp_path)


def test_colours_of_a_palette_are_looked_up(tmp_path: Path) -> None:
    save_distilled(tmp_path, DistilledSet(torch.rand(1, 3, 8, 8), torch.tensor([0])), ("a", "b"))
    (tmp_path / "distilled.safetensors").unlink()
    (path,) = tmp_path.glob("*/*.png")
    Image.new("RGB", (8, 8), (255, 0, 51)).quantize().save(path)
    assert read(tmp_path).images[0, :, 0, 0].tolist() == pytest.approx([1, 0, 0.2])


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(lambda classes: classes[:, None], id="a column"),
        pytest.param(lambda classes: classes.double(), id="floats"),
        pytest.param(lambda classes: classes[:, None].bfloat16(), id="a column of floats"),
        pytest.param(lambda classes: torch.eye(6)[classes].to(torch.uint8), id="one-hot bytes"),
        pytest.param(lambda classes: torch.eye(6)[classes].bool(), id="one-hot truths"),
    ],
)
def test_classes_in_another_form_are_read_as_meant(tmp_path: Path, stored: Callable[[Tensor], Tensor]) -> None:
    classes = torch.tensor([0, 1, 2, 3, 4, 5])
    torch.save(normalised(smooth()), tmp_path / "images_best.pt")
    torch.save(stored(classes), tmp_path / "labels_best.pt")
    found = read(tmp_path)
    assert torch.equal(found.labels, classes)
    assert found.soft_labels is None


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (torch.tensor([0, 1, 2, 3, 4, 5.5]), "does not hold whole-number labels"),
        (torch.tensor([0, 1, 2, 3, 4, float("inf")]), "does not hold whole-number labels"),
        (torch.arange(12).view(6, 2), "several whole numbers an image"),
        (torch.zeros(6, 3, dtype=torch.int64), "several whole numbers an image"),
        (torch.zeros(6, 0, dtype=torch.int64), "does not hold whole-number labels"),
    ],
)
def test_numbers_that_are_no_classes_are_refused(tmp_path: Path, labels: Tensor, said: str) -> None:
    torch.save(normalised(smooth()), tmp_path / "images_best.pt")
    torch.save(labels, tmp_path / "labels_best.pt")
    assert said in refusal(tmp_path)


def test_one_image_as_png_and_jpg_is_not_two(tmp_path: Path) -> None:
    (tmp_path / "new000").mkdir()
    for ending in ("jpg", "png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "new000" / f"class000_id000.{ending}")
    message = refusal(tmp_path)
    assert "is in" in message
    assert "twice" in message
    assert "class000_id000.jpg and new000/class000_id000.png" in message


def test_several_whole_numbers_an_image_are_no_labels(tmp_path: Path) -> None:
    images = smooth().numpy()
    np.savez(tmp_path / "two.npz", images=images, labels=np.stack([np.arange(6), np.arange(6) % 2], 1))
    assert "several whole numbers an image" in refusal(tmp_path / "two.npz")
    np.savez(tmp_path / "hot.npz", images=images, labels=np.eye(6, dtype=np.int64))
    assert read(tmp_path / "hot.npz").labels.tolist() == list(range(6))


def test_probabilities_in_a_folder_become_logits(tmp_path: Path) -> None:
    soft = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    for name, stored in (("logits", soft), ("probabilities", soft.softmax(1))):
        save_distilled(tmp_path / name, DistilledSet(smooth().clamp(0, 1), torch.arange(6) % 4, stored), "abcd")
        found = load_distilled(tmp_path / name).soft_labels
        assert found is not None
        assert torch.allclose(found.softmax(1), soft.softmax(1), atol=1e-5)
    assert torch.equal(load_distilled(tmp_path / "logits").soft_labels, soft)


def test_names_of_classes_are_those_of_the_format(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    distilled = DistilledSet(smooth().clamp(0, 1), torch.arange(6) % 4)
    write_parquet(tmp_path / "set.parquet", distilled, "dcba")
    save_distilled(tmp_path / "folder", distilled, "abcd")
    assert named_classes(tmp_path / "set.parquet") == dict(enumerate("dcba"))
    assert named_classes(tmp_path / "folder") == dict(enumerate("abcd"))
    (tmp_path / "set.parquet").write_bytes(b"no table")
    assert named_classes(tmp_path / "set.parquet") == {}
    assert named_classes(tmp_path / "nothing") == {}
