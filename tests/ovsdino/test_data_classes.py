"""The classes of several data sets as one table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from ovsdino.class_text import trained_names
from ovsdino.data.classes import class_table
from ovsdino.data.labels import NO_CLASS, UNLABELLED
from ovsdino.data.samples import Source
from ovsdino_runtime.errors import DataError, VocabularyError

KNOWN = ("car", "bus", "rider", "traffic sign", "sky")
VECTORS = {name: np.eye(5, dtype=np.float32)[row] for row, name in enumerate(KNOWN)}


def embed(names: Sequence[str]) -> NDArray[np.float32]:
    return np.stack([VECTORS[name] for name in names])


def source(*names: str) -> Source:
    return Source("folder:somewhere", names, ())


def test_data_sets_share_the_rows_of_the_classes_they_share() -> None:
    table = class_table(
        [source("sky", "cars", "bicyclist=rider"), source("Traffic_Sign", "car", "sky")],
        KNOWN, embed, open_vocabulary=False,
    )  # fmt: skip
    assert table.prompts == (("sky",), ("car",), ("rider",), ("traffic sign",))
    assert table.rows == ((0, 1, 2), (3, 1, 0))
    assert table.names[2] == "bicyclist"
    np.testing.assert_array_equal(table.vectors, embed(["sky", "car", "rider", "traffic sign"]))
    np.testing.assert_array_equal(table.rows_of(1), [0, 1, 3])
    assert any("cars" in note for note in table.notes)
    assert table.prompt_names == ("car", "rider", "sky", "traffic sign")


def test_two_labels_of_a_data_set_may_be_one_class() -> None:
    table = class_table([source("lorry=bus", "bus")], KNOWN, embed, open_vocabulary=False)
    assert table.rows == ((0, 0),)
    np.testing.assert_array_equal(table.rows_of(0), [0])


def test_several_prompts_give_the_mean_of_their_vectors() -> None:
    table = class_table([source("vehicle=car|bus")], KNOWN, embed, open_vocabulary=False)
    np.testing.assert_allclose(table.vectors, [[0.5**0.5, 0.5**0.5, 0, 0, 0]], atol=1e-6)
    assert table.prompt_names == ("bus", "car")


def test_a_general_word_stands_for_what_is_no_class_of_the_data_set_itself() -> None:
    table = class_table([source("vehicle", "car"), source("vehicle")], KNOWN, embed, open_vocabulary=False)
    assert table.prompts[:2] == (("bus",), ("car",))
    assert set(table.prompts[2]) == {"bus", "car"}
    assert table.rows == ((0, 1), (2,))


def test_void_and_background_are_no_classes() -> None:
    table = class_table([source("background", "car", "-")], KNOWN, embed, open_vocabulary=False)
    assert table.rows == ((NO_CLASS, 0, UNLABELLED),)
    np.testing.assert_array_equal(table.rows_of(0), [0])


def test_a_label_may_say_so_beside_its_name() -> None:
    table = class_table([source("sky", "void=-", "rest=Background")], KNOWN, embed, open_vocabulary=True)
    assert table.rows == ((0, UNLABELLED, NO_CLASS),)
    assert table.prompts == (("sky",),)


def test_an_unknown_name_is_refused_with_the_data_set_and_near_names() -> None:
    with pytest.raises(VocabularyError, match=r"folder:somewhere.*traffic sgin.*traffic sign.*label=prompt"):
        class_table([source("traffic sgin")], KNOWN, embed, open_vocabulary=False)


def test_a_data_set_of_void_alone_is_refused() -> None:
    with pytest.raises(DataError, match="names no class"):
        class_table([source("-", "background")], KNOWN, embed, open_vocabulary=False)


class Shown:
    """A sample of which only the classes matter."""

    def __init__(self, *classes: int) -> None:
        self.classes, self.asked = classes, 0

    def shown(self) -> frozenset[int]:
        self.asked += 1
        return frozenset(self.classes)


def test_only_classes_that_an_image_shows_count_as_trained() -> None:
    table = class_table(
        [source("car", "sky"), source("cars", "bus", "-", "background")], KNOWN, embed, open_vocabulary=False
    )
    names, note = trained_names(table, [(0, Shown(0)), (1, Shown(1, 2, 3)), (0, Shown())])
    assert names == ("bus", "car")
    assert note == "no image shows sky; they count as untrained"
    assert trained_names(table, [(0, Shown(0, 1)), (1, Shown(1))]) == (("bus", "car", "sky"), "")


def test_labels_are_read_only_until_every_class_was_met() -> None:
    table = class_table([source("car", "sky")], KNOWN, embed, open_vocabulary=False)
    samples = [Shown(0), Shown(1), Shown(0), Shown(1)]
    assert trained_names(table, [(0, sample) for sample in samples])[0] == ("car", "sky")
    assert [sample.asked for sample in samples] == [1, 1, 0, 0]
