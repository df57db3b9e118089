"""The script ``dm.py`` as a plugin: guard-run --plugin dm_plugin.py --method my-dm."""

import argparse

import numpy as np
import torch
from pydantic import Field
from torch import nn

from guard_plugins import DistilledSet, LoopState, Method, MethodConfig
from guard_plugins.errors import ConfigError


class ConvNet(nn.Module):
    def __init__(self, channel, num_classes, width=32):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channel, width, 3, padding=1), nn.GroupNorm(width, width), nn.ReLU(), nn.AvgPool2d(2),
            nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(width, width), nn.ReLU(), nn.AvgPool2d(2),
        )  # fmt: skip
        self.classifier = nn.Linear(4 * width, num_classes)

    def embed(self, x):
        return self.features(x).flatten(1)

    def forward(self, x):
        return self.classifier(self.embed(x))


def get_dataset(dst):
    mean, std = (torch.tensor(value)[:, None, None] for value in (dst.mean, dst.std))
    return (dst.train.images(torch.arange(len(dst.train))) - mean) / std, dst.train.labels, len(dst.classes), mean, std


def main(args, task):
    images_all, labels_all, num_classes, mean, std = get_dataset(task.data)
    device = args.device
    task.seeds.reset("my-dm")
    indices_class = [torch.nonzero(labels_all == c).flatten().numpy() for c in range(num_classes)]
    channel, *im_size = images_all.shape[1:]

    def get_images(c, n):
        idx_shuffle = np.random.permutation(indices_class[c])[:n]
        return images_all[idx_shuffle].to(device)

    image_syn = torch.randn(size=(num_classes * args.ipc, channel, *im_size), device=device)
    label_syn = torch.arange(num_classes).repeat_interleave(args.ipc)
    for c in range(num_classes):
        image_syn[c * args.ipc : (c + 1) * args.ipc] = get_images(c, args.ipc)
    image_syn.requires_grad_()
    optimizer_img = torch.optim.SGD([image_syn], lr=args.lr_img, momentum=0.5)

    for step in task.steps("my-dm", args.iteration, state=LoopState(images=image_syn, sgd=optimizer_img)):
        net = ConvNet(channel, num_classes).to(device)
        net.train()
        for param in net.parameters():
            param.requires_grad = False
        loss = torch.tensor(0.0, device=device)
        for c in range(num_classes):
            img_real = get_images(c, args.batch_real)
            img_syn = image_syn[c * args.ipc : (c + 1) * args.ipc]
            output_real = net.embed(img_real).detach()
            output_syn = net.embed(img_syn)
            loss += torch.sum((torch.mean(output_real, dim=0) - torch.mean(output_syn, dim=0)) ** 2)
        optimizer_img.zero_grad()
        loss.backward()
        optimizer_img.step()
        step.log(loss=loss / num_classes)

    images = (image_syn.detach().cpu() * std + mean).clamp(0, 1)
    return DistilledSet(images, label_syn)


class Options(MethodConfig):
    iteration: int = Field(100, description="steps")
    lr_img: float = Field(1.0, description="learning rate of the images")
    batch_real: int = Field(64, description="real images of a class per step")


class MyDM(Method):
    name, summary, Config = "my-dm", "distribution matching, from its script", Options
    guarded, uses_teacher, labels = (), False, "hard"

    def check(self, task, teacher):
        if min(task.data.train.labels.bincount()) < task.ipc:
            raise ConfigError("A class has fewer images than --ipc")

    def distill(self, task, teacher):
        return main(argparse.Namespace(ipc=task.ipc, device=task.device, **dict(self.config)), task)
