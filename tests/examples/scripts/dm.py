"""Distribution matching as its authors' script has it, on scikit-learn's digits: one file, one loop, global streams."""

import argparse

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import nn


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


def get_dataset():
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    mean, std = images.mean(), images.std()
    return (images - mean) / std, torch.tensor(digits.target), 10, mean, std


def main(args):
    images_all, labels_all, num_classes, mean, std = get_dataset()
    device = args.device
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

    for it in range(args.iteration):
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
        if it % 10 == 0:
            print(f"iter = {it:05d}, loss = {loss.item() / num_classes:.4f}")  # noqa: T201

    images = (image_syn.detach().cpu() * std + mean).clamp(0, 1)
    torch.save([images, label_syn], args.save_path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--iteration", type=int, default=100)
    parser.add_argument("--lr_img", type=float, default=1.0)
    parser.add_argument("--batch_real", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--save_path", default="dm.pt")
    main(parser.parse_args())
