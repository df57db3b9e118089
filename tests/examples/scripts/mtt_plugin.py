"""The script ``mtt.py`` as a plugin: guard-run --plugin mtt_plugin.py --method my-mtt."""

import argparse

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.func import functional_call

from guard_plugins import DistilledSet, LoopState, Method, MethodConfig
from guard_plugins.errors import ConfigError


def get_dataset(args):
    train, device = args.task.data.train, args.task.device
    return train.images(torch.arange(len(train))).to(device), train.labels.to(device), args.task.classes


def get_network(args, seed):
    return args.task.network("convnet3", stage=f"my-mtt/{seed}")


def train_expert(args, n, images, labels):
    net = get_network(args, n)
    optimizer = torch.optim.SGD(net.parameters(), lr=args.lr_teacher)
    timestamps = [{name: p.detach().clone() for name, p in net.named_parameters()}]
    for _ in range(args.train_epochs):
        for index in torch.randperm(len(images)).split(128):
            loss = nn.functional.cross_entropy(net(images[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        timestamps.append({name: p.detach().clone() for name, p in net.named_parameters()})
    return timestamps


def main(args):
    images_all, labels_all, num_classes = get_dataset(args)
    for step in args.task.steps("experts", args.num_experts, state=LoopState()):
        args.task.folder("experts").save(f"{step.index}", args.expert(args, step.index, images_all, labels_all))
    trajectories = [args.task.folder("experts").load(f"{n}") for n in range(args.num_experts)]

    device = images_all.device
    label_syn = torch.arange(num_classes, device=device).repeat_interleave(args.ipc)
    first = [torch.nonzero(labels_all == c).flatten()[: args.ipc] for c in range(num_classes)]
    image_syn = images_all[torch.cat(first)].clone().requires_grad_()
    optimizer_img = torch.optim.SGD([image_syn], lr=args.lr_img, momentum=0.5)
    net = get_network(args, 0)

    for step in args.task.steps("my-mtt", args.iteration, state=LoopState(images=image_syn, sgd=optimizer_img)):
        expert_trajectory = trajectories[np.random.randint(len(trajectories))]
        start_epoch = np.random.randint(args.train_epochs)
        starting_params = {name: p.to(device) for name, p in expert_trajectory[start_epoch].items()}
        target_params = {name: p.to(device) for name, p in expert_trajectory[start_epoch + 1].items()}
        student_params = {name: p.clone().requires_grad_() for name, p in starting_params.items()}
        for _ in range(args.syn_steps):
            ce_loss = nn.functional.cross_entropy(functional_call(net, student_params, image_syn), label_syn)
            grads = torch.autograd.grad(ce_loss, list(student_params.values()), create_graph=True)
            student_params = {
                n: p - args.lr_teacher * g for (n, p), g in zip(student_params.items(), grads, strict=True)
            }
        param_loss = sum(((student_params[n] - target_params[n]) ** 2).sum() for n in target_params)
        param_dist = sum(((starting_params[n] - target_params[n]) ** 2).sum() for n in target_params)
        grand_loss = param_loss / param_dist
        optimizer_img.zero_grad()
        grand_loss.backward()
        optimizer_img.step()
        step.log(loss=grand_loss)

    return DistilledSet(image_syn.detach().cpu().clamp(0, 1), label_syn.cpu())


class Options(MethodConfig):
    iteration: int = Field(50, description="steps on the images")


class MyMTT(Method):
    name, summary, Config = "my-mtt", "trajectory matching, from its scripts", Options
    guarded, uses_teacher, labels = ("expert",), False, "hard"
    expert = staticmethod(train_expert)

    def check(self, task, teacher):
        if min(task.data.train.labels.bincount()) < task.ipc:
            raise ConfigError("A class has fewer images than --ipc")

    def distill(self, task, teacher):
        fixed = {"num_experts": 3, "train_epochs": 5, "lr_teacher": 0.05, "lr_img": 10.0, "syn_steps": 5}
        return main(argparse.Namespace(ipc=task.ipc, task=task, expert=self.expert, **fixed, **dict(self.config)))
