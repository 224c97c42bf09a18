"""Splits that are drawn by hashing: whole scenes, the same in every run and on every machine."""

import numpy as np

from tasks.seeding import key_of, uniforms


def check_shares(name: str, validation: float, test: float) -> None:
    """ValueError where these are no shares of the training images."""
    if not (validation >= 0 and test >= 0 and validation + test < 1):
        raise ValueError(
            f"{name}: validation is {validation} and test {test}; expected shares of train: >= 0, and together below 1"
        )


def drawn_split(given: str, scene: str, validation: float, test: float) -> str:
    """``given``, but for the shares of the scenes of "train" that become "val" and "test"."""
    if given != "train" or not validation + test:
        return given
    share = float(uniforms(np.array([key_of(scene)], np.uint64), 0, 0)[0])
    if share < validation:
        return "val"
    return "test" if share < validation + test else "train"
