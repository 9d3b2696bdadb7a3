"""Puzzle Mix for a timm model on spectrograms, rectangular images of one channel: python examples/spectrograms.py

The example generates its sounds: a tone that stays, rises, falls or beats, in noise. It needs timm.
"""

import timm
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

import puzzlemix

SAMPLES_PER_S, LENGTH_S = 8000, 1.0


def sounds(count: int) -> tuple[Tensor, Tensor]:
    """Waves (count, 8000) and their labels (count,): 0 stays, 1 rises, 2 falls, 3 beats."""
    time_s = torch.arange(int(SAMPLES_PER_S * LENGTH_S)) / SAMPLES_PER_S  # (8000,)
    labels = torch.randint(4, (count,))
    start_hz = torch.empty(count, 1).uniform_(800, 2400)
    slope_hz = torch.tensor([0.0, 800.0, -800.0, 0.0])[labels, None]  # over the whole second
    wave = torch.sin(2 * torch.pi * (start_hz * time_s + slope_hz * time_s**2 / 2))
    beats = (torch.sin(2 * torch.pi * 8 * time_s) > 0).float()
    wave = torch.where(labels[:, None] == 3, beats * wave, wave)
    return wave + 0.2 * torch.randn_like(wave), labels


def spectrograms(waves: Tensor) -> Tensor:
    """Log power, (B, samples) -> (B, 1, 33, 63), each image in [0, 1]."""
    spectrum = torch.stft(waves, n_fft=64, hop_length=128, window=torch.hann_window(64), return_complex=True)
    log_power = spectrum.abs().square().clamp(min=1e-6).log()
    low, high = log_power.amin((1, 2), keepdim=True), log_power.amax((1, 2), keepdim=True)
    return ((log_power - low) / (high - low))[:, None]


def main(steps: int = 100) -> float:
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", in_chans=1, num_classes=4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    # sizes of blocks may differ by a pixel; time, the longer side, has more blocks
    mix = puzzlemix.PuzzleMix(num_classes=4, blocks=((2, 4), (4, 8), (8, 16)))

    model.train()
    for _ in range(steps):
        waves, labels = sounds(32)
        optimizer.zero_grad()
        mixed, targets = mix(model, spectrograms(waves), labels)  # (B, 1, 33, 63), (B, 4)
        loss = cross_entropy(model(mixed), targets)
        loss.backward()
        optimizer.step()

    model.eval()
    waves, labels = sounds(200)
    with torch.no_grad():
        return (model(spectrograms(waves)).argmax(1) == labels).float().mean().item()


if __name__ == "__main__":
    print(f"test accuracy {100 * main():.1f} %")
