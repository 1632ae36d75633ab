"""Gaussians in .ply files: exact round trips, the layout that others read, and sentences for broken files."""

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement

from qsplat.gaussians import Gaussians, sh_coefficients
from qsplat.io.ply import read_gaussians, write_gaussians


def some_gaussians(count=5, degree=3):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    rest = sh_coefficients(degree) - 1
    return Gaussians(draw(count, 3), draw(count, 3), draw(count, 4), draw(count), draw(count, 3), draw(count, rest, 3))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_gaussians_survive_a_round_trip_exactly(tmp_path, degree):
    gaussians = some_gaussians(degree=degree)
    write_gaussians(tmp_path / "a.ply", gaussians)
    restored = read_gaussians(tmp_path / "a.ply")
    for name in vars(gaussians):
        assert torch.equal(getattr(gaussians, name), getattr(restored, name)), name


def test_the_layout_is_that_of_3dgs(tmp_path):
    gaussians = some_gaussians()
    write_gaussians(tmp_path / "a.ply", gaussians)
    vertices = PlyData.read(str(tmp_path / "a.ply"))["vertex"]
    expected = [*"xyz", "nx", "ny", "nz", *(f"f_dc_{i}" for i in range(3)), *(f"f_rest_{i}" for i in range(45))]
    expected += ["opacity", *(f"scale_{i}" for i in range(3)), *(f"rot_{i}" for i in range(4))]
    assert [entry.name for entry in vertices.properties] == expected
    # coefficients 1..15 of red come first, then those of green
    np.testing.assert_array_equal(vertices["f_rest_1"], gaussians.sh_rest[:, 1, 0])
    np.testing.assert_array_equal(vertices["f_rest_15"], gaussians.sh_rest[:, 0, 1])
    np.testing.assert_array_equal(vertices["rot_0"], gaussians.quats[:, 0])


def test_files_without_normals_and_in_another_order_are_read(tmp_path):
    """As other exporters write them."""
    names = ["opacity", *(f"rot_{i}" for i in range(4)), *(f"scale_{i}" for i in range(3)), *"zyx"]
    names += [f"f_dc_{i}" for i in range(3)]
    rows = np.zeros(2, dtype=[(name, "f4") for name in names])
    rows["x"], rows["opacity"], rows["rot_0"] = [1, 2], [3, 4], 1
    PlyData([PlyElement.describe(rows, "vertex")], text=True).write(str(tmp_path / "b.ply"))
    gaussians = read_gaussians(tmp_path / "b.ply")
    assert gaussians.means[:, 0].tolist() == [1, 2]
    assert gaussians.opacity_logits.tolist() == [3, 4]
    assert gaussians.sh_degree == 0


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.ply does not exist"):
        read_gaussians(tmp_path / "nothing.ply")


def test_a_truncated_file_is_refused(tmp_path):
    write_gaussians(tmp_path / "a.ply", some_gaussians())
    whole = (tmp_path / "a.ply").read_bytes()
    (tmp_path / "a.ply").write_bytes(whole[:-40])
    with pytest.raises(ValueError, match=r"a\.ply is not a readable \.ply file"):
        read_gaussians(tmp_path / "a.ply")


def test_a_plain_point_cloud_is_refused(tmp_path):
    rows = np.zeros(2, dtype=[(name, "f4") for name in "xyz"])
    PlyData([PlyElement.describe(rows, "vertex")]).write(str(tmp_path / "c.ply"))
    with pytest.raises(ValueError, match=r"c\.ply has no f_dc_0.*export it as 3DGS"):
        read_gaussians(tmp_path / "c.ply")


def test_a_file_of_zero_gaussians_is_refused(tmp_path):
    write_gaussians(tmp_path / "e.ply", some_gaussians())
    vertices = PlyData.read(str(tmp_path / "e.ply"))["vertex"].data[:0]
    PlyData([PlyElement.describe(vertices, "vertex")]).write(str(tmp_path / "e.ply"))
    with pytest.raises(ValueError, match=r"e\.ply holds 0 Gaussians"):
        read_gaussians(tmp_path / "e.ply")


def test_an_empty_scene_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="0 Gaussians to write"):
        write_gaussians(tmp_path / "d.ply", some_gaussians(count=0))
    assert not list(tmp_path.iterdir())
