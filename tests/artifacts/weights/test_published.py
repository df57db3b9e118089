"""Published weights by name: from the cache, with their normalisation; nothing is downloaded unasked."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

from guard_plugins.artifacts.weights.files import read_content
from guard_plugins.artifacts.weights.matching import matches
from guard_plugins.artifacts.weights.published import find_published, is_published
from guard_plugins.errors import ConfigError
from guard_plugins.host import PluginHost
from guard_plugins.networks.base import NetworkRequest

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def refuse(*arguments: object, **keys: object) -> None:
        raise AssertionError("nothing may be downloaded")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path


@pytest.mark.parametrize("name", ["torchvision:resnet18", "torchvision:resnet18.IMAGENET1K_V1"])
def test_torchvision_s_from_its_cache(name: str, caches: Path) -> None:
    with pytest.raises(ConfigError, match="are not on this machine") as caught:
        find_published(Path(name), download=False)
    assert "--download" in caught.value.do
    source = torchvision.models.resnet18()
    (caches / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(source.state_dict(), caches / "hub" / "checkpoints" / "resnet18-f37072fd.pth")
    found = find_published(Path(name), download=False)
    assert (found.network, found.mean, found.std) == ("resnet18", *IMAGENET)
    request = NetworkRequest(image_shape=(3, 224, 224), classes=1000)
    with torch.device("meta"):
        target = PluginHost(only=[]).networks["resnet18"]().build(request).state_dict()
    best = matches(read_content(found.path), target)[0]
    assert best.complete
    assert not best.extra


def test_timm_s_from_the_hub_s_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("timm")
    hub = pytest.importorskip("huggingface_hub")
    cached: list[str | None] = [None, str(tmp_path / "model.safetensors")]
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda *_: cached.pop(0))
    with pytest.raises(ConfigError, match="are not on this machine"):
        find_published(Path("timm:resnet18.a1_in1k"), download=False)
    found = find_published(Path("timm:resnet18.a1_in1k"), download=False)
    assert (found.network, found.mean, found.std) == ("resnet18", *IMAGENET)


@pytest.mark.parametrize("name", ["torchvision:resnet19", "torchvision:resnet18.NOPE", "timm:resnet18.nope"])
def test_unknown_names(name: str) -> None:
    if name.startswith("timm"):
        pytest.importorskip("timm")
    with pytest.raises(ConfigError, match="publishes no weights called"):
        find_published(Path(name), download=True)


def test_what_is_a_name() -> None:
    assert is_published(Path("timm:resnet18"))
    assert not is_published(Path("nets.py:Net"))
    assert not is_published(Path("torchvision"))
