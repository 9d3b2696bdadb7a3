"""AlexNet's colour noise."""

import numpy as np
import torch
from pictures import crops

from puzzlemix.data.lighting import EIGENVALUES, EIGENVECTORS, Lighting


def test_an_image_is_shifted_by_one_colour_along_the_components():
    image = torch.from_numpy(crops(1, (16, 16))[0]).permute(2, 0, 1)
    torch.manual_seed(0)
    lit = Lighting(0.5)(image)
    torch.manual_seed(0)
    shares = 0.5 * torch.randn(3)
    for channel in range(3):
        shift = sum(float(EIGENVECTORS[channel, k] * shares[k] * EIGENVALUES[k]) for k in range(3))
        wanted = np.clip(np.round(image[channel].numpy() + 255 * shift), 0, 255)
        np.testing.assert_allclose(lit[channel].numpy(), wanted, atol=1)
    assert lit.dtype == torch.uint8
    assert not torch.equal(lit, image)


def test_the_components_are_orthogonal_and_of_unit_length():
    torch.testing.assert_close(EIGENVECTORS.T @ EIGENVECTORS, torch.eye(3), atol=1e-3, rtol=0)
