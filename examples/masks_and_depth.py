"""A second input and a segmentation mask are mixed as the images were: python examples/masks_and_depth.py

The example generates its scenes: a square or a disc on noise, and how far away everything is. A network sees the image
and the depth; it names the shape and marks its pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import puzzlemix

SIZE = 16  # pixels per side


def scenes(count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images (B, 3, H, W) in [0, 1], depth (B, 1, H, W), labels (B,): 0 square, 1 disc, and masks (B, H, W) of both."""
    labels = torch.randint(2, (count,))
    centre = torch.empty(2, count, 1, 1).uniform_(4, SIZE - 5)
    down, across = torch.arange(SIZE).view(-1, 1) - centre[0], torch.arange(SIZE) - centre[1]  # (B, H, W) each
    disc, square = down**2 + across**2 <= 16, torch.maximum(down.abs(), across.abs()) <= 3.5
    masks = torch.where(labels.view(-1, 1, 1) == 1, disc, square)  # (B, H, W)
    images = 0.5 * torch.rand(count, 3, SIZE, SIZE) + 0.4 * masks[:, None]
    depth = 1 - 0.5 * masks[:, None] + 0.1 * torch.randn(count, 1, SIZE, SIZE)
    return images, depth, labels, masks.long() * (1 + labels.view(-1, 1, 1))  # 0 background, 1 square, 2 disc


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.of_image, self.of_depth = nn.Conv2d(3, 16, 5, padding=2), nn.Conv2d(1, 16, 5, padding=2)
        self.hidden = nn.Sequential(nn.ReLU(), nn.Conv2d(16, 32, 5, padding=2), nn.ReLU())
        self.shape, self.pixels = nn.Linear(32, 2), nn.Conv2d(32, 3, 1)

    def forward(self, images: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        """Scores of the shape (B, 2) and of every pixel (B, 3, H, W)."""
        hidden = self.hidden(self.of_image(images) + self.of_depth(depth))
        return self.shape(hidden.amax((2, 3))), self.pixels(hidden)


def main(steps: int = 200) -> tuple[float, float]:
    """The share of shapes, and of pixels, that are right in new scenes."""
    torch.manual_seed(0)
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    # The saliency is that of the images: the depth of the batch at hand is given to the network as it is.
    mix = puzzlemix.PuzzleMix(num_classes=2, blocks=(2, 4), forward=lambda network, images: network(images, depth)[0])

    mix.draws.seed(0, 0)

    for _ in range(steps):
        images, depth, labels, masks = scenes(32)
        optimizer.zero_grad()
        mixed, _ = mix(network, images, labels)
        mixed_depth = mix.mix_again(depth)  # (B, 1, H, W)
        mixed_masks = mix.mix_again(F.one_hot(masks, 3).movedim(-1, 1).float())  # (B, 3, H, W), shares of each pixel
        scores, pixel_scores = network(mixed, mixed_depth)

        # of every pair; `mix.last` is empty if a batch was not mixed, as with prob=0.5
        partner, share = mix.last["partner"], mix.last["share"]  # (B,), (B,)
        first, second = (F.cross_entropy(scores, y, reduction="none") for y in (labels, labels[partner]))
        loss = (share * first + (1 - share) * second).mean() + F.cross_entropy(pixel_scores, mixed_masks)
        loss.backward()
        optimizer.step()

    images, depth, labels, masks = scenes(500)
    with torch.no_grad():
        scores, pixel_scores = network(images, depth)
    return tuple((s.argmax(1) == y).float().mean().item() for s, y in ((scores, labels), (pixel_scores, masks)))


if __name__ == "__main__":
    print("right: {:.1%} of the shapes, {:.1%} of the pixels".format(*main()))
