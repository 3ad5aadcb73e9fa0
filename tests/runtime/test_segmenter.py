"""The whole runtime on a bundle whose labels can be foretold from colours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ovsdino_bench import reference
from ovsdino_runtime.errors import InferenceError, VocabularyError
from ovsdino_runtime.question import Question
from ovsdino_runtime.segmenter import Segmenter
from ovsdino_runtime.vocabulary import ClassQuery, vocabulary
from ovsdino_runtime.windows import WindowGrid

Colours = Mapping[str, tuple[int, int, int]]


@pytest.fixture(scope="module")
def segmenter(tiny_bundle: Path) -> Segmenter:
    return Segmenter.open(tiny_bundle, "cpu")


def halves(colours: Colours, left: str, right: str, size: tuple[int, int] = (56, 112)) -> NDArray[np.uint8]:
    image = np.empty((*size, 3), dtype=np.uint8)
    image[:, : size[1] // 2] = colours[left]
    image[:, size[1] // 2 :] = colours[right]
    return image


def test_areas_get_the_class_of_their_colour(segmenter: Segmenter, tiny_colours: Colours) -> None:
    result = segmenter.segment(halves(tiny_colours, "car", "road"), ["road", "car"], background="none")
    assert result.names == ("road", "car")
    assert result.labels.dtype == np.uint8
    assert (result.labels[:, :50] == 1).all()
    assert (result.labels[:, 62:] == 0).all()
    assert sum(result.area_px) == 56 * 112
    assert result.area_share == pytest.approx((0.5, 0.5), abs=0.02)


def test_cars_and_road_do_not_paint_the_sky_as_road(segmenter: Segmenter, tiny_colours: Colours) -> None:
    result = segmenter.segment(halves(tiny_colours, "sky", "road"), ["cars", "road"])
    assert result.names == ("car", "road", "background")
    assert (result.labels[:, :50] == result.background_index).all()
    assert (result.labels[:, 62:] == 1).all()


def test_one_encoding_serves_many_vocabularies(segmenter: Segmenter, tiny_colours: Colours) -> None:
    image = halves(tiny_colours, "bus", "tree")
    encoded = segmenter.encode(image)
    for classes in (["bus", "tree"], ["truck", "grass", "tree"], ["vehicle=car|bus|truck", "sky"]):
        ready, fresh = segmenter.segment(encoded, classes), segmenter.segment(image, classes)
        np.testing.assert_array_equal(ready.labels, fresh.labels)


def test_a_class_takes_the_best_of_its_synonyms(segmenter: Segmenter, tiny_colours: Colours) -> None:
    image = halves(tiny_colours, "bus", "truck")
    result = segmenter.segment(image, ["tree", "vehicle=car|bus|truck"], background="none")
    assert (result.labels == 1).mean() > 0.97


def test_pixels_below_a_threshold_are_background(segmenter: Segmenter, tiny_colours: Colours) -> None:
    result = segmenter.segment(halves(tiny_colours, "car", "sky"), ["car"], background="threshold:0.9")
    assert result.names == ("car", "background")
    assert (result.labels[:, :48] == 0).all()
    assert (result.labels[:, 64:] == 1).all()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    size=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    classes=st.integers(1, 9),
    background=st.sampled_from(["none", "auto", "threshold:0.5"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_labels_and_scores_equal_those_of_the_slow_reference(
    segmenter: Segmenter, size: tuple[int, int], classes: int, background: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (2, 3, 3), dtype=np.uint8)
    image = coarse[np.arange(size[0]) * 2 // size[0]][:, np.arange(size[1]) * 3 // size[1]]
    names = rng.permutation(sorted(segmenter.text.known))[:classes].tolist()
    question = segmenter.ask([*names[1:], ClassQuery(label="first", prompts=(names[0],))], background)
    encoded = segmenter.encode(image)
    result = segmenter.segment(encoded, question, scores=True)

    manifest = segmenter.bundle.manifest
    planes = reference.scores_of(
        image,
        segmenter.backend.features,
        question.embeddings,
        short_side_px=manifest.short_side_px,
        long_side_px=manifest.long_side_px,
        window_px=manifest.window_px,
        stride_px=manifest.stride_px,
    )
    expected = reference.labels(planes, question.groups.tolist(), question.threshold)
    assert result.scores is not None
    own = np.take_along_axis(result.scores, result.labels[None].astype(np.intp), axis=0)[0]
    best = np.take_along_axis(result.scores, expected[None], axis=0)[0]
    assert np.abs(best - own).max() <= 2e-5
    different = result.labels != expected
    assert np.abs(best - own)[different].max(initial=0) <= 2e-5
    slow = [planes[question.groups == index].max(axis=0) for index in range(int(question.groups[-1]) + 1)]
    np.testing.assert_allclose(result.scores[: len(slow)], slow, atol=2e-5)


def test_threads_share_a_segmenter(segmenter: Segmenter, tiny_colours: Colours) -> None:
    question = segmenter.ask(["car", "tree", "sky"], "none")
    rng = np.random.default_rng(0)
    pairs = [("car", "tree"), ("sky", "car"), ("tree", "sky"), ("bus", "road")]
    images = [
        np.repeat(halves(tiny_colours, *pair), int(times), axis=0)
        for pair, times in zip(pairs * 6, rng.integers(1, 4, 24), strict=True)
    ]
    alone = [segmenter.segment(image, question).labels for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda image: segmenter.segment(image, question).labels, images))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (2, 3)])
def test_tiny_and_thin_images_are_segmented(
    segmenter: Segmenter, tiny_colours: Colours, size: tuple[int, int]
) -> None:
    image = np.full((*size, 3), tiny_colours["car"], dtype=np.uint8)
    result = segmenter.segment(image, ["road", "car"], background="none")
    assert result.labels.shape == size
    assert sum(result.area_px) == size[0] * size[1]
    if max(size) < 28:  # a longer one is a few pixels high once resized, and mostly padding
        assert (result.labels == 1).all()


def test_a_file_an_array_and_a_pillow_image_give_the_same(
    segmenter: Segmenter, tiny_colours: Colours, tmp_path: Path
) -> None:
    from PIL import Image

    array = halves(tiny_colours, "car", "tree")
    picture = Image.fromarray(array)
    picture.save(tmp_path / "a.png")
    results = [
        segmenter.segment(item, ["car", "tree"]).labels for item in (array, picture, tmp_path / "a.png")
    ]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_untrained_names_and_changed_names_are_told(segmenter: Segmenter) -> None:
    question = segmenter.ask(["cars", "dog"])
    assert question.untrained == ("dog",)
    assert len(question.notes) == 1
    assert "car" in question.notes[0]


def test_no_array_of_classes_by_height_by_width_is_made_unless_scores_are_asked_for(
    segmenter: Segmenter, tiny_colours: Colours, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError("merged at full size")

    monkeypatch.setattr(WindowGrid, "merge", forbidden)
    image = halves(tiny_colours, "car", "tree")
    assert segmenter.segment(image, ["car", "tree"]).scores is None
    with pytest.raises(AssertionError, match="full size"):
        segmenter.segment(image, ["car", "tree"], scores=True)


def test_more_than_256_names_give_16_bit_labels(segmenter: Segmenter, tiny_colours: Colours) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(300, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    question = Question(
        names=tuple(f"class {index}" for index in range(300)),
        background_index=None,
        prompts=tuple(f"class {index}" for index in range(300)),
        embeddings=vectors,
        groups=np.arange(300),
        threshold=None,
        notes=(),
        untrained=(),
    )
    result = segmenter.segment(halves(tiny_colours, "car", "tree"), question)
    assert result.labels.dtype == np.uint16
    feature = segmenter.encode(np.full((28, 28, 3), tiny_colours["tree"], np.uint8)).features[0, :, 0, 0]
    assert result.labels[0, -1] == (vectors @ feature).argmax()


def test_a_class_called_background_beside_an_added_one_is_refused(segmenter: Segmenter) -> None:
    with pytest.raises(VocabularyError, match="background"):
        segmenter.ask(["background=sky", "car"])


def test_a_whole_vocabulary_needs_all_its_names(segmenter: Segmenter) -> None:
    with pytest.raises(VocabularyError):
        segmenter.ask(vocabulary("ade20k"))


def test_features_that_are_not_finite_are_an_error_not_a_label_map(
    segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = segmenter.backend.features

    def broken(windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        features = inner(windows)
        features[0, 0, 0, 0] = np.nan
        return features

    monkeypatch.setattr(segmenter.backend, "features", broken)
    with pytest.raises(InferenceError, match="not finite"):
        segmenter.segment(np.zeros((28, 28, 3), np.uint8), ["car"])


def test_batches_are_one_call_an_image(segmenter: Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    inner = segmenter.backend.features

    def counted(windows: NDArray[np.uint8]) -> NDArray[np.float32]:
        calls.append(len(windows))
        return inner(windows)

    monkeypatch.setattr(segmenter.backend, "features", counted)
    segmenter.segment(np.zeros((28, 100, 3), np.uint8), ["car"])
    assert calls == [7]


def test_a_benchmark_with_a_background_class_gets_one_and_another_gets_none(
    tmp_path: Path, write_tiny_bundle: Callable[[Path, Colours], Path]
) -> None:
    for name, wanted in (("voc21", True), ("voc20", False), ("cityscapes", False)):
        asked = vocabulary(name)
        prompts = sorted({prompt for query in asked.queries for prompt in query.prompts} | {"sky", "grass"})
        colours = {prompt: (index * 3 % 256, index * 7 % 256, index) for index, prompt in enumerate(prompts)}
        segmenter = Segmenter.open(write_tiny_bundle(tmp_path / name, colours), "cpu")
        question = segmenter.ask(asked)
        assert len(question.names) == len(asked.queries) + wanted
        assert (question.background_index is not None) == wanted


def test_one_text_instead_of_a_list_of_names_is_a_mistake_in_the_program(segmenter: Segmenter) -> None:
    with pytest.raises(TypeError, match=r"pass \['car'\]"):
        segmenter.ask("car")


def test_names_of_the_background_that_were_understood_as_others_are_told(segmenter: Segmenter) -> None:
    question = segmenter.ask(["car"], "skies|tree")
    assert any("skies" in note and "sky" in note for note in question.notes)
    assert not segmenter.ask(["car"], "sky|tree").notes


def test_objects_typed_by_hand_leave_a_background_though_a_benchmark_has_none(
    tmp_path: Path, write_tiny_bundle: Callable[[Path, Colours], Path]
) -> None:
    asked = [query.prompts[0] for query in vocabulary("voc20").queries]
    colours = {name: (index * 9 % 256, index * 5 % 256, index) for index, name in enumerate([*asked, "sky"])}
    question = Segmenter.open(write_tiny_bundle(tmp_path / "bundle", colours), "cpu").ask(asked)
    assert question.background_index == len(asked)
