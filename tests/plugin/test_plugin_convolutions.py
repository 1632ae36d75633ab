"""The choice of the residual network's convolutions among the options."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from nerfstudio_plugin.model_config import QnnOptions, SplatModelConfig
from qsplat.qnn.convolutions import CFConv, FDConv, Standard


def chosen(**options: Any) -> SplatModelConfig:
    return SplatModelConfig(qnn_options=QnnOptions(**options))


@pytest.mark.parametrize(
    ("options", "convolution"),
    [
        ({}, Standard()),
        ({"convolution": "fdconv", "fdconv_groups": 9}, FDConv(9)),
        ({"convolution": "cfconv", "cfconv_grid": 8, "cfconv_samples": 99}, CFConv(8, 99)),
    ],
)
def test_the_option_names_the_convolutions(options: dict[str, Any], convolution: object):
    network = chosen(**options).network()
    assert network is not None
    assert network.convolution == convolution


def test_a_network_that_needs_all_of_an_image_learns_on_whole_images_and_says_so(capsys: pytest.CaptureFixture[str]):
    model = chosen(convolution="fdconv")
    assert model.schedule(100).crop_share == 1
    model.check(100, resumed=False)
    assert "The network learns on whole images: fdconv needs all of an image" in " ".join(
        capsys.readouterr().out.split()
    )
    for other in (chosen(convolution="cfconv"), chosen(), replace(model, qnn="none")):
        assert other.schedule(100).crop_share is None
        other.check(100, resumed=False)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"convolution": "fdconv", "crop_share": 0.1},
            "crop_share=0.1 with FDConv: .* leave it out",
        ),
        ({"convolution": "fdconv", "kernel": 5}, "kernel=5 with FDConv: choose 1 or 3"),
        ({"convolution": "fdconv", "channels": 8}, "channels=8 with FDConv: choose 17 or more"),
        ({"convolution": "cfconv", "cfconv_grid": 9}, "grid=9: the side of CF-Conv's spectral grid is even"),
        ({"convolution": "cfconv", "layers": 2}, "layers=2 with CFConv"),
    ],
)
def test_an_impossible_choice_is_refused_before_the_run(options: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        chosen(**options).check(100, resumed=False)
