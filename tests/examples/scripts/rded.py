"""RDED as its authors' script has it, on scikit-learn's digits: a network chooses crops."""

import argparse
import pathlib

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F


def get_dataset(args):
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    targets = torch.tensor(digits.target)
    return [images[targets == c][: args.mipc] for c in range(10)]


def load_model(args):
    model = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 64, 10))
    model.load_state_dict(torch.load(args.model, weights_only=True))
    return model.eval()


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


def main(args):
    model = load_model(args)
    classes = get_dataset(args)
    for c, images in enumerate(classes):
        crops = random_crops(images, args.num_crop)
        labels = torch.full((len(images),), c)
        images = selector(args.ipc * args.factor**2, model, crops, labels, m=args.num_crop)
        images = mix_images(images, args.factor, args.ipc)
        torch.save(images.clamp(0, 1), pathlib.Path(args.syn_data_path, f"{c:03d}.pt"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="model.pt")
    parser.add_argument("--ipc", type=int, default=1)
    parser.add_argument("--mipc", type=int, default=300)
    parser.add_argument("--num-crop", type=int, default=5)
    parser.add_argument("--factor", type=int, default=2)
    parser.add_argument("--syn-data-path", default="syn_data")
    main(parser.parse_args())
