"""A corruption of images, by its name. This imports what `pip install '.[robustness]'` installs."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import PIL
import scipy
import skimage

from puzzlemix.corruptions import blur, digital, noise, weather
from puzzlemix.corruptions.severities import severities_for
from puzzlemix.streams import numpy_stream

VERSIONS = {  # on which bytes depend
    "numpy": np.__version__,
    "scipy": scipy.__version__,
    "pillow": PIL.__version__,
    "opencv": cv2.__version__,
    "scikit-image": skimage.__version__,
}
FIXED = {  # the same for every image
    "defocus_blur": blur.defocus_blur,
    "zoom_blur": blur.zoom_blur,
    "brightness": digital.brightness,
    "contrast": digital.contrast,
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg_compression,
    "gaussian_blur": blur.gaussian_blur,
    "saturate": digital.saturate,
}
DRAWN = {  # takes a stream for each image
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "glass_blur": blur.glass_blur,
    "motion_blur": blur.motion_blur,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "elastic_transform": digital.elastic_transform,
    "speckle_noise": noise.speckle_noise,
    "spatter": weather.spatter,
}


def corrupt(name: str, seed: int, severity: int, places: Sequence[int], images: np.ndarray) -> np.ndarray:
    """Images under a corruption. What happens to one does not depend on which others come with it.

    Args:
        name: one of `names.RELEASED`.
        seed: of all draws.
        severity: 1 to 5, of the table for images of this size.
        places: (B,) of the images in the dataset, which with seed, name and severity fix what is drawn for each.
        images: (B, H, W, 3) uint8, of 32 pixels a side or more.

    Returns:
        (B, H, W, 3) uint8.
    """
    parameters = severities_for(*images.shape[1:3]).of[name][severity - 1]
    if name in FIXED:
        return FIXED[name](images, parameters)
    streams = [numpy_stream(f"corruption {name}", seed, severity, int(place)) for place in places]
    return DRAWN[name](images, parameters, streams)
