"""What an adapter knows of a benchmark: where its files lie, what their values mean, how many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ovsdino_bench.label_maps import LabelMap, LabelTable
from ovsdino_runtime.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Files:
    """A picture and its labels; either may be missing."""

    image: Path
    labels: Path


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A label map that is made, not downloaded.

    Attributes:
        target: where it belongs.
        make: returns it, uint8 [H, W]; raises DataError.
    """

    target: Path
    make: Callable[[], LabelMap]


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """One benchmark in the layout in which it is downloaded.

    Attributes:
        name: its vocabulary's canonical name.
        inside: folders, below the one that a person names, in which it may lie; the first one that
            holds a marker counts.
        markers: what tells that a folder is the data set; one of them is enough.
        expected: the layout, for errors.
        published: how many images figures in the literature are over; more than one where lists differ.
        table: what the values of its label maps mean.
        files: returns every picture and label map that is there or is listed, in order; raises DataError.
        conversions: returns what must be made, in order; raises DataError where its source is missing.
            None where labels are used as they are downloaded.
        raw: what the conversions are made from, for errors.
    """

    name: str
    inside: tuple[str, ...]
    markers: tuple[str, ...]
    expected: str
    published: tuple[int, ...]
    table: LabelTable
    files: Callable[[Path], list[Files]]
    conversions: Callable[[Path], Iterator[Conversion]] | None = None
    raw: str = ""

    def root(self, folder: Path) -> Path:
        """Return where the data set lies in a folder.

        Raises:
            DataError: there is no such folder, or it holds something else.
        """
        if not folder.is_dir():
            raise DataError(f"{self.name}: there is no folder {folder}; it should hold {self.expected}")
        for place in self.inside:
            if any((folder / place / marker).exists() for marker in self.markers):
                return folder / place
        found = sorted(item.name for item in folder.iterdir())
        holds = f"holds {', '.join(found[:4])}{', …' if len(found) > 4 else ''}" if found else "is empty"
        raise DataError(
            f"{self.name}: {folder} {holds}, but has no {' or '.join(self.markers)}; "
            f"it should hold {self.expected}"
        )


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What of a data set is there.

    Attributes:
        complete: pictures with their labels.
        without_labels: label maps that are missing.
        without_image: pictures that are missing.
        incomplete: how many images lack one of the two.
    """

    complete: tuple[Files, ...]
    without_labels: tuple[Path, ...]
    without_image: tuple[Path, ...]
    incomplete: int

    @classmethod
    def take(cls, adapter: Adapter, root: Path) -> Inventory:
        """Return what is there.

        Raises:
            DataError: the list of images is missing.
        """
        return cls.of(adapter.files(root))

    @classmethod
    def of(cls, wanted: Sequence[Files]) -> Inventory:
        """Return what is there of some pictures and labels."""
        without_labels = tuple(item.labels for item in wanted if not item.labels.is_file())
        without_image = tuple(item.image for item in wanted if not item.image.is_file())
        missing = {*without_labels, *without_image}
        complete = tuple(item for item in wanted if missing.isdisjoint((item.image, item.labels)))
        return cls(
            complete=complete,
            without_labels=without_labels,
            without_image=without_image,
            incomplete=len(wanted) - len(complete),
        )

    def lacks(self, adapter: Adapter, root: Path) -> str | None:
        """Return what is missing and where it belongs, as one sentence; None if nothing is."""
        parts = self.missing(root)
        if not parts and len(self.complete) not in adapter.published:
            wanted = " or ".join(map(str, adapter.published))
            parts.append(f"{len(self.complete)} pictures with labels are there, but it has {wanted}")
        return f"{adapter.name} in {root} is not complete: {'; '.join(parts)}" if parts else None

    def missing(self, root: Path) -> list[str]:
        """Return which files are missing and where they belong, a part of a sentence each."""
        return [
            f"missing {what}: {len(paths)}, the first is {paths[0].relative_to(root)}"
            for what, paths in (("label maps", self.without_labels), ("pictures", self.without_image))
            if paths
        ]


def listed(path: Path) -> list[str]:
    """Return the names in a list of images, one a line.

    Raises:
        DataError: it cannot be read or is empty.
    """
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read the list of images {path}: {reason}; download it again") from error
    if not names:
        raise DataError(f"the list of images {path} is empty; download it again")
    return names


def by_stem(paths: Iterable[Path], ending: str) -> dict[str, Path]:
    """Return the paths whose names end so, by the rest of their names; hidden files are passed over."""
    return {
        path.name[: -len(ending)]: path
        for path in paths
        if path.name.endswith(ending) and not path.name.startswith(".")
    }


def paired(
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    image_of: Callable[[str], Path],
    labels_of: Callable[[str], Path],
) -> list[Files]:
    """Return pictures and labels of the same key, sorted by it; what is missing has the path it should have.

    Args:
        images: pictures that are there, by key.
        labels: label maps that are there, by key.
        image_of: where a key's picture belongs.
        labels_of: where a key's labels belong.
    """
    return [
        Files(image=images.get(key) or image_of(key), labels=labels.get(key) or labels_of(key))
        for key in sorted({*images, *labels})
    ]


def contents(folder: Path) -> list[Path]:
    """Return what lies in a folder, sorted; nothing if there is no such folder."""
    return sorted(folder.iterdir()) if folder.is_dir() else []


def first_there(root: Path, places: tuple[str, ...]) -> Path:
    """Return the first of some folders that is there, or else the first."""
    return next((root / place for place in places if (root / place).is_dir()), root / places[0])
