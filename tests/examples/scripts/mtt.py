"""Trajectory matching as its authors' scripts have it, on scikit-learn's digits: experts first, then images."""

import argparse

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.func import functional_call


def get_dataset(args):
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    return images.to(args.device), torch.tensor(digits.target).to(args.device), 10


def get_network(args, seed):
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 32, 3, padding=1), nn.GroupNorm(32, 32), nn.ReLU(), nn.AvgPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 16, 10)).to(args.device)


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
    trajectories = [train_expert(args, n, images_all, labels_all) for n in range(args.num_experts)]

    device = images_all.device
    label_syn = torch.arange(num_classes, device=device).repeat_interleave(args.ipc)
    first = [torch.nonzero(labels_all == c).flatten()[: args.ipc] for c in range(num_classes)]
    image_syn = images_all[torch.cat(first)].clone().requires_grad_()
    optimizer_img = torch.optim.SGD([image_syn], lr=args.lr_img, momentum=0.5)
    net = get_network(args, 0)

    for it in range(args.iteration):
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
        if it % 10 == 0:
            print(f"iter = {it:05d}, loss = {grand_loss.item():.4f}")  # noqa: T201

    torch.save([image_syn.detach().cpu().clamp(0, 1), label_syn.cpu()], args.save_path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--num_experts", type=int, default=3)
    parser.add_argument("--train_epochs", type=int, default=5)
    parser.add_argument("--lr_teacher", type=float, default=0.05)
    parser.add_argument("--lr_img", type=float, default=10.0)
    parser.add_argument("--syn_steps", type=int, default=5)
    parser.add_argument("--iteration", type=int, default=50)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save_path", default="mtt.pt")
    main(parser.parse_args())
