"""The script ``rded.py`` as a plugin: guard-run --plugin rded_plugin.py --method my-rded."""

import argparse

import torch
from pydantic import Field
from torch.nn import functional as F

from guard_plugins import DistilledSet, LoopState, Method, MethodConfig
from guard_plugins.errors import ConfigError


def get_dataset(args, train):
    members = [torch.nonzero(train.labels == c).flatten() for c in range(args.classes)]
    return [train.images(index[: args.mipc]) for index in members]


def random_crops(images, num_crop):
    h, w = images.shape[2:]
    crops = []
    for _ in range(num_crop):
        size = torch.randint(h // 2, h + 1, (1,)).item()
        top, left = (torch.randint(0, side - size + 1, (1,)).item() for side in (h, w))
        crop = images[:, :, top : top + size, left : left + size]
        crops.append(F.interpolate(crop, (h, w), mode="bilinear", align_corners=False))
    return torch.stack(crops, dim=1)


def cross_entropy(y_pre, y):
    return -torch.log_softmax(y_pre, dim=1).gather(1, y.view(-1, 1))[:, 0]


def selector(n, model, images, labels, m):
    with torch.no_grad():
        s = images.shape
        images = images.permute(1, 0, 2, 3, 4).reshape(s[0] * s[1], s[2], s[3], s[4])
        labels = labels.repeat(m)
        preds = torch.cat([model(part) for part in images.split(s[0])], dim=0)
        dist = cross_entropy(preds, labels).reshape(m, s[0])
        index = torch.argmin(dist, 0)
        dist = dist[index, torch.arange(s[0])]
        images = images.reshape(m, s[0], s[2], s[3], s[4])[index, torch.arange(s[0])]
    indices = torch.argsort(dist, descending=False)[:n]
    return images[indices].detach()


def mix_images(images, factor, n):
    c, h, w = images.shape[1:]
    patches = F.interpolate(images, (h // factor, w // factor), mode="bilinear", align_corners=False)
    patches = patches.reshape(n, factor, factor, c, h // factor, w // factor)
    return patches.permute(0, 3, 1, 4, 2, 5).reshape(n, c, h, w)


def main(args, task, model):
    classes = get_dataset(args, task.data.train)
    syn = torch.zeros(args.classes, args.ipc, *task.data.image_shape)
    for step in task.steps("my-rded", args.classes, state=LoopState(syn=syn)):
        c, images = step.index, classes[step.index].to(task.device)
        crops = random_crops(images, args.num_crop)
        labels = torch.full((len(images),), c, device=task.device)
        images = selector(args.ipc * args.factor**2, model, crops, labels, m=args.num_crop)
        images = mix_images(images, args.factor, args.ipc)
        syn[c] = images.clamp(0, 1).cpu()
    return DistilledSet(syn.flatten(0, 1), torch.arange(args.classes).repeat_interleave(args.ipc))


class Options(MethodConfig):
    mipc: int = Field(300, description="real images of a class to choose from")
    num_crop: int = Field(5, description="crops of an image")
    factor: int = Field(2, description="patches along a side of an image")


class MyRDED(Method):
    name, summary, Config = "my-rded", "patches the teacher is surest of, from the script", Options

    def check(self, task, teacher):
        if min(self.config.mipc, *task.data.train.labels.bincount()) < task.ipc * self.config.factor**2:
            raise ConfigError("A class has too few images (--ipc, --mipc, --factor)")

    def distill(self, task, teacher):
        return main(argparse.Namespace(ipc=task.ipc, classes=task.classes, **dict(self.config)), task, teacher)
