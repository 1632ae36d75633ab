"""qsplat: Gaussian splatting with a queried-convolution residual network, on any machine."""

__version__ = "0.1.0"
