"""Puzzle Mix in a plain training loop, on scikit-learn's digits: python examples/plain_loop.py"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import puzzlemix


def main(epochs: int = 15) -> float:
    torch.manual_seed(0)
    pixels, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    images = (pixels / 16).float().view(-1, 1, 8, 8)  # (1797, 1, 8, 8) in [0, 1]
    train, test = torch.randperm(len(labels)).split([1297, 500])

    model = nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(64 * 4 * 4, 10)),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    mix = puzzlemix.PuzzleMix(num_classes=10, blocks=(2, 4), neigh_size=2)

    for _ in range(epochs):
        for batch in train[torch.randperm(len(train))].split(64):
            optimizer.zero_grad()
            mixed, targets = mix(model, images[batch], labels[batch])  # (B, 1, 8, 8), (B, 10)
            loss = cross_entropy(model(mixed), targets)
            loss.backward()
            optimizer.step()

    model.eval()
    with torch.no_grad():
        return (model(images[test]).argmax(1) == labels[test]).float().mean().item()


if __name__ == "__main__":
    print(f"test accuracy {100 * main():.1f} %")
