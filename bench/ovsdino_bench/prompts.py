"""Other names by which the classes of a benchmark are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ovsdino_bench.benchmark import Benchmark
from ovsdino_runtime.errors import DataError
from ovsdino_runtime.meanings import meanings
from ovsdino_runtime.names import NameIndex, readings
from ovsdino_runtime.queries import ClassQuery, parse_query
from ovsdino_runtime.text import TextEmbeddings
from ovsdino_runtime.vocabulary import Vocabulary


def with_prompts(benchmarks: Sequence[Benchmark], requests: Sequence[str]) -> list[Benchmark]:
    """Return benchmarks of which some classes are asked for by other names; their labels stay.

    Args:
        benchmarks: the benchmarks; one list of names serves them all.
        requests: `label=prompt|prompt`.

    Raises:
        DataError: a label is in none of the benchmarks, or is there twice.
        VocabularyError: a label or a name is empty.
    """
    queries = [parse_query(text) for text in requests]
    asked = {query.label: query for query in queries}
    labels = {query.label for item in benchmarks for query in _queries(item)}
    for query in queries:
        if query.label not in labels:
            names = ", ".join(item.name for item in benchmarks)
            raise DataError(f"--prompts names {query.label!r}, which is no label of {names}")
        if asked[query.label] != query:
            raise DataError(f"--prompts names {query.label!r} twice; join its names with |")
    return [_asked_by(item, asked) for item in benchmarks]


def _queries(benchmark: Benchmark) -> tuple[ClassQuery, ...]:
    return benchmark.classes.queries if isinstance(benchmark.classes, Vocabulary) else ()


def _asked_by(benchmark: Benchmark, asked: Mapping[str, ClassQuery]) -> Benchmark:
    if not isinstance(benchmark.classes, Vocabulary):
        return benchmark
    queries = tuple(asked.get(query.label, query) for query in benchmark.classes.queries)
    return replace(benchmark, classes=replace(benchmark.classes, queries=queries))


def with_synonyms(benchmark: Benchmark, text: TextEmbeddings) -> Benchmark:
    """Return a benchmark whose classes are asked for by every word of the same meaning too.

    Ours: the words are those of the runtime's list of synonyms, as far as they are known. A word that
    is the name of another class, or means the same as two classes, is left out.

    Args:
        benchmark: the benchmark; its labels stay as they are.
        text: the names that are known.
    """
    queries = _queries(benchmark)
    index = NameIndex(text.known)
    words = [_same_words(query, index, text.open_vocabulary) for query in queries]
    named = {key for query in queries for name in (query.label, *query.prompts) for key in readings(name)[:1]}
    shared = Counter(key for found in words for key in {readings(word)[0] for word in found})
    asked = {}
    for query, found in zip(queries, words, strict=True):
        more = [word for word in found if readings(word)[0] not in named and shared[readings(word)[0]] == 1]
        asked[query.label] = replace(query, prompts=tuple(dict.fromkeys((*query.prompts, *more))))
    return _asked_by(benchmark, asked)


def _same_words(query: ClassQuery, index: NameIndex, open_vocabulary: bool) -> list[str]:
    """Return the words that mean the same as a class's names, in the spelling in which they are known."""
    found: list[str] = []
    for prompt in query.prompts:
        for word in meanings().same(prompt):
            known = index.find(word)
            found += known or ((word,) if open_vocabulary else ())
    return list(dict.fromkeys(found))
