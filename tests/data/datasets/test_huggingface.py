"""Hugging Face data sets by local path: as the hub's Parquet, as save_to_disk's Arrow, and what is refused."""

from __future__ import annotations

import io
import json
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from guard_plugins.artifacts.formats import read_any
from guard_plugins.artifacts.sets.distilled import DistilledSetError
from guard_plugins.data.base import DataRequest
from guard_plugins.data.datasets.huggingface import HuggingFace
from guard_plugins.errors import DataError

FEATURES = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["ant", "bee"]}}
STRUCT = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def rows(count, seed=0, side=6):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), np.uint8)
    return pixels, np.arange(count) % 2


def table(pixels, labels, *, image="image", label="label", features=FEATURES, contents=None):
    contents = contents or [{"bytes": png(one), "path": None} for one in pixels]
    columns = {image: pyarrow.array(contents, STRUCT), label: pyarrow.array(labels.tolist())}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    return pyarrow.table(columns).replace_schema_metadata(metadata)


def parquet(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(content, path)


def arrow(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, content.schema) as stream:
        stream.write_table(content)


def load(root, **request):
    return HuggingFace().load(DataRequest(root=root, **request))


@pytest.mark.parametrize(
    ("write", "train", "test"),
    [
        (parquet, "data/train-0000{}-of-00002.parquet", "data/test-0000{}-of-00002.parquet"),
        (parquet, "plain_text/train-{}.parquet", "plain_text/validation-{}.parquet"),
        (arrow, "train/data-0000{}-of-00002.arrow", "test/data-0000{}-of-00002.arrow"),
    ],
    ids=["hub", "configuration", "save_to_disk"],
)
def test_both_splits_in_order(tmp_path, write, train, test):
    written = {}
    for name in (train, test):
        parts = [rows(4, seed) for seed in (1, 2)]
        for n, part in enumerate(parts):
            write(tmp_path / name.format(n), table(*part))
        written[name] = np.concatenate([pixels for pixels, _ in parts])
    data = load(tmp_path)
    assert data.classes == ("ant", "bee")
    assert data.image_shape == (3, 6, 6)
    for split, name in ((data.train, train), (data.test, test)):
        expected = torch.from_numpy(written[name]).permute(0, 3, 1, 2).float() / 255
        assert torch.equal(split.images(torch.arange(8)), expected)
        assert split.labels.tolist() == [0, 1] * 4
    assert load(tmp_path, image_size=3, train_per_class=1).train.images(torch.arange(2)).shape == (2, 3, 3, 3)


def test_other_names_of_columns_and_labels_as_text(tmp_path):
    pixels, _ = rows(4)
    for name in ("train", "test"):
        named = table(pixels, np.array(["cat", "ant", "cat", "ant"]), image="img", features=None)
        parquet(tmp_path / f"{name}-0.parquet", named)
    data = load(tmp_path)
    assert data.classes == ("ant", "cat")
    assert data.train.labels.tolist() == [1, 0, 1, 0]


def message(root, **request):
    with pytest.raises(DataError) as caught:
        load(root, **request)
    return str(caught.value)


def test_what_is_refused(tmp_path):
    pixels, labels = rows(4)
    assert "needs the folder" in message(None)
    assert "There is no split train" in message(tmp_path)
    train, test = tmp_path / "train-0.parquet", tmp_path / "test-0.parquet"
    parquet(train, table(pixels, labels))
    assert "There is no split test" in message(tmp_path)
    parquet(test, table(pixels, labels + 5))
    assert "The classes of the splits" in message(tmp_path)
    parquet(test, table(pixels, labels, label="kind", features=None))
    assert "has no column of labels" in message(tmp_path)
    parquet(test, table(pixels, labels, contents=[{"bytes": None, "path": "a.png"}] * 4))
    assert "are not in the file" in message(tmp_path)
    parquet(test, table(pixels, labels - 1))
    assert "are not class indices from 0" in message(tmp_path)
    parquet(test, table(*rows(4, side=9)))
    assert "not all of one size" in message(tmp_path)
    parquet(test, table(pixels, labels, contents=[{"bytes": b"no image", "path": None}] * 4))
    assert "in row 0 of test-0.parquet cannot be read" in message(tmp_path)
    test.write_bytes(train.read_bytes()[:-20])
    assert "test-0.parquet cannot be read" in message(tmp_path)
    assert "has no use for --data.split" in message(tmp_path, split=0.2)


def test_without_pyarrow_the_remedy_is_named(tmp_path, monkeypatch):
    parquet(tmp_path / "train-0.parquet", table(*rows(4)))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "pip install 'guard-plugins[datasets]'" in message(tmp_path)


def test_distilled_sets_in_one_file_or_folder(tmp_path):
    pixels, labels = rows(6)
    parquet(tmp_path / "set.parquet", table(pixels, labels))
    arrow(tmp_path / "saved" / "data-00000-of-00001.arrow", table(pixels, labels))
    (tmp_path / "saved" / "state.json").write_text("{}")
    for path in (tmp_path / "set.parquet", tmp_path / "saved"):
        found = read_any(path, mean=(0.5,) * 3, std=(0.2,) * 3)
        assert torch.equal(found.images, torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
        assert found.labels.tolist() == labels.tolist()
    (tmp_path / "set.parquet").write_bytes(b"PAR1")
    with pytest.raises(DistilledSetError, match=r"set\.parquet cannot be read"):
        read_any(tmp_path / "set.parquet", mean=(0.5,) * 3, std=(0.2,) * 3)
