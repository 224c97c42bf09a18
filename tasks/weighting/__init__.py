"""How several losses become one: a way a file; ``WEIGHTINGS`` of ``tasks`` names them."""

from tasks.weighting.fixed import Equal, Fixed

__all__ = ["Equal", "Fixed"]
