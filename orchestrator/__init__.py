"""Who runs when and where: the only room that knows Ray, disks and clocks."""

__version__ = "0.1.0"
