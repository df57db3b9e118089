from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["guard_plugins.host.builtin"])
def test_listing_does_not_import_torch(module):
    program = (
        f"import sys, {module} as plugin\n"
        "names = [c.name for f in ('register_networks', 'register_datasets') if hasattr(plugin, f)"
        " for c in getattr(plugin, f)()]\n"
        "assert names\n"
        "print([m for m in ('torch', 'torchvision', 'sklearn', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_and_summaries_of_the_data_sets():
    from guard_plugins.data.base import DataSet
    from guard_plugins.host.builtin import register_datasets

    datasets = register_datasets()
    assert sorted(dataset.name for dataset in datasets) == [
        "cifar10", "cifar100", "digits", "fashion-mnist", "folder", "huggingface", "imagenet", "imagenette", "mnist",
        "svhn", "tiny-imagenet",
    ]  # fmt: skip
    assert all(issubclass(dataset, DataSet) and dataset.summary and "\n" not in dataset.summary for dataset in datasets)
    assert {dataset.name for dataset in datasets if dataset.needs_root} == {
        "folder", "huggingface", "tiny-imagenet", "imagenet",
    }  # fmt: skip
