"""Clip transforms: geometry that can be told from pixel values, and the memory order that makes them fast."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from foveate.clip import ClipSpec
from foveate.errors import UsageError
from foveate.layers.normalise import to_clip
from foveate.video import transform
from foveate.video.transform import Augment


def noise(frames: int = 3, height: int = 48, width: int = 64) -> torch.Tensor:
    numbers = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (frames, height, width, 3), dtype=torch.uint8, generator=numbers)


def places(height: int, width: int) -> torch.Tensor:
    """One frame with the row in red and the column in green: a crop tells where it was taken."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns, torch.zeros_like(rows)], -1).to(torch.uint8).unsqueeze(0)


def corner(frames: torch.Tensor) -> tuple[int, int]:
    return tuple(frames[0, 0, 0, :2].tolist())


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(20, 30), (48, 30), (100, 90)])
def test_resize_equals_the_exact_result_within_one_step(antialias, size):
    frames = noise()
    shaped = transform.resize(frames, *size, antialias)
    pixels = frames.permute(0, 3, 1, 2).float()
    exact = F.interpolate(pixels, size, mode="bilinear", antialias=antialias).permute(0, 2, 3, 1)
    error = shaped.float() - exact
    assert shaped.dtype == torch.uint8
    assert error.abs().max() < 1.01
    assert error.mean().abs() < 0.1, "rounding must not darken or brighten"
    assert shaped.is_contiguous()


def test_resize_with_antialias_is_that_of_pillow():
    frame = noise(1)
    image = Image.fromarray(frame[0].numpy()).resize((30, 20), Image.Resampling.BILINEAR)
    difference = transform.resize(frame, 20, 30)[0].int() - torch.from_numpy(np.array(image)).int()
    assert difference.abs().max() <= 1


def test_resize_takes_a_cropped_view_and_keeps_flat_colours():
    frames = torch.full((2, 40, 60, 3), 200, dtype=torch.uint8)
    shaped = transform.resize(transform.crop(frames, 3, 5, 30, 31), 17, 19)
    assert shaped.shape == (2, 17, 19, 3)
    assert (shaped == 200).all()


def test_resize_to_the_same_size_is_the_same_memory():
    frames = noise()
    assert transform.resize(frames, 48, 64) is frames


@pytest.mark.parametrize(
    ("height", "width", "shape"), [(48, 64, (24, 32)), (64, 48, (32, 24)), (37, 50, (24, 32))]
)
def test_resize_short_rounds_the_long_side_down(height, width, shape):
    assert transform.resize_short(noise(1, height, width), 24).shape[1:3] == shape


def test_a_strip_is_cut_before_it_fills_the_memory():
    strip = places(4, 250)
    shaped = transform.resize_short(strip, 4)
    assert shaped.shape == (1, 4, 32, 3)
    assert corner(shaped) == (0, 109)
    assert transform.resize_short(noise(1, 3000, 2), 8).shape == (1, 64, 8, 3)


def test_crop_is_a_view_and_never_silently_smaller():
    frames = noise()
    window = transform.crop(frames, 1, 2, 10, 20)
    assert torch.equal(window, frames[:, 1:11, 2:22])
    assert window.untyped_storage().data_ptr() == frames.untyped_storage().data_ptr()
    for outside in [(-1, 0, 4, 4), (0, -1, 4, 4), (45, 0, 4, 4), (0, 61, 4, 4)]:
        with pytest.raises(ValueError, match="is not inside"):
            transform.crop(frames, *outside)


def test_center_and_three_crops():
    assert corner(transform.center_crop(places(40, 60), 20)) == (10, 20)
    wide = transform.three_crops(places(40, 60), 30)
    assert [corner(view) for view in wide] == [(5, 0), (5, 15), (5, 30)]
    tall = transform.three_crops(places(60, 40), 30)
    assert [corner(view) for view in tall] == [(0, 5), (15, 5), (30, 5)]


def test_half_a_pixel_goes_to_the_even_one_or_up():
    assert corner(transform.center_crop(places(256, 341), 256)) == (0, 42)
    assert corner(transform.center_crop(places(256, 341), 256, up=True)) == (0, 43)
    assert [corner(view) for view in transform.three_crops(places(341, 256), 256, up=True)] == [
        (0, 0),
        (43, 0),
        (85, 0),
    ]


def test_a_spec_may_shrink_and_crop_as_slowfast_does():
    """Bilinear without antialiasing on floats, the long side floored, the centre rounded up."""
    frames = noise(2, 90, 121)
    floats = frames.permute(0, 3, 1, 2).float()
    exact = torch.nn.functional.interpolate(floats, (64, 86), mode="bilinear", align_corners=False)
    spec = ClipSpec(size=63, resize=64, antialias=False, crop_up=True)
    expected = exact.permute(0, 2, 3, 1)[:, 1:64, 12:75]
    assert (transform.test_transform(frames, spec)[0] - expected).abs().max() <= 1
    augment = Augment(crop="center", flip=False)
    drawn = transform.train_transform(frames, spec, augment, np.random.default_rng(0))
    assert torch.equal(drawn, transform.test_transform(frames, spec)[0])
    smooth = transform.test_transform(frames, ClipSpec(size=63, resize=64))[0]
    assert (smooth - expected).abs().max() > 20


def test_random_crop_reaches_every_place():
    corners = {corner(transform.random_crop(places(6, 7), 5, np.random.default_rng(s))) for s in range(200)}
    assert corners == {(top, left) for top in range(2) for left in range(3)}


def test_multi_scale_sizes_of_a_256_pixel_video():
    sizes = transform.crop_sizes(256, 224)
    sides = (256, 224, 192, 168)
    assert len(sizes) == 10
    assert set(sizes) == {(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1}


def test_multi_scale_sides_snap_within_three_pixels_and_never_beyond_the_frame():
    assert (224, 224) in transform.crop_sizes(226, 224)  # 226 is 2 away
    assert (227, 227) in transform.crop_sizes(227, 224)  # 3 away is too far
    assert (224, 224) in transform.crop_sizes(300, 224, scales=(0.74,))  # 222, enlarged
    assert max(max(pair) for pair in transform.crop_sizes(222, 224)) == 222


def test_multi_scale_offsets_are_thirteen_places():
    offsets = transform.crop_offsets(33, 100)
    assert len(set(offsets)) == 13
    assert {(0, 0), (0, 100), (32, 0), (32, 100), (16, 50)} <= set(offsets)  # 33 // 4 * 4 = 32
    assert {(8, 25), (8, 75), (24, 25), (24, 75)} <= set(offsets)
    assert (8, 0) not in offsets


def test_multi_scale_crop_draws_all_sizes_and_the_same_for_all_frames():
    frames = places(64, 96).repeat(2, 1, 1, 1)
    seen = set()
    for seed in range(300):
        out = transform.multi_scale_crop(frames, 16, np.random.default_rng(seed))
        assert out.shape == (2, 16, 16, 3)
        assert torch.equal(out[0], out[1])
        extent = out[0, -1, -1, :2].int() - out[0, 0, 0, :2].int()  # almost the crop's own, by 15 of 16
        seen.add(tuple((extent / 8).round().int().tolist()))
    assert len(seen) >= 7, "heights and widths of four scales, one step apart at most"


@pytest.mark.parametrize("shape", [(1, 1), (2, 500), (17, 16)])
def test_tiny_and_odd_frames_still_give_a_clip(shape):
    frames = noise(2, *shape)
    spec = ClipSpec(frames=2, size=16, resize=20)
    for seed in range(5):
        for name in ("multiscale", "random", "center"):
            clip = transform.train_transform(frames, spec, Augment(crop=name), np.random.default_rng(seed))
            assert clip.shape == (2, 16, 16, 3)
    assert transform.test_transform(frames, spec, 3).shape == (3, 2, 16, 16, 3)


def test_flip_mirrors_columns():
    frames = places(4, 6)
    assert transform.flip(frames)[0, 0, :, 1].tolist() == [5, 4, 3, 2, 1, 0]
    assert torch.equal(transform.flip(transform.flip(frames)), frames)


def test_colour_jitter_is_one_draw_for_the_clip_and_bounded():
    frames = noise(1).repeat(3, 1, 1, 1)
    out = transform.colour_jitter(frames, np.random.default_rng(1), 0.4)
    assert out.dtype == torch.uint8
    assert torch.equal(out[0], out[2])
    assert not torch.equal(out, frames)
    assert torch.equal(transform.colour_jitter(frames, np.random.default_rng(1), 0.0), frames)


def test_colour_jitter_of_a_grey_clip_is_brightness_alone():
    grey = torch.full((2, 4, 4, 3), 100, dtype=torch.uint8)
    brightness = np.random.default_rng(5).uniform(0.5, 1.5)
    out = transform.colour_jitter(grey, np.random.default_rng(5), 0.5)
    assert (out.float() - 100 * brightness).abs().max() <= 0.51


@pytest.mark.parametrize("crop", ["multiscale", "random", "center"])
def test_train_transform_depends_on_the_generator_alone(crop):
    spec = ClipSpec(frames=3, size=24, resize=32)
    augment = Augment(crop=crop, colour=0.2)
    clips = [transform.train_transform(noise(), spec, augment, np.random.default_rng(s)) for s in (0, 0, 1)]
    assert clips[0].shape == (3, 24, 24, 3)
    assert clips[0].is_contiguous()
    assert torch.equal(clips[0], clips[1])
    assert not torch.equal(clips[0], clips[2])


def test_train_transform_flips_half_of_the_clips_or_none():
    spec = ClipSpec(size=16, resize=16)

    def mirrored(augment: Augment, seed: int) -> bool:
        clip = transform.train_transform(places(16, 16), spec, augment, np.random.default_rng(seed))
        return bool(clip[0, 0, 0, 1] > clip[0, 0, -1, 1])

    assert 30 < sum(mirrored(Augment(crop="center"), seed) for seed in range(100)) < 70
    assert not any(mirrored(Augment(crop="center", flip=False), seed) for seed in range(100))


def test_test_transform_is_the_short_side_then_the_crop():
    frames, spec = noise(), ClipSpec(size=24, resize=32)
    shaped = transform.resize_short(frames, 32)
    assert torch.equal(transform.test_transform(frames, spec)[0], transform.center_crop(shaped, 24))
    three = transform.test_transform(frames, spec, 3)
    assert torch.equal(three[1], transform.center_crop(shaped, 24))
    with pytest.raises(UsageError, match="2 crops"):
        transform.test_transform(frames, spec, 2)


def test_to_clip_normalises():
    frames = torch.stack([noise(4, 6, 8), noise(4, 6, 8).flip(0)])
    spec = ClipSpec()
    clip = to_clip(frames, spec)
    expected = (frames.double() / 255 - torch.tensor(spec.mean).double()) / torch.tensor(spec.std).double()
    assert clip.shape == (2, 3, 4, 6, 8)
    assert clip.dtype == torch.float32
    assert torch.allclose(clip.permute(0, 2, 3, 4, 1).double(), expected, atol=1e-5)


def test_to_clip_leaves_its_input_alone_and_folds_without_a_copy():
    frames = torch.stack([noise(4, 6, 8)] * 2)
    before = frames.clone()
    clip = to_clip(frames, ClipSpec())
    assert torch.equal(frames, before)
    assert clip.permute(0, 2, 3, 4, 1).is_contiguous()
    assert clip.is_contiguous(memory_format=torch.channels_last_3d)
    pictures = clip.transpose(1, 2).flatten(0, 1)
    assert pictures.shape == (8, 3, 6, 8)
    assert pictures.is_contiguous(memory_format=torch.channels_last)
    assert pictures.data_ptr() == clip.data_ptr()


def test_to_clip_of_a_slice_is_contiguous_all_the_same():
    frames = torch.stack([noise(4, 6, 8)] * 2)[:, ::2]
    assert to_clip(frames, ClipSpec(), "cpu").permute(0, 2, 3, 4, 1).is_contiguous()
