"""What the corruptions are called, as files and folders of the releases are."""

from __future__ import annotations

STANDARD = (  # the mean corruption error is a mean over these
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
RELEASED = (*STANDARD, "speckle_noise", "gaussian_blur", "spatter", "saturate")  # the last four to tune on
SEVERITIES = (1, 2, 3, 4, 5)
