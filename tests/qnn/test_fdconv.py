"""Frequency dynamic convolutions against plain ones, NumPy's transforms, and what is known of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from qsplat.cameras import Window
from qsplat.qnn import QNN, QnnConfig, crop_residual, image_residual, window_residual
from qsplat.qnn.convolutions import FDConv, FDConv2d
from qsplat.qnn.convolutions.fdconv import OCTAVES, BandModulation, frequency_groups

RESNET_EXTRA = 3_647_120
"""Parameters that FDConv adds to the 48 bottleneck convolutions of a ResNet-50 by the shapes of its published code;
its authors report +3.6M."""


def plain(inputs: int = 20, outputs: int = 18, kernel: int = 3, **options) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **options)


def awake(layer: FDConv2d) -> FDConv2d:
    """A layer whose modulation does something."""
    torch.manual_seed(1)
    for parameter in layer.modulation.parameters():
        nn.init.normal_(parameter, std=0.3)
    if layer.bands is not None:
        nn.init.normal_(layer.bands.maps.weight, std=0.2)
    return layer


def parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("options", [{}, {"bias": False}, {"stride": 2}])
def test_at_birth_it_is_the_plain_convolution(kernel: int, batch: int, options: dict):
    conv, features = plain(kernel=kernel, **options), torch.randn(batch, 20, 9, 14)
    expected, found = conv(features), FDConv2d(conv)(features)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(st.integers(17, 40), st.integers(17, 40), st.sampled_from([1, 3]), st.integers(1, 80), st.integers(0, 99))
def test_the_groups_add_up_to_the_plain_kernel(inputs: int, outputs: int, kernel: int, groups: int, seed: int):
    """For any number of channels, odd ones too, and numbers of groups that divide nothing."""
    torch.manual_seed(seed)
    conv = nn.Conv2d(inputs, outputs, kernel).double()
    each = FDConv2d(conv, FDConv(groups=groups)).group_kernels()
    assert each.shape == (groups, outputs, inputs, kernel, kernel)
    torch.testing.assert_close(each.sum(0), conv.weight.detach(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize(("channels", "groups"), [(64, 64), (48, 64), (33, 7)])
def test_kernels_of_different_groups_are_orthogonal(channels: int, groups: int, kernel: int):
    torch.manual_seed(0)
    layer = FDConv2d(nn.Conv2d(channels, channels, kernel), FDConv(groups=groups))
    each = nn.functional.normalize(layer.group_kernels().flatten(1), dim=1)
    cosines = each @ each.T
    assert (cosines - torch.eye(groups)).abs().max() < 1e-5
    assert cosines.diagonal().min() > 0.999, "no group is empty"


def test_a_group_holds_its_frequencies_alone():
    """By NumPy's transform of the whole matrix of a group's kernels."""
    layer = FDConv2d(plain(), FDConv(groups=5))
    for group, kernel in enumerate(layer.group_kernels()):
        matrix = kernel.permute(0, 2, 1, 3).reshape(18 * 3, 20 * 3).numpy()
        present = np.abs(np.fft.rfft2(matrix)) > 1e-4
        assert present.any()
        assert not present[layer.group_of.numpy() != group].any()


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 12))
def test_groups_go_from_low_to_high_frequencies_in_nearly_equal_parts(rows: int, columns: int, groups: int):
    group = frequency_groups(rows, columns, groups)
    radius = torch.hypot(torch.fft.fftfreq(rows)[:, None], torch.fft.rfftfreq(columns)[None])
    for lower in range(int(group.max())):
        if (group == lower).any() and (group == lower + 1).any():
            assert radius[group == lower].max() <= radius[group == lower + 1].max() + 1e-6
    whole = torch.zeros(rows, columns, dtype=torch.long)
    whole[:, : group.shape[1]] = group
    conjugate = group[-torch.arange(rows) % rows]
    paired = [0, columns // 2] if columns % 2 == 0 else [0]
    assert torch.equal(group[:, paired], conjugate[:, paired])
    sizes = torch.bincount(group.flatten(), minlength=groups)
    assert int((sizes - group.numel() / groups).abs().max()) <= 1 + 2 * rows


def test_each_image_of_a_batch_has_the_kernel_it_has_alone():
    layer, features = awake(FDConv2d(plain())), torch.randn(3, 20, 9, 14)
    together = layer(features)
    for index in range(3):
        torch.testing.assert_close(together[index : index + 1], layer(features[index : index + 1]))
    kernels = layer.kernels(features)
    assert (kernels[0] - kernels[1]).abs().max() > 1e-2


def test_the_kernel_is_the_product_of_its_parts():
    """The slow way: loops over groups and elements, with the modulation's heads called one by one."""
    layer, features = awake(FDConv2d(plain(kernel=3), FDConv(groups=5))), torch.randn(1, 20, 6, 7)
    part, pooled = layer.modulation, features.mean(dim=(2, 3))
    hidden = part.slope * torch.relu(part.norm(part.reduce(pooled))) ** 2 + part.offset

    def factor(head: nn.Module, seen: torch.Tensor) -> torch.Tensor:
        return 2 / (1 + torch.exp(-head(seen)))

    expected = sum(
        factor(part.groups, hidden)[0, group] * kernel for group, kernel in enumerate(layer.group_kernels())
    ).clone()
    local = factor(part.local, part.local_norm(pooled)[:, None])[0].view(18, 3, 3, 20)
    for out in range(18):
        for come in range(20):
            for down in range(3):
                for across in range(3):
                    expected[out, come, down, across] *= (
                        factor(part.filters, hidden)[0, out]
                        * factor(part.channels, hidden)[0, come]
                        * factor(part.places, hidden)[0, 3 * down + across]
                        * local[out, down, across, come]
                    )
    torch.testing.assert_close(layer.kernels(features)[0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(16, 16), (9, 14), (1, 1), (33, 7)])
def test_bands_are_octaves_of_the_faster_axis(size: tuple[int, int]):
    """Against bands that are cut out of NumPy's full transform, each scaled by its map, and added up."""
    height, width = size
    torch.manual_seed(0)
    bands = BandModulation(4)
    nn.init.normal_(bands.maps.weight, std=0.3)
    features = torch.randn(2, 4, height, width)
    maps = bands.factors(features).detach().numpy()
    spectrum = np.fft.fft2(features.numpy())
    rate = np.maximum(np.abs(np.fft.fftfreq(height))[:, None], np.abs(np.fft.fftfreq(width))[None])
    limits = (0.5, *OCTAVES)
    expected = np.fft.ifft2(spectrum * (rate <= limits[-1])).real
    for index in range(3):
        octave = np.fft.ifft2(spectrum * ((rate > limits[index + 1]) & (rate <= limits[index]))).real
        expected += maps[:, index : index + 1] * octave
    np.testing.assert_allclose(bands(features).detach().numpy(), expected, atol=1e-5)


def test_the_number_of_parameters_depends_on_the_groups_by_one_head_alone():
    for inputs, outputs, kernel in ((64, 64, 3), (20, 18, 1)):
        hidden = 16
        few, many = (parameters(FDConv2d(nn.Conv2d(inputs, outputs, kernel), FDConv(groups=n))) for n in (4, 64))
        assert many - few == (64 - 4) * (hidden + 1)


def test_a_layer_of_64_channels_has_9598_parameters_more_than_a_plain_one():
    conv = nn.Conv2d(64, 64, 3)
    assert parameters(FDConv2d(conv)) - parameters(conv) == 9_598


def test_the_bottlenecks_of_a_resnet50_get_the_published_number_of_parameters():
    from torchvision.models import resnet50
    from torchvision.models.resnet import Bottleneck

    with torch.device("meta"):
        net = resnet50(weights=None)
    before, replaced = parameters(net), 0
    for block in net.modules():
        if isinstance(block, Bottleneck):
            for name in ("conv1", "conv2", "conv3"):
                conv = getattr(block, name)
                with torch.device("meta"):
                    setattr(block, name, FDConv2d(conv))
                replaced += 1
    assert replaced == 48
    assert parameters(net) - before == RESNET_EXTRA


@pytest.mark.parametrize("config", [FDConv(groups=5), FDConv(5, kernel_modulation=False, band_modulation=False)])
def test_gradients_agree_with_finite_differences(config: FDConv):
    layer = awake(FDConv2d(plain(17, 17), config)).double()
    layer.modulation.slope.data.fill_(0.5)
    features = torch.randn(1, 17, 4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, (features,), fast_mode=True)


def test_every_parameter_learns():
    layer = awake(FDConv2d(plain()))
    layer(torch.randn(2, 20, 9, 14)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_under_bfloat16_the_spectra_stay_exact():
    layer, features = awake(FDConv2d(plain())), torch.randn(1, 20, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = layer(features)
    exact = layer(features)
    assert rounded.dtype == torch.bfloat16
    assert (rounded.float() - exact).norm() < 0.01 * exact.norm()


def head(channels: int = 20) -> QNN:
    torch.manual_seed(0)
    made = QNN(QnnConfig(channels=channels, precision="fp32", convolution=FDConv(groups=7)))
    nn.init.normal_(made.stages[-1].weight, std=0.1)
    return made


def test_only_the_convolutions_between_the_first_and_the_last_are_replaced():
    assert [type(stage) for stage in head().stages[::2]] == [nn.Conv2d, FDConv2d, FDConv2d, nn.Conv2d]


def test_a_head_of_it_has_no_halo_and_refuses_parts_of_images():
    made, image, queries = head(), torch.rand(12, 15, 3), torch.rand(12, 15, 2)
    assert made.halo is None
    for part in (crop_residual, window_residual):
        with pytest.raises(ValueError, match="of 15x12 pixels: a residual by FDConv depends on the whole image"):
            part(made, image, queries, Window(0, 0, 14, 12))
        torch.testing.assert_close(
            part(made, image, queries, Window(0, 0, 15, 12)), image_residual(made, image, queries)
        )


def test_a_head_of_it_is_not_tiled():
    made, image, queries = head(), torch.rand(12, 15, 3), torch.rand(12, 15, 2)
    whole = image_residual(made, image, queries)
    assert whole.abs().max() > 1e-3
    with torch.no_grad():
        assert torch.equal(image_residual(made, image, queries, tile=5), whole)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"kernel": 5}, "kernel=5 with FDConv: choose 1 or 3"),
        ({"channels": 16}, "channels=16 with FDConv: choose 17 or more"),
        ({"layers": 2}, "layers=2 with FDConv: .* give at least 3 layers"),
        ({"dims": 1}, "dims=1 with FDConv: it is for images"),
        ({"kernel": 1, "channels": 17, "convolution": FDConv(200)}, "groups=200 with FDConv: the kernel has 153"),
    ],
)
def test_an_impossible_network_of_it_is_refused_with_the_value(wrong: dict, message: str):
    with pytest.raises(ValueError, match=message):
        QnnConfig(**{"convolution": FDConv(), **wrong})


def test_no_groups_are_refused():
    with pytest.raises(ValueError, match="groups=0"):
        FDConv(groups=0)


def test_a_convolution_that_it_cannot_replace_is_refused():
    with pytest.raises(ValueError, match="cannot be an FDConv"):
        FDConv2d(nn.Conv2d(20, 20, 3, groups=2))


def test_it_learns_to_answer_each_image_in_its_own_way():
    """A dark image is to be blurred, a bright one to be negated: a single kernel cannot do both."""
    torch.manual_seed(0)
    noise = torch.randn(2, 20, 20, 20)
    level = torch.tensor([-1.0, 1.0])[:, None, None, None]
    target = torch.where(level < 0, nn.functional.avg_pool2d(noise, 3, stride=1, padding=1), -noise)[:, :18]
    errors = []
    for layer in (plain(), FDConv2d(plain())):
        optimizer = torch.optim.Adam(layer.parameters(), lr=2e-2)
        for _ in range(30):
            optimizer.zero_grad()
            loss = (layer(noise + level) - target).square().mean()
            loss.backward()
            optimizer.step()
        errors.append(loss.item())
    assert errors[1] < errors[0] / 2
