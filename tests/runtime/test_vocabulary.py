"""Class lists, templates, and names as people write them."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ovsdino_runtime.errors import VocabularyError
from ovsdino_runtime.vocabulary import (
    CLASS_LIMIT,
    IMAGENET_TEMPLATES,
    ClassQuery,
    Resolution,
    canonical_set,
    parse_classes,
    read_classes_file,
    related_sets,
    resolve,
    vocabularies,
    vocabulary,
)

SHARED = Path(__file__).parents[2].parent / "shared"
READY_NAMES = SHARED / "weights" / "clip_vitb16_class_text_names.json"
PROTOCOL = SHARED / "PROTOCOL.md"
STREET = ("car", "road", "person", "traffic sign", "bus", "truck", "sky", "rider")


@lru_cache(maxsize=1)
def every_prompt() -> tuple[str, ...]:
    return tuple(
        sorted({p for item in vocabularies().values() for query in item.queries for p in query.prompts})
    )


def closed(*requests: str | ClassQuery, known: tuple[str, ...] = STREET) -> Resolution:
    return resolve(requests, known, open_vocabulary=False)


def prompts(*requests: str | ClassQuery, known: tuple[str, ...] = STREET) -> list[tuple[str, ...]]:
    return [query.prompts for query in closed(*requests, known=known).queries]


# --- class lists and templates ---


@pytest.mark.parametrize(
    ("name", "count", "background", "first", "last"),
    [
        ("voc20", 20, False, "aeroplane", "tvmonitor"),
        ("voc21", 20, True, "aeroplane", "tvmonitor"),
        ("context59", 59, False, "aeroplane", "wood"),
        ("context60", 59, True, "aeroplane", "wood"),
        ("coco_object", 80, True, "person", "toothbrush"),
        ("coco_stuff", 171, False, "person", "wood"),
        ("cityscapes", 19, False, "road", "bicycle"),
        ("ade20k", 150, False, "wall", "flag"),
        ("camvid", 11, False, "sky", "bicyclist"),
    ],
)
def test_a_vocabulary_has_its_benchmarks_classes_in_label_order(
    name: str, count: int, background: bool, first: str, last: str
) -> None:
    found = vocabulary(name)
    labels = [query.label for query in found.queries]
    assert (found.name, len(labels), found.has_background) == (name, count, background)
    assert (labels[0], labels[-1]) == (first, last)
    assert len(set(labels)) == len({query.prompts for query in found.queries}) == count


def test_labels_keep_their_name_and_have_a_prompt_a_text_encoder_can_read() -> None:
    def prompt(name: str, label: str) -> tuple[str, ...]:
        return next(query.prompts for query in vocabulary(name).queries if query.label == label)

    assert prompt("voc20", "pottedplant") == ("potted plant",)
    assert prompt("voc20", "diningtable") == ("dining table",)
    assert prompt("context59", "tvmonitor") == ("tv monitor",)
    assert prompt("coco_stuff", "floor-wood") == ("wood floor",)
    assert prompt("coco_stuff", "sky-other") == ("sky",)
    assert prompt("camvid", "bicyclist") == ("rider",)
    assert all(re.fullmatch(r"[a-z]+( [a-z]+)*", name) for name in every_prompt())


def test_coco_stuff_begins_with_the_coco_objects() -> None:
    assert vocabulary("coco_stuff").queries[:80] == vocabulary("coco_object").queries


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("cityscapes19", "cityscapes"),
        ("Cityscapes", "cityscapes"),
        ("ade150", "ade20k"),
        ("ADE20K", "ade20k"),
        ("VOC-20", "voc20"),
        ("voc21", "voc21"),
        ("voc", "voc21"),
        ("coco", "coco_object"),
        ("COCO-Stuff", "coco_stuff"),
        ("cocostuff171", "coco_stuff"),
        ("context", "context59"),
        ("Context60", "context60"),
        ("camvid", "camvid"),
    ],
)
def test_a_vocabulary_is_found_under_its_aliases(alias: str, name: str) -> None:
    assert canonical_set(alias) == vocabulary(alias).name == name


def test_an_unknown_vocabulary_is_refused_with_a_list_of_all() -> None:
    assert canonical_set("my own") == "my own"
    with pytest.raises(VocabularyError, match=r"'lvis'.*voc21.*ade20k"):
        vocabulary("lvis")


def test_a_vocabulary_with_background_is_served_by_the_vectors_of_the_one_without() -> None:
    assert related_sets("voc21") == ("voc21", "voc20")
    assert related_sets("coco") == ("coco_object", "coco_stuff")
    assert related_sets("ade") == ("ade20k",)


def test_the_templates_are_open_clips() -> None:
    reference = pytest.importorskip("open_clip.zero_shot_metadata").OPENAI_IMAGENET_TEMPLATES
    assert len(IMAGENET_TEMPLATES) == 80
    assert all(template.count("{}") == 1 for template in IMAGENET_TEMPLATES)
    for name in ("car", "potted plant"):
        assert [ours.format(name) for ours in IMAGENET_TEMPLATES] == [theirs(name) for theirs in reference]


@pytest.mark.real
@pytest.mark.skipif(not READY_NAMES.is_file(), reason="needs the ready-made vectors in ../shared")
def test_every_prompt_is_spelled_as_in_the_ready_made_vectors() -> None:
    ready = json.loads(READY_NAMES.read_text(encoding="utf-8"))
    for key, names in ready.items():
        found = {prompt for query in vocabulary(key).queries for prompt in query.prompts}
        assert found == set(names), key
    in_label_order = [query.prompts[0] for query in vocabulary("coco_stuff").queries]
    assert in_label_order == ready["cocostuff171"]
    everything = {name for names in ready.values() for name in names}
    assert everything.issuperset(every_prompt())


@pytest.mark.real
@pytest.mark.skipif(not PROTOCOL.is_file(), reason="needs the protocol in ../shared")
def test_the_labels_are_the_protocols() -> None:
    section = PROTOCOL.read_text(encoding="utf-8").split("## Class names, in label order")[1]

    def listed(title: str) -> list[str]:
        paragraph = section.split(title)[1].split("\n\n")[0]
        return [name.strip() for name in " ".join(paragraph.split()).rstrip(".").split(",")]

    def labels(name: str) -> list[str]:
        return [query.label for query in vocabulary(name).queries]

    assert labels("voc20") == listed("**VOC20**")
    assert labels("context59") == listed("(mmseg 0.30 order)")
    assert labels("coco_object") == listed("**COCO-Object 80**")
    assert labels("coco_stuff")[80:] == listed("the 80 above, then")
    assert labels("cityscapes") == listed("**Cityscapes19**")
    assert labels("ade20k") == listed("**ADE150**")


# --- class lists as text ---


def test_a_class_list_is_split_at_commas_and_blank_parts_are_dropped() -> None:
    assert parse_classes(" cars, vehicle=car|bus ,,") == ("cars", "vehicle=car|bus")


@pytest.mark.parametrize("text", ["", " ", ",", " , ,"])
def test_an_empty_class_list_is_refused(text: str) -> None:
    with pytest.raises(VocabularyError, match="is empty"):
        parse_classes(text)


def test_a_classes_file_has_one_class_a_line_comments_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "classes.txt"
    path.write_text(
        "\ufeff# street\ncar\n\n  vehicle=bus | truck # synonyms\nsharp#edge\r\n", encoding="utf-8"
    )
    assert read_classes_file(path) == ("car", "vehicle=bus | truck", "sharp#edge")


def test_a_classes_file_that_is_missing_or_no_text_or_empty_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VocabularyError, match="cannot read the class list"):
        read_classes_file(tmp_path / "absent.txt")
    with pytest.raises(VocabularyError, match="cannot read the class list"):
        read_classes_file(tmp_path)
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(VocabularyError, match="not UTF-8"):
        read_classes_file(tmp_path / "image.png")
    (tmp_path / "empty.txt").write_text("# nothing\n\n")
    with pytest.raises(VocabularyError, match="names no class"):
        read_classes_file(tmp_path / "empty.txt")


# --- names as people write them ---


def test_known_names_resolve_to_themselves_without_a_note() -> None:
    names = every_prompt()
    found = closed(*names, known=names)
    assert [query.label for query in found.queries] == list(names)
    assert all(query.prompts == (query.label,) for query in found.queries)
    assert found.notes == ()


@pytest.mark.parametrize(
    ("written", "understood"),
    [
        ("cars", "car"),
        ("Traffic_Sign", "traffic sign"),
        ("TrafficSigns", "traffic sign"),
        ("people", "person"),
        ("buses", "bus"),
        ("automobile", "car"),
        ("automobiles", "car"),
        ("street", "road"),
        ("lorry", "truck"),
        ("children", "person"),
        ("men", "person"),
        ("women", "person"),
        ("cyclists", "rider"),
    ],
)
def test_a_name_written_otherwise_is_understood_and_that_is_said(written: str, understood: str) -> None:
    found = closed(written)
    assert found.queries == (ClassQuery(label=understood, prompts=(understood,)),)
    assert found.notes == (f"{written!r} -> {understood}",)


@pytest.mark.parametrize(
    ("plural", "singular"),
    [
        ("benches", "bench"),
        ("shelves", "shelf"),
        ("knives", "knife"),
        ("leaves", "leaf"),
        ("stoves", "stove"),
        ("mice", "mouse"),
        ("teeth", "tooth"),
        ("women", "woman"),
        ("men", "man"),
        ("firemen", "fireman"),
        ("sheep", "sheep"),
        ("glasses", "glass"),
        ("boxes", "box"),
        ("churches", "church"),
        ("buses", "bus"),
        ("canvases", "canvas"),
        ("houses", "house"),
        ("vases", "vase"),
        ("cities", "city"),
        ("ties", "tie"),
        ("potatoes", "potato"),
        ("shoes", "shoe"),
        ("taxis", "taxi"),
        ("TVs", "tv"),
        ("chests of drawers", "chest of drawers"),
    ],
)
def test_regular_and_irregular_plurals_name_the_singular(plural: str, singular: str) -> None:
    assert prompts(plural, known=(singular, "car")) == [(singular,)]


@pytest.mark.parametrize(
    "name", ["glass", "stairs", "clothes", "grass", "skis", "clouds", "bus", "leaves", "scissors"]
)
def test_names_that_look_plural_stay_as_they_are(name: str) -> None:
    assert prompts(name, known=every_prompt()) == [(name,)]


def test_an_exact_name_wins_over_every_other_reading_of_it() -> None:
    known = ("shelf", "shelves", "Car", "car", "people", "person", "street", "road")
    for name in known:
        assert prompts(name, known=known) == [(name,)]
    assert prompts("cloth", "clothes", known=("cloth", "clothes")) == [("cloth",), ("clothes",)]
    assert prompts("shelfs", known=("shelf", "shelves")) == [("shelf",)]


def test_a_singular_finds_a_name_that_is_known_in_the_plural_only() -> None:
    assert prompts("cloud", "ski", "leaf", known=("clouds", "skis", "leaves")) == [
        ("clouds",),
        ("skis",),
        ("leaves",),
    ]


def test_a_benchmarks_label_is_understood() -> None:
    found = closed("floor-wood", "TVMonitor", "bicyclist", known=("wood floor", "tv monitor", "rider"))
    assert [query.label for query in found.queries] == ["wood floor", "tv monitor", "rider"]


_IRREGULAR = {"person": "people", "mouse": "mice", "knife": "knives", "shelf": "shelves", "sheep": "sheep"}
_NO_PLURAL = (
    "skis",
    "scissors",
    "stairs",
    "clothes",
    "clouds",
    "leaves",
    "shelves",
    "waterdrops",
    "bedclothes",
)


def _plural(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + ("es" if re.search(r"(s|x|z|ch|sh)$", word) else "s")


@given(st.data())
def test_any_case_spacing_and_plural_of_a_known_name_resolves_to_it(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(every_prompt()))
    words = name.split()
    head = 0 if "of" in words else len(words) - 1
    if words[head] not in _NO_PLURAL and data.draw(st.booleans()):
        words[head] = _plural(words[head])
    separator = st.sampled_from([" ", "_", "-", "  ", "", "\t", " _ "])
    text = words[0] + "".join(data.draw(separator) + word for word in words[1:])
    flips = data.draw(st.lists(st.booleans(), min_size=len(text), max_size=len(text)))
    text = "".join(c.upper() if flip else c for c, flip in zip(text, flips, strict=True))
    text = data.draw(st.sampled_from(["", " "])) + text + data.draw(st.sampled_from(["", " "]))
    letters = re.sub(r"[\W_]", "", text).lower()
    assume(all(other == name or other.replace(" ", "") != letters for other in every_prompt()))
    for open_vocabulary in (False, True):
        found = resolve([text], every_prompt(), open_vocabulary=open_vocabulary)
        assert found.queries == (ClassQuery(label=name, prompts=(name,)),)
        assert (found.notes == ()) == (text.strip() == name)


# --- synonyms, general words, the open vocabulary ---


def test_a_label_can_be_given_several_names_each_understood_like_any_other() -> None:
    found = closed("vehicle=cars|bus | lorry", "Two=person|people")
    assert found.queries == (
        ClassQuery(label="vehicle", prompts=("car", "bus", "truck")),
        ClassQuery(label="Two", prompts=("person",)),
    )
    assert found.notes == ("'cars' -> car", "'lorry' -> truck", "'people' -> person")
    assert closed("car|bus").queries == (ClassQuery(label="car|bus", prompts=("car", "bus")),)


WHEELS = ("car", "motorbike", "motorcycle", "rug", "carpet", "sidewalk", "pavement")


def asked_for(*requests: str, open_vocabulary: bool = False, trained: tuple[str, ...] = WHEELS) -> Resolution:
    learned = [name for name in trained if name not in ("motorbike", "carpet", "pavement")]
    return resolve(requests, WHEELS, open_vocabulary=open_vocabulary, trained=learned)


@pytest.mark.parametrize("written", ["motorbike", "Motorbikes"])
def test_a_name_without_training_is_asked_for_by_its_trained_synonym_under_its_own_label(
    written: str,
) -> None:
    found = asked_for(written, "car")
    assert found.queries[0] == ClassQuery(label="motorbike", prompts=("motorcycle",))
    assert found.notes == (f"{written!r} is asked for as motorcycle, a synonym that was trained",)
    with pytest.raises(
        VocabularyError, match=r"'(motorbike|Motorbikes)' and 'motorcycle' are the same class"
    ):
        asked_for(written, "motorcycle")


def test_a_trained_synonym_takes_no_name_s_place_that_can_stand_for_itself() -> None:
    assert asked_for("carpet", "rug").notes == ()  # COCO-Stuff has both, as classes of their own
    assert asked_for("carpet").queries[0].prompts == ("carpet",)
    assert asked_for("motorbike", trained=("car",)).queries[0].prompts == (
        "motorbike",
    )  # no synonym is better
    assert asked_for("motorbike", open_vocabulary=True).queries[0].prompts == ("motorbike",)
    assert asked_for("x=motorbike|car").queries[0].prompts == ("motorbike", "car")
    both = asked_for("motorbike=motorbike", "motorcycle")
    assert [query.prompts for query in both.queries] == [("motorbike",), ("motorcycle",)]


def test_a_general_word_takes_all_known_names_it_comprises_but_those_asked_for_by_themselves() -> None:
    found = closed("Vehicles", "road")
    assert found.queries[0] == ClassQuery(label="vehicles", prompts=("car", "truck", "bus"))
    assert found.notes == ("'Vehicles' -> car | truck | bus",)
    assert prompts("vehicles", "cars") == [("truck", "bus"), ("car",)]


@pytest.mark.parametrize("requests", [("vehicles", "motorbike"), ("motorbike", "vehicles")])
def test_a_general_word_leaves_out_what_is_asked_for_by_another_name(requests: tuple[str, str]) -> None:
    known = ("car", "bus", "motorbike", "motorcycle", "tv", "tv monitor", "laptop")
    found = resolve(requests, known, open_vocabulary=False, trained=("car", "bus", "motorcycle"))
    asked = {query.label: query.prompts for query in found.queries}
    assert asked == {"vehicles": ("car", "bus"), "motorbike": ("motorcycle",)}
    assert not any("where they tie" in note for note in found.notes)
    both = resolve(["electronics", "tv"], known, open_vocabulary=False).queries
    assert "tv monitor" not in both[0].prompts


def test_two_classes_of_one_label_are_told_from_one_class_named_twice() -> None:
    with pytest.raises(VocabularyError, match="two classes are called 'a'; give one of them another label"):
        closed("A=car", "a=bus")
    with pytest.raises(VocabularyError, match="'car' and 'cars' are the same class, car; name it once"):
        closed("car", "cars")
    with pytest.raises(ValueError, match="'a' has no prompts"):
        ClassQuery(label="a", prompts=())


def test_where_two_classes_share_a_name_it_is_said_which_wins() -> None:
    assert closed("vehicle=car|bus", "car").notes == (
        "'car' is asked for by 2 classes; where they tie, the first wins",
    )


def test_an_open_vocabulary_takes_an_unknown_name_as_it_is_but_for_case_and_spacing() -> None:
    found = resolve(["Unicorns", "zebra_crossing", "street", "cars", "T-shirt"], STREET, open_vocabulary=True)
    assert [query.label for query in found.queries] == [
        "unicorns",
        "zebra crossing",
        "street",
        "car",
        "t-shirt",
    ]
    assert found.notes == (
        "'Unicorns' -> unicorns",
        "'zebra_crossing' -> zebra crossing",
        "'cars' -> car",
        "'T-shirt' -> t-shirt",
    )


def test_a_ready_query_keeps_its_label_and_has_its_names_understood() -> None:
    query = ClassQuery(label="Kfz", prompts=("cars", "truck"))
    assert closed(query).queries == (ClassQuery(label="Kfz", prompts=("car", "truck")),)


def test_a_whole_vocabulary_resolves_label_by_label() -> None:
    for item in vocabularies().values():
        assert closed(*item.queries, known=every_prompt()) == Resolution(queries=item.queries, notes=())


# --- what is refused ---


def test_an_unknown_class_is_refused_with_the_nearest_known_names() -> None:
    with pytest.raises(VocabularyError, match=r"'zebar' \(nearest: zebra[,)].*--text-encoder") as caught:
        closed("zebar", "car", known=every_prompt())
    assert "\n" not in str(caught.value)
    with pytest.raises(VocabularyError, match=r"'kinves' \(nearest: knife"):
        closed("kinves", known=every_prompt())
    with pytest.raises(VocabularyError, match=r"'unicorn' \(nothing is near it\)"):
        closed("unicorn", known=every_prompt())
    with pytest.raises(VocabularyError, match=r"'roda' \(nearest: road\)"):
        closed("roda")
    with pytest.raises(VocabularyError, match=r"'acr' \(nearest: car\)"):
        closed("acr")
    with pytest.raises(VocabularyError, match=r"'the red car' \(nearest: car\)"):
        closed("the red car")
    with pytest.raises(VocabularyError, match=r"'old traffic signs' \(nearest: traffic sign"):
        closed("old traffic signs")
    with pytest.raises(VocabularyError, match=rf"'{'q' * 60}…' \(nothing is near it\)"):
        closed("q" * 5000)
    with pytest.raises(VocabularyError, match="and 2 more"):
        closed(*(f"qqq{i}" for i in range(7)))


def test_names_written_in_a_row_are_told_to_be_separated() -> None:
    hint = r"'cars traffic sign road' \(separate classes by commas: cars,traffic sign,road\)"
    with pytest.raises(VocabularyError, match=hint):
        closed("cars traffic sign road")
    assert prompts("traffic sign") == [("traffic sign",)]


@pytest.mark.parametrize(
    "requests",
    [("car", "car"), ("car", "cars"), ("car", "automobile"), ("x=car|bus", "y=bus|car")],
)
def test_classes_that_are_the_same_are_refused(requests: tuple[str, ...]) -> None:
    with pytest.raises(VocabularyError, match=r"same class.*name it once"):
        closed(*requests)


@pytest.mark.parametrize("request_text", ["", "  ", "=car", "vehicle=", "vehicle=car||bus", "car|", "|"])
def test_an_empty_name_is_refused(request_text: str) -> None:
    with pytest.raises(VocabularyError, match="empty name"):
        closed(request_text)


def test_background_is_no_class() -> None:
    with pytest.raises(VocabularyError, match="--background"):
        resolve(["car", "Background"], STREET, open_vocabulary=True)


def test_no_classes_and_more_than_a_label_map_can_hold_are_refused() -> None:
    with pytest.raises(VocabularyError, match="empty"):
        closed()
    many = [f"thing {number}" for number in range(CLASS_LIMIT + 1)]
    with pytest.raises(VocabularyError, match=r"65,536 classes.*65,535"):
        resolve(many, (), open_vocabulary=True)


def test_punctuation_is_no_name_without_a_text_encoder() -> None:
    with pytest.raises(VocabularyError, match="unknown class"):
        closed("?!")
    assert resolve(["?!"], STREET, open_vocabulary=True).queries[0].prompts == ("?!",)


def test_a_list_in_one_line_is_no_class_for_a_text_encoder() -> None:
    with pytest.raises(VocabularyError, match="'car,road' holds a comma; give every class by itself"):
        resolve(["car,road"], STREET, open_vocabulary=True)
