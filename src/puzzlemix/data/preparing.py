"""What to run so that a dataset is there, for errors."""

from __future__ import annotations


def to_prepare(name: str, what: str = "") -> str:
    """A part of a sentence; `what` is asked for beyond the dataset itself, such as `corruptions=all`.

    A name does not tell whether it is a config's or that of somebody's own images.
    """
    command = f"python scripts/prepare_data.py dataset={name} {what}".rstrip()
    own = f"dataset=image_folder dataset.name={name} {what or 'source=FOLDER'}"
    return f"run `{command}`, for images of your own with `{own}`"
