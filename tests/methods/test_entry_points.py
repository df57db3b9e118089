"""The methods are known by their entry points alone, and carry presets for the data sets."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points

import pytest

from guard_plugins.errors import ConfigError
from guard_plugins.host import PluginHost
from guard_plugins.host.configure import configure

METHODS = ("sre2l", "cda", "dc")
DATASETS = ("digits", "cifar10", "cifar100", "tiny-imagenet", "imagenette", "imagenet")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_without_its_entry_point_is_gone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PluginHost(only=[name]).method(name).name == name
    catalogue = importlib.import_module("guard_plugins.host.discovery")
    left = tuple(point for point in entry_points(group="guard_plugins") if point.name != name)
    monkeypatch.setattr(catalogue, "entry_points", lambda group: left)
    with pytest.raises(ConfigError, match=f"Unknown method '{name}'"):
        PluginHost().method(name)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dataset", DATASETS)
def test_every_preset_is_a_valid_configuration(name: str, dataset: str) -> None:
    assert configure(name, dataset=dataset).dataset == dataset
    configure(name, dataset="folder", preset="fast")


def test_published_constants() -> None:
    def recover(name: str, dataset: str) -> tuple[float, float, int, int, float]:
        r = configure(name, dataset=dataset).recover  # type: ignore[attr-defined]
        return r.lr, r.r_bn, r.iterations, r.jitter, r.crop_scale

    assert recover("sre2l", "imagenet") == (0.25, 0.01, 4000, 32, 0.08)
    assert recover("sre2l", "tiny-imagenet") == (0.1, 1.0, 4000, 4, 0.08)
    assert recover("sre2l", "cifar100") == (0.25, 0.01, 1000, 4, 1.0)
    assert recover("cda", "imagenet") == (0.25, 0.01, 4000, 32, 0.08)
    assert recover("cda", "tiny-imagenet") == (0.4, 0.05, 4000, 4, 0.08)
    assert recover("cda", "cifar10") == (0.25, 0.01, 1000, 4, 0.4)
    curriculum = configure("cda", dataset="imagenet").curriculum  # type: ignore[attr-defined]
    assert (curriculum.shape, curriculum.milestone) == ("cosine", 1.0)


def test_dc_on_cifar_is_the_published_command() -> None:
    config = configure("dc", dataset="cifar10")
    m = config.match  # type: ignore[attr-defined]
    assert (m.network, m.iterations, m.lr_images, m.momentum, m.lr_network, m.real_batch, m.start, m.distance) == (
        "convnet3", 1000, 0.1, 0.5, 0.01, 256, "noise", "layerwise",
    )  # fmt: skip
    assert (config.student.network, config.student.protocol) == ("convnet3", "dc")
