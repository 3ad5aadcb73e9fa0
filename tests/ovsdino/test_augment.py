"""Framings of photographs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsdino.data.augment import Augmentation, Framing, centre_framing, disturbed, random_framing
from ovsdino.data.labels import Box, Labels, labels_of_map

GRADIENT = np.stack(
    [np.tile(np.arange(90, dtype=np.uint8), (70, 1)), np.full((70, 90), 80, np.uint8),
     np.tile(np.arange(70, dtype=np.uint8)[:, None], (1, 90))], axis=-1,
)  # fmt: skip


def nothing(size_hw: tuple[int, int]) -> Labels:
    return Labels((), np.zeros((0, *size_hw), dtype=np.bool_), np.ones(size_hw, dtype=np.bool_))


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.integers(0, 2**31),
    st.tuples(st.floats(0.05, 1), st.floats(0.05, 1)),
)
def test_every_crop_lies_inside_the_photograph_at_a_scale_that_was_allowed(
    size_hw: tuple[int, int], seed: int, scale: tuple[float, float]
) -> None:
    low, high = sorted(scale)
    framing = random_framing(nothing(size_hw), Augmentation(scale=(low, high)), np.random.default_rng(seed))
    box, short = framing.box, min(size_hw)
    assert 0 <= box.top <= box.top + box.side <= size_hw[0]
    assert 0 <= box.left <= box.left + box.side <= size_hw[1]
    assert max(1, low * short - 0.5) <= box.side + 1e-6
    assert box.side <= max(1, high * short + 0.5)
    assert all(0.7 <= factor <= 1.3 for factor in framing.colour)


def test_the_same_seed_gives_the_same_framing_and_others_differ() -> None:
    def draw(seed: int) -> Framing:
        return random_framing(nothing((360, 480)), Augmentation(), np.random.default_rng((seed, 1, 2)))

    assert draw(0) == draw(0)
    assert len({draw(seed) for seed in range(20)}) == 20


def test_framings_are_spread_over_scale_place_and_flip() -> None:
    rng = np.random.default_rng(0)
    drawn = [random_framing(nothing((100, 200)), Augmentation(), rng) for _ in range(4000)]
    sides = np.array([framing.box.side for framing in drawn])
    assert sides.min() < 55
    assert sides.max() > 95
    # The logarithm of the side is uniform: its median is the geometric mean of the ends.
    assert np.median(sides) == pytest.approx(100 * np.sqrt(0.5), abs=1.5)
    assert 0.4 < np.mean([framing.flip for framing in drawn]) < 0.6
    assert min(framing.box.left for framing in drawn) < 10
    assert max(framing.box.left + framing.box.side for framing in drawn) > 190


def test_a_crop_around_an_object_holds_it_however_small_and_rare() -> None:
    index_map = np.zeros((100, 200), np.uint8)
    index_map[5:8, 190:192] = 1
    index_map[60, 3] = 2
    labels = labels_of_map(index_map, 4)
    rng = np.random.default_rng(0)
    found = {0.0: np.zeros(3), 1.0: np.zeros(3)}
    for objects, seen in found.items():
        for _ in range(300):
            settings = Augmentation(scale=(0.1, 0.3), object_crops=objects)
            box = random_framing(labels, settings, rng).box
            assert 0 <= box.top <= box.top + box.side <= 100
            assert 0 <= box.left <= box.left + box.side <= 200
            seen[np.unique(box.of(index_map))] += 1
    assert (found[1.0][1:] > 80).all()  # a third each
    assert (found[0.0][1:] < 30).all()


def test_a_photograph_without_objects_is_cropped_anywhere() -> None:
    rng = np.random.default_rng(0)
    empty = Labels((3,), np.zeros((1, 50, 60), dtype=np.bool_), np.ones((50, 60), dtype=np.bool_))
    for labels in (nothing((50, 60)), empty):
        box = random_framing(labels, Augmentation(object_crops=1.0), rng).box
        assert box.side >= 25


def test_a_view_is_the_crop_resized_as_at_inference_and_then_mirrored() -> None:
    box = Box(5, 9, 50)
    crop = GRADIENT[5:55, 9:59]
    resized = cv2.resize(crop, (32, 32), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(Framing(box).window(GRADIENT, 32), resized)
    np.testing.assert_array_equal(Framing(box, flip=True).window(GRADIENT, 32), resized[:, ::-1])


def test_image_and_labels_stay_on_each_other() -> None:
    index_map = (GRADIENT[..., 0] > 40).astype(np.int64)
    image = np.repeat((index_map * 255).astype(np.uint8)[..., None], 3, axis=2)
    labels = labels_of_map(index_map, 2)
    for seed in range(20):
        framing = random_framing(labels, Augmentation(colour=0), np.random.default_rng(seed))
        view = framing.window(image, 64)[..., 0] / 255
        shares = labels.shares(framing.box, 64, framing.flip)
        place = shares.classes.tolist().index(1) if 1 in shares.classes else None
        target = shares.targets[place] / 255 if place is not None else np.zeros((64, 64))
        assert np.abs(view - target).mean() < 0.02


def test_colour_factors_do_what_their_names_say() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(90, 150, (40, 40, 3), dtype=np.uint8)
    box = Box(0, 0, 40)
    luma = np.array((0.299, 0.587, 0.114))

    def seen(*factors: float) -> np.ndarray:
        return Framing(box, colour=(factors[0], factors[1], factors[2])).window(image, 40).astype(float)

    plain = image.astype(float)
    np.testing.assert_allclose(seen(1.2, 1, 1), plain * 1.2, atol=0.51)
    assert seen(1, 1.5, 1).std() == pytest.approx(1.5 * plain.std(), rel=0.03)
    assert (seen(1, 1.5, 1) @ luma).mean() == pytest.approx((plain @ luma).mean(), abs=1)
    grey = seen(1, 1, 0)
    assert np.ptp(grey, axis=2).max() == 0
    np.testing.assert_allclose(grey[..., 0], plain @ luma, atol=0.51)
    np.testing.assert_array_equal(Framing(box, colour=(1.3, 1.3, 1.3)).window(image, 40, jitter=False), image)


def test_noise_is_as_strong_as_asked_and_the_same_for_a_seed() -> None:
    flat = np.full((64, 64, 3), 128, np.uint8)
    noisy = Framing(Box(0, 0, 64), noise=10, noise_seed=3)
    seen = noisy.window(flat, 64)
    np.testing.assert_array_equal(noisy.window(flat, 64), seen)
    assert seen.std() == pytest.approx(10, rel=0.05)
    assert seen.mean() == pytest.approx(128, abs=0.5)
    assert not np.array_equal(Framing(Box(0, 0, 64), noise=10, noise_seed=4).window(flat, 64), seen)
    np.testing.assert_array_equal(noisy.window(flat, 64, jitter=False), flat)


def test_blur_is_gaussian_with_the_deviation_asked_for() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    blurred = Framing(Box(0, 0, 64), blur=2).window(image, 64)
    np.testing.assert_array_equal(blurred, cv2.GaussianBlur(image, (0, 0), 2))
    dot = np.zeros((64, 64, 3), np.uint8)
    dot[32, 32] = 255
    spread = Framing(Box(0, 0, 64), blur=1.5).window(dot, 64)[..., 0].astype(float)
    across = spread.sum(0) / spread.sum()
    assert (across * (np.arange(64) - 32) ** 2).sum() == pytest.approx(1.5**2, rel=0.15)


def test_grey_blur_and_noise_come_as_often_and_as_strong_as_asked() -> None:
    asked = Augmentation(grey=0.3, blur=2, noise=9)
    rng = np.random.default_rng(0)
    drawn = [disturbed(Framing(Box(0, 0, 8)), asked, rng) for _ in range(2000)]
    assert np.mean([one.colour[2] == 0 for one in drawn]) == pytest.approx(0.3, abs=0.04)
    for strength, most in (([one.blur for one in drawn], 2), ([one.noise for one in drawn], 9)):
        assert np.mean(np.array(strength) > 0) == pytest.approx(0.5, abs=0.04)
        assert max(strength) == pytest.approx(most, rel=0.02)
    assert len({one.noise_seed for one in drawn}) > 1990
    plain = [disturbed(Framing(Box(0, 0, 8)), Augmentation(), rng) for _ in range(50)]
    assert all(one.blur == 0 and one.noise == 0 and one.colour[2] > 0 for one in plain)


def test_the_middle_square_is_centred() -> None:
    assert centre_framing((360, 480)).box == Box(0, 60, 360)
    assert centre_framing((481, 360)).box == Box(60, 0, 360)


@pytest.mark.parametrize("settings_", [{"scale": (0.0, 1.0)}, {"scale": (0.8, 0.5)}, {"scale": (0.5, 1.2)},
                                       {"flip": 1.5}, {"colour": 1.0}, {"grey": 1.5},
                                       {"blur": -1.0}, {"noise": 256.0}])  # fmt: skip
def test_settings_out_of_range_are_refused(settings_: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"scale|flip|grey"):
        Augmentation(**settings_)  # type: ignore[arg-type]
