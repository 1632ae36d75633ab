"""Every way in which a capture can be broken has its sentence: the file, the value and the remedy."""

import json

import numpy as np
import pytest
from PIL import Image

from qsplat.io.transforms import load_view, read_frames


def refuses(capture, *words):
    """A read that must fail with one sentence that holds all ``words``."""
    capture.write()
    with pytest.raises(ValueError) as caught:
        load_view(read_frames(capture.folder).train[0])
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_a_folder_without_transforms_lists_what_was_looked_for(capture):
    with pytest.raises(ValueError, match=r"capture holds neither transforms\.json nor transforms_train\.json"):
        read_frames(capture.folder)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        read_frames(tmp_path / "nowhere")


def test_invalid_json_is_refused(capture):
    (capture.folder / "transforms.json").write_text('{"frames": [')
    with pytest.raises(ValueError, match=r"transforms\.json is not valid JSON .*line 1"):
        read_frames(capture.folder)


def test_a_file_without_frames_is_refused(capture):
    (capture.folder / "transforms.json").write_text(json.dumps({"w": 3}))
    with pytest.raises(ValueError, match="has no list named frames"):
        read_frames(capture.folder)


def test_a_missing_image_is_named(capture):
    capture.image_path(1).unlink()
    refuses(capture, "images/001.png does not exist", "remove its frame")


def test_an_unreadable_image_is_named(capture):
    capture.image_path(1).write_bytes(b"this is no picture")
    refuses(capture, "images/001.png is not a readable image")


def test_a_truncated_image_is_named(capture):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)).save(capture.image_path(1))
    whole = capture.image_path(1).read_bytes()
    capture.image_path(1).write_bytes(whole[: len(whole) // 2])
    refuses(capture, "images/001.png is damaged")


def test_an_image_of_another_size_than_described_is_refused(capture):
    Image.new("RGB", (12, 8)).save(capture.image_path(1))
    refuses(capture, "images/001.png has 12x8 pixels", "says 24x16", "scale w, h, fl_x")


def test_intrinsics_of_another_size_are_refused_when_no_size_is_described(capture):
    del capture.description["w"], capture.description["h"]
    capture.description |= {"cx": 48.0, "cy": 32.0}
    refuses(capture, "has 24x16 pixels", "principal point cx=48.0 cy=32.0", "scale fl_x")


def test_a_mask_of_another_size_is_refused(capture):
    Image.new("L", (12, 8), 255).save(capture.folder / "mask.png")
    capture.frames[1]["mask_path"] = "mask.png"
    refuses(capture, "mask.png has 12x8 pixels instead of 24x16")


def test_a_missing_mask_is_named(capture):
    capture.frames[1]["mask_path"] = "mask.png"
    refuses(capture, "mask.png does not exist")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda pose: pose.__setitem__((0, 3), np.nan), "holds NaN or infinity"),
        (lambda pose: pose.__setitem__((slice(0, 3), 0), 0.0), "is singular"),
        (lambda pose: pose.__setitem__((slice(0, 3), 0), -pose[:3, 0]), "is mirrored"),
        (lambda pose: pose.__setitem__((slice(0, 3), slice(0, 3)), 2 * pose[:3, :3]), "is not rigid"),
    ],
)
def test_a_pose_that_no_camera_has_is_refused(capture, change, words):
    pose = np.array(capture.frames[1]["transform_matrix"])
    change(pose)
    capture.frames[1]["transform_matrix"] = pose.tolist()
    refuses(capture, "transform_matrix of frame images/001.png", words, "remove the frame")


@pytest.mark.parametrize("matrix", [[[1, 2], [3, 4]], "identity", [[1, 2, 3, 4]] * 2 + [[1]]])
def test_a_pose_that_is_no_matrix_is_refused(capture, matrix):
    capture.frames[1]["transform_matrix"] = matrix
    refuses(capture, "transform_matrix of frame images/001.png")


def test_no_training_views_is_refused(capture):
    capture.write()
    with pytest.raises(ValueError, match="no training views, 10 held out: hold out fewer"):
        read_frames(capture.folder, holdout_every=1)


def test_a_split_that_lists_an_unknown_frame_is_refused(capture):
    capture.description["test_filenames"] = ["images/999.png"]
    refuses(capture, "test_filenames lists images/999.png", "correct the list")


@pytest.mark.parametrize("held_out", ["test_filenames", "val_filenames"])
def test_a_view_to_train_on_that_is_also_held_out_is_refused(capture, held_out):
    names = [frame["file_path"] for frame in capture.frames]
    capture.description |= {"train_filenames": names[:9], held_out: ["images/009.png", "./images/005.png"]}
    refuses(capture, "images/005.png is listed both for training and as held out", "take it off one list")


def test_blender_splits_that_share_a_view_are_refused(capture):
    capture.write("transforms_train.json")
    capture.write("transforms_test.json")
    with pytest.raises(ValueError, match=r"images/000\.png is listed both"):
        read_frames(capture.folder)


@pytest.mark.parametrize("key", ["file_path", "mask_path"])
def test_a_path_of_a_frame_that_is_no_text_is_refused(capture, key):
    capture.frames[1][key] = 5
    refuses(capture, f"transforms.json: {key} is 5 instead of a text")


@pytest.mark.parametrize("path", [None, ""])
def test_a_frame_without_a_path_is_refused(capture, path):
    capture.frames[1]["file_path"] = path
    refuses(capture, "a frame has no file_path")


def test_a_point_file_that_is_no_text_is_refused(capture):
    capture.description["ply_file_path"] = 7
    refuses(capture, "ply_file_path is 7 instead of a text")


@pytest.mark.parametrize("key", ["distortion_params", "train_filenames", "test_filenames", "val_filenames"])
@pytest.mark.parametrize("value", [3, "images/001.png", {"a": 1}])
def test_a_list_that_is_none_is_refused(capture, key, value):
    capture.description[key] = value
    refuses(capture, f"{key} is {value!r} instead of a list")


def test_a_split_that_lists_no_names_is_refused(capture):
    capture.description["test_filenames"] = ["images/001.png", 5]
    refuses(capture, "test_filenames holds 5 instead of a file name")


@pytest.mark.parametrize("value", [0, -0.5, 4.0])
def test_an_angle_that_no_lens_has_is_refused(capture, value):
    del capture.description["fl_x"], capture.description["fl_y"]
    capture.description["camera_angle_x"] = value
    refuses(capture, f"camera_angle_x is {float(value)} instead of an angle between 0 and pi")


@pytest.mark.parametrize("key", ["fl_x", "fl_y"])
def test_a_focal_length_of_zero_is_refused(capture, key):
    capture.description[key] = 0
    refuses(capture, f"{key}=0.0", "must be positive")


def test_an_unknown_camera_model_is_refused(capture):
    capture.description["camera_model"] = "EQUIRECTANGULAR"
    refuses(capture, "camera_model 'EQUIRECTANGULAR' is not supported", "OPENCV_FISHEYE")


def test_a_missing_focal_length_is_refused(capture):
    del capture.description["fl_x"]
    refuses(capture, "neither fl_x nor camera_angle_x")


@pytest.mark.parametrize("value", [float("nan"), "wide", None, True, 10**400])
def test_an_intrinsic_that_is_no_number_is_refused(capture, value):
    capture.description["fl_x"] = value
    refuses(capture, f"fl_x is {value!r} instead of a finite number")


def test_a_missing_point_file_is_named(capture):
    capture.description["ply_file_path"] = "points.ply"
    refuses(capture, "points.ply does not exist", "remove ply_file_path")


@pytest.mark.parametrize(
    "contents",
    [
        b"not a ply",
        b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty float y\nproperty float z\nend_header\n1",
        b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n",
    ],
)
def test_a_broken_point_file_is_named(capture, contents):
    (capture.folder / "points.ply").write_bytes(contents)
    capture.description["ply_file_path"] = "points.ply"
    refuses(capture, "points.ply is not a readable .ply of points")


def test_points_that_are_not_finite_are_refused(capture):
    header = (
        "ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    )
    (capture.folder / "points.ply").write_text(header + "1 nan 2\n")
    capture.description["ply_file_path"] = "points.ply"
    refuses(capture, "points.ply holds points that are NaN or infinite")


def test_enlarging_photos_is_refused(capture):
    frame = read_frames(capture.write()).train[0]
    with pytest.raises(ValueError, match=r"downscale=0\.5 would enlarge"):
        load_view(frame, downscale=0.5)
