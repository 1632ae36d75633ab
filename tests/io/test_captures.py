"""Reading well-formed captures in nerfstudio's and blender's formats."""

import numpy as np
import pytest
import torch
from PIL import Image
from plyfile import PlyData, PlyElement

from qsplat.io.transforms import load_scene, load_view, read_frames


def write_points(path, positions, colors):
    rows = [(*p, *c) for p, c in zip(positions, colors, strict=True)]
    kinds = [("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    PlyData([PlyElement.describe(np.array(rows, dtype=kinds), "vertex")]).write(str(path))


def test_every_eighth_view_from_the_first_is_held_out(capture):
    frames = read_frames(capture.write())
    assert [frame.name for frame in frames.test] == ["images/000.png", "images/008.png"]
    assert len(frames.train) == 8


def test_nothing_is_held_out_when_asked(capture):
    frames = read_frames(capture.write(), holdout_every=0)
    assert (len(frames.train), len(frames.test)) == (10, 0)


def test_splits_named_by_the_file_win(capture):
    names = [frame["file_path"] for frame in capture.frames]
    capture.description |= {"train_filenames": names[:6], "val_filenames": names[6:8], "test_filenames": names[8:]}
    frames = read_frames(capture.write())
    assert [frame.name for frame in frames.train] == names[:6]
    assert [frame.name for frame in frames.test] == names[8:]


def test_validation_views_are_held_out_when_there_are_no_test_views(capture):
    names = [frame["file_path"] for frame in capture.frames]
    capture.description["val_filenames"] = [f"./{name}" for name in names[3:5]]
    frames = read_frames(capture.write())
    assert [frame.name for frame in frames.test] == names[3:5]
    assert len(frames.train) == 8


def test_null_lists_and_paths_are_absent(capture):
    keys = ("train_filenames", "test_filenames", "val_filenames", "distortion_params", "ply_file_path", "mask_path")
    capture.description |= dict.fromkeys(keys)
    frames = read_frames(capture.write())
    assert (len(frames.train), len(frames.test), frames.points) == (8, 2, None)
    assert (frames.train[0].lens, frames.train[0].mask_path) == (None, None)


def test_poses_are_centred_upright_and_of_unit_extent(capture):
    tilt = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    tilt *= np.sign(np.linalg.det(tilt))
    for frame in capture.frames:
        pose = np.array(frame["transform_matrix"])
        pose[:3, :3], pose[:3, 3] = tilt @ pose[:3, :3], 7.0 * tilt @ pose[:3, 3] + 3.0
        frame["transform_matrix"] = pose.tolist()
    scene = load_scene(capture.write())
    cameras = [view.camera for view in (*scene.train, *scene.test)]
    centers = torch.stack([camera.center for camera in cameras])
    torch.testing.assert_close(centers.mean(dim=0), torch.zeros(3), atol=1e-5, rtol=0)
    assert centers.abs().max().item() == pytest.approx(1.0, abs=1e-5)
    up = -torch.stack([camera.cam_from_world[1, :3] for camera in cameras]).mean(dim=0)
    torch.testing.assert_close(up / up.norm(), torch.tensor([0.0, 0.0, 1.0]), atol=1e-5, rtol=0)


def test_points_stay_where_the_cameras_see_them(capture):
    """A point lands on the pixel that the pose (y up, looking along -z) and intrinsics of the file give."""
    point = np.array([0.3, -0.2, 0.4])
    write_points(capture.folder / "points.ply", [point], [(255, 51, 0)])
    capture.description["ply_file_path"] = "points.ply"
    frames = read_frames(capture.write())
    assert frames.points is not None
    torch.testing.assert_close(frames.points.colors, torch.tensor([[1.0, 0.2, 0.0]]))
    frame = frames.train[0]
    described = np.array(capture.frames[1]["transform_matrix"])
    x, y, z = described[:3, :3].T @ (point - described[:3, 3])
    expected = [20.0 * x / -z + 12.5, 21.0 * -y / -z + 7.5]
    seen = frame.camera.cam_from_world[:3, :3] @ frames.points.positions[0] + frame.camera.cam_from_world[:3, 3]
    pixel = frame.camera.intrinsics @ seen / seen[2]
    torch.testing.assert_close(pixel[:2], torch.tensor(expected, dtype=torch.float32), atol=1e-4, rtol=0)


def test_the_recorded_similarity_leads_back_to_the_file(capture):
    frames = read_frames(capture.write())
    centers = torch.stack([frame.camera.center for frame in frames.train]).double()
    similarity = frames.world_from_original
    original = torch.linalg.solve(similarity[:3, :3], (centers - similarity[:3, 3]).T).T
    described = torch.tensor([[row[3] for row in frame["transform_matrix"][:3]] for frame in capture.frames[1:8]])
    torch.testing.assert_close(original[:7], described.double(), atol=1e-5, rtol=0)


def test_photos_arrive_unchanged_without_lens_and_downscale(capture):
    frame = read_frames(capture.write()).train[0]
    expected = torch.from_numpy(np.array(Image.open(capture.image_path(1)))).float() / 255
    torch.testing.assert_close(load_view(frame).image, expected)


def test_downscaling_averages_areas_and_follows_the_rounded_size(capture):
    frame = read_frames(capture.write()).train[0]
    full = load_view(frame).image
    half = load_view(frame, downscale=2)
    torch.testing.assert_close(half.image, full.reshape(8, 2, 12, 2, 3).mean(dim=(1, 3)))
    odd = load_view(frame, downscale=3.3)
    assert odd.image.shape == (5, 7, 3)
    assert (odd.camera.fx, odd.camera.fy) == pytest.approx((20.0 * 7 / 24, 21.0 * 5 / 16))
    assert (odd.camera.cx, odd.camera.cy) == pytest.approx((12.5 * 7 / 24, 7.5 * 5 / 16))
    torch.testing.assert_close(odd.image.mean(dim=(0, 1)), full.mean(dim=(0, 1)), atol=1e-3, rtol=0)


def test_max_side_bounds_the_longer_side(capture):
    assert load_scene(capture.write(), max_side=12).train[0].image.shape == (8, 12, 3)
    assert load_scene(capture.folder, max_side=1000).train[0].image.shape == (16, 24, 3)


def test_intrinsics_of_a_frame_go_before_those_of_the_file(capture):
    capture.frames[1]["fl_x"] = 33.0
    frames = read_frames(capture.write())
    assert [frame.camera.fx for frame in frames.train[:2]] == [33.0, 20.0]


def test_a_mask_counts_a_pixel_only_when_all_of_it_counts(capture):
    mask = np.full((16, 24), 255, dtype=np.uint8)
    mask[0, 0] = 0
    Image.fromarray(mask).save(capture.folder / "mask.png")
    capture.frames[1]["mask_path"] = "mask.png"
    frames = read_frames(capture.write())
    view = load_view(frames.train[0], downscale=2)
    assert view.mask is not None
    assert not view.mask[0, 0]
    assert view.mask.sum() == 8 * 12 - 1
    assert load_view(frames.train[1]).mask is None


@pytest.mark.parametrize("true", [1, 255])
def test_masks_may_call_true_1_or_255(capture, true):
    mask = np.zeros((16, 24), dtype=np.uint8)
    mask[:, 12:] = true
    Image.fromarray(mask).save(capture.folder / "mask.png")
    capture.frames[1]["mask_path"] = "mask.png"
    read = load_view(read_frames(capture.write()).train[0]).mask
    assert read is not None
    assert torch.equal(read, torch.from_numpy(mask > 0))


def test_an_all_black_mask_counts_nothing(capture):
    Image.new("L", (24, 16), 0).save(capture.folder / "mask.png")
    capture.frames[1]["mask_path"] = "mask.png"
    read = load_view(read_frames(capture.write()).train[0]).mask
    assert read is not None
    assert not read.any()


def test_alpha_premultiplies_colours(capture):
    pixels = np.full((16, 24, 4), (255, 255, 255, 51), dtype=np.uint8)
    Image.fromarray(pixels).save(capture.image_path(1))
    view = load_view(read_frames(capture.write()).train[0])
    assert view.alpha is not None
    torch.testing.assert_close(view.alpha, torch.full((16, 24), 0.2))
    torch.testing.assert_close(view.image, torch.full((16, 24, 3), 0.2))


def test_16_bit_grey_photos_keep_their_range(capture):
    Image.fromarray(np.full((16, 24), 32768, dtype=np.uint16)).save(capture.image_path(1))
    view = load_view(read_frames(capture.write()).train[0])
    torch.testing.assert_close(view.image, torch.full((16, 24, 3), 32768 / 65535))


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_blender_folders_name_their_splits(capture, held_out):
    frames = [
        {"file_path": f"./images/{index:03d}", "transform_matrix": frame["transform_matrix"]}
        for index, frame in enumerate(capture.frames)
    ]
    capture.description = {"camera_angle_x": 0.7, "frames": frames[:7]}
    capture.write("transforms_train.json")
    capture.description = {"camera_angle_x": 0.7, "frames": frames[7:]}
    capture.write(f"transforms_{held_out}.json")
    read = read_frames(capture.folder)
    assert (len(read.train), [frame.name for frame in read.test]) == (7, [f"images/{i:03d}.png" for i in (7, 8, 9)])
    assert read.train[0].camera.fx == pytest.approx(12 / np.tan(0.35))
    assert read.train[0].camera.fy == read.train[0].camera.fx
