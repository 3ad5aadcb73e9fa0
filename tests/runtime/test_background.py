"""What happens to pixels of none of the classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsdino_runtime.background import (
    STUFF,
    Background,
    background_notes,
    background_query,
    parse_background,
)
from ovsdino_runtime.errors import VocabularyError
from ovsdino_runtime.meanings import meanings
from ovsdino_runtime.vocabulary import ClassQuery, resolve, vocabularies, vocabulary

READY_NAMES = Path(__file__).parents[2].parent / "shared" / "weights" / "clip_vitb16_class_text_names.json"
KNOWN = frozenset({p for item in vocabularies().values() for query in item.queries for p in query.prompts})


def query_for(
    policy: str, *requests: str, known: frozenset[str] = KNOWN, open_: bool = False
) -> ClassQuery | None:
    queries = resolve(requests, known, open_vocabulary=open_).queries
    return background_query(
        parse_background(policy), queries, known, whole_vocabulary=False, open_vocabulary=open_
    )


def names_for(
    policy: str, *requests: str, known: frozenset[str] = KNOWN, open_: bool = False
) -> tuple[str, ...]:
    query = query_for(policy, *requests, known=known, open_=open_)
    assert query is not None
    assert query.label == "background"
    return query.prompts


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("auto", Background(kind="auto")),
        (" NONE ", Background(kind="none")),
        ("list", Background(kind="names", names=STUFF)),
        ("threshold:0.2", Background(kind="threshold", threshold=0.2)),
        ("Threshold: -1", Background(kind="threshold", threshold=-1.0)),
        ("sky", Background(kind="names", names=("sky",))),
        ("sky | brick wall", Background(kind="names", names=("sky", "brick wall"))),
    ],
)
def test_a_policy_is_read(text: str, policy: Background) -> None:
    assert parse_background(text) == policy


@given(st.floats(min_value=-1, max_value=1))
def test_every_cosine_is_a_threshold(threshold: float) -> None:
    assert parse_background(f"threshold:{threshold!r}").threshold == threshold


@pytest.mark.parametrize("value", ["", "x", "nan", "inf", "1.01", "-2"])
def test_a_threshold_that_is_no_cosine_is_refused(value: str) -> None:
    with pytest.raises(VocabularyError, match=r"no cosine in \[-1, 1\]"):
        parse_background(f"threshold:{value}")


@pytest.mark.parametrize("text", ["", " ", "|", "sky|", "sky||wall"])
def test_an_empty_background_name_is_refused(text: str) -> None:
    with pytest.raises(VocabularyError, match="empty name"):
        parse_background(text)


def test_a_policy_that_contradicts_itself_is_a_mistake_of_the_programmer() -> None:
    for kind, names, threshold in (("auto", ("sky",), None), ("names", (), None), ("threshold", (), None)):
        with pytest.raises(ValueError, match="cannot have"):
            Background(kind=kind, names=names, threshold=threshold)  # type: ignore[arg-type]


def test_none_and_a_threshold_need_no_class() -> None:
    assert query_for("none", "car") is None
    assert query_for("threshold:0.1", "car") is None


def test_a_few_names_stand_before_common_stuff_without_themselves() -> None:
    assert names_for("auto", "cars", "road") == tuple(name for name in STUFF if name != "road")
    assert names_for("list", "cars", "road") == names_for("auto", "cars", "road")


@pytest.mark.parametrize(
    ("asked", "left_out"),
    [
        ("street", {"road"}),
        ("house", {"building"}),
        ("skyscraper", {"building"}),
        ("brick walls", {"wall"}),
        ("wood floor", {"floor"}),
        ("ocean", {"sea"}),
        ("water", {"sea", "river"}),
        ("sky", {"sky", "clouds"}),
        ("furniture", {"desk", "bed", "wardrobe", "shelf"}),
        ("vegetation", {"tree", "grass", "wood"}),
        ("staircase", {"stairs"}),
        ("bannister", {"railing"}),
        ("windowpane", {"window"}),
        ("dog", set()),
        ("sidewalk", set()),
        ("potted plant", set()),
        ("dining table", set()),
        ("traffic light", set()),
    ],
)
def test_what_means_the_same_as_a_class_or_contains_it_is_no_background(
    asked: str, left_out: set[str]
) -> None:
    assert set(STUFF) - set(names_for("auto", asked)) == left_out


def test_a_name_that_no_list_holds_is_a_kind_of_its_last_word() -> None:
    assert {"building", "edifice", "house"} <= meanings().overlapping("brick house")
    assert "lamp" in meanings().overlapping("ceiling light")
    assert "lamp" not in meanings().overlapping("traffic light")


@given(st.lists(st.sampled_from(sorted(KNOWN)), min_size=1, max_size=8, unique=True))
def test_the_background_never_holds_a_class_that_is_asked_for(asked: list[str]) -> None:
    query = query_for("auto", *asked)
    if query is not None:
        assert set(query.prompts) <= set(STUFF) - set(asked)
        assert list(query.prompts) == [name for name in STUFF if name in query.prompts]


def test_all_classes_of_a_vocabulary_leave_no_background_whoever_names_them() -> None:
    city = vocabulary("cityscapes").queries
    auto = parse_background("auto")
    for queries in (city, (*city, ClassQuery(label="cat", prompts=("cat",)))):
        assert background_query(auto, queries, KNOWN, whole_vocabulary=False, open_vocabulary=False) is None
    assert background_query(auto, city[:-1], KNOWN, whole_vocabulary=False, open_vocabulary=False) is not None
    assert background_query(auto, city[:2], KNOWN, whole_vocabulary=True, open_vocabulary=False) is None


def test_a_vocabulary_covers_the_image_also_where_trained_synonyms_are_asked_for() -> None:
    names = [prompt for query in vocabulary("context59").queries for prompt in query.prompts]
    resolution = resolve(names, KNOWN, open_vocabulary=False, trained=KNOWN - {"motorbike", "sign"})
    by_another = {query.label for query in resolution.queries if query.prompts != (query.label,)}
    assert by_another == {"motorbike", "sign"}
    auto, queries = parse_background("auto"), resolution.queries
    assert background_query(auto, queries, KNOWN, whole_vocabulary=False, open_vocabulary=False) is None


def test_objects_alone_cover_no_image_so_all_coco_objects_keep_a_background() -> None:
    objects = vocabulary("coco_object").queries
    query = background_query(
        parse_background("auto"), objects, KNOWN, whole_vocabulary=False, open_vocabulary=False
    )
    assert query is not None
    assert set(STUFF) - set(query.prompts) == {"bed"}
    voc = vocabulary("voc21").queries
    query = background_query(
        parse_background("list"), voc, KNOWN, whole_vocabulary=True, open_vocabulary=False
    )
    assert query is not None
    assert query.prompts == STUFF


def test_common_stuff_is_what_the_bundle_knows_of_it_unless_it_has_a_text_encoder() -> None:
    few = frozenset({"car", "sky", "building", "pole"})
    assert names_for("auto", "car", known=few) == ("sky", "building")
    assert names_for("list", "car", known=few) == ("sky", "building")
    assert names_for("auto", "car", known=few, open_=True) == STUFF
    assert query_for("auto", "car", known=frozenset({"car", "pole"})) is None


def test_named_backgrounds_are_understood_like_classes_but_without_those_asked_for() -> None:
    assert names_for("street|Trees|car", "car") == ("road", "tree")
    assert names_for("unicorn", "car", open_=True) == ("unicorn",)


def test_a_background_that_is_unknown_or_wholly_asked_for_is_refused() -> None:
    with pytest.raises(VocabularyError, match=r"'unicorn' \(nothing is near it\)"):
        query_for("unicorn", "car")
    with pytest.raises(VocabularyError, match="every name of the background"):
        query_for("cars", "car")
    with pytest.raises(VocabularyError, match="every name of the background"):
        query_for("list", "car", known=frozenset({"car"}))


@pytest.mark.real
@pytest.mark.skipif(not READY_NAMES.is_file(), reason="needs the ready-made vectors in ../shared")
def test_common_stuff_is_spelled_as_in_the_ready_made_vectors() -> None:
    ready = json.loads(READY_NAMES.read_text(encoding="utf-8"))
    assert {name for names in ready.values() for name in names}.issuperset(STUFF)


TRAINED = ("car", "truck", "bus", "road", "sidewalk", "motorcycle")


def named(policy: str, *requests: str) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """What a background that a person names is asked for by, and what is said of it."""
    queries = resolve(requests, KNOWN, open_vocabulary=False, trained=TRAINED).queries
    parsed = parse_background(policy)
    query = background_query(
        parsed, queries, KNOWN, whole_vocabulary=False, open_vocabulary=False, trained=TRAINED
    )
    notes = background_notes(parsed, queries, KNOWN, open_vocabulary=False, trained=TRAINED)
    return query and query.prompts, notes


def test_a_background_without_training_is_asked_for_by_a_trained_synonym() -> None:
    prompts, (note,) = named("motorbike", "car")
    assert prompts == ("motorcycle",)
    assert note == "background: 'motorbike' is asked for as motorcycle, a synonym that was trained"


def test_what_is_asked_for_as_a_class_is_no_background_under_another_name() -> None:
    with pytest.raises(VocabularyError, match="every name of the background is asked for as a class"):
        named("motorbike", "motorbike")
    prompts, (note,) = named("vehicle", "car")
    assert prompts is not None
    assert "car" not in prompts
    assert note == f"background: 'vehicle' -> {' | '.join(prompts)}"
    assert named("road|road", "car") == (("road",), ())
