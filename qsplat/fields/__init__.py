"""Coordinates to values: radiance fields and the networks they are made of."""

from qsplat.fields.frequencies import Frequencies, Sine, frequency_of, with_frequency
from qsplat.fields.model import FieldModel, FieldView
from qsplat.fields.nerf import FieldConfig, Hierarchical
from qsplat.fields.network import CoordinateNetwork
from qsplat.fields.occupancy import OccupancyConfig
from qsplat.fields.region import Region, region_of

__all__ = [
    "CoordinateNetwork",
    "FieldConfig",
    "FieldModel",
    "FieldView",
    "Frequencies",
    "Hierarchical",
    "OccupancyConfig",
    "Region",
    "Sine",
    "frequency_of",
    "region_of",
    "with_frequency",
]
