"""Pictures of every kind against colours worked out by hand, and sizes against the protocol's list."""

from __future__ import annotations

import io
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from ovsdino_runtime.errors import ImageError
from ovsdino_runtime.preprocess import as_rgb, load_image, resize, resized_hw

SEED = np.random.default_rng(7)
RGB = SEED.integers(0, 256, (9, 14, 3), dtype=np.uint8)
ALPHA = SEED.integers(0, 256, (9, 14), dtype=np.uint8)
ORIENTATION = 0x0112


def on_white(colour: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.float64]:
    share = alpha[..., None] / 255
    return colour * share + 255 * (1 - share)


def saved(path: Path, image: Image.Image, **options: object) -> NDArray[np.uint8]:
    image.save(path, **options)
    return load_image(path)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.png", {}),
        ("a.webp", {"lossless": True}),
        ("a.bmp", {}),
        ("a.tif", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.tiff", {"compression": "tiff_deflate"}),
        ("a.JPG", {"format": "PNG"}),  # the contents count, not the name
    ],
)
def test_lossless_files_give_their_pixels_back(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    np.testing.assert_array_equal(saved(tmp_path / name, Image.fromarray(RGB), **options), RGB)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_jpeg_of_one_colour_keeps_it(tmp_path: Path, options: dict[str, object]) -> None:
    found = saved(tmp_path / "a.jpg", Image.new("RGB", (33, 17), (200, 100, 50)), quality=95, **options)
    assert found.shape == (17, 33, 3)
    assert np.abs(found.astype(int) - (200, 100, 50)).max() <= 2


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_transparency_is_laid_on_white(tmp_path: Path, name: str) -> None:
    image = Image.fromarray(np.dstack([RGB, ALPHA]))
    options = {"lossless": True, "exact": True} if name.endswith("webp") else {}
    assert np.abs(saved(tmp_path / name, image, **options) - on_white(RGB, ALPHA)).max() <= 1


def test_grey_with_alpha_is_laid_on_white(tmp_path: Path) -> None:
    grey = RGB[:, :, :1]
    found = saved(tmp_path / "a.png", Image.fromarray(np.dstack([grey, ALPHA])))
    assert np.abs(found - on_white(grey.repeat(3, axis=2), ALPHA)).max() <= 1


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_grey_becomes_three_equal_channels(tmp_path: Path, name: str) -> None:
    found = saved(tmp_path / name, Image.fromarray(RGB[:, :, 0]))
    np.testing.assert_array_equal(found, RGB[:, :, :1].repeat(3, axis=2))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_of_sixteen_bit_grey_the_upper_byte_is_kept(tmp_path: Path, name: str, order: str) -> None:
    wide = SEED.integers(0, 65_536, (9, 14)).astype(order)
    found = saved(tmp_path / name, Image.fromarray(wide))
    np.testing.assert_array_equal(found, (wide // 256).astype(np.uint8)[:, :, None].repeat(3, axis=2))


def test_sixteen_bit_colour_and_sixteen_bit_grey_of_the_same_values_look_the_same(tmp_path: Path) -> None:
    wide = SEED.integers(0, 65_536, (9, 14)).astype(np.uint16)
    raw = b"".join(b"\0" + np.repeat(row, 3).astype(">u2").tobytes() for row in wide)
    header = struct.pack(">IIBBBBB", 14, 9, 16, 2, 0, 0, 0)
    colour = tmp_path / "colour.png"
    with colour.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")):
            file.write(
                struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
            )
    np.testing.assert_array_equal(load_image(colour), saved(tmp_path / "grey.png", Image.fromarray(wide)))


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    inks = np.zeros((8, 8, 4), dtype=np.uint8)
    inks[:, :4] = (0, 255, 255, 0)  # magenta and yellow: red
    inks[:, 4:] = (0, 0, 0, 255)  # black ink
    found = saved(tmp_path / "a.tif", cmyk(inks))
    np.testing.assert_array_equal(found[:, :4], np.broadcast_to((255, 0, 0), (8, 4, 3)))
    np.testing.assert_array_equal(found[:, 4:], np.zeros((8, 4, 3)))


def cmyk(inks: NDArray[np.uint8]) -> Image.Image:
    return Image.merge("CMYK", [Image.fromarray(np.ascontiguousarray(inks[:, :, i])) for i in range(4)])


def test_a_cmyk_jpeg_is_not_shown_as_its_negative(tmp_path: Path) -> None:
    inks = np.broadcast_to(np.array((0, 255, 255, 0), dtype=np.uint8), (16, 16, 4))
    found = saved(tmp_path / "a.jpg", cmyk(inks), quality=95)
    assert np.abs(found.astype(int) - (255, 0, 0)).max() <= 4


def palette_image() -> Image.Image:
    indices = np.arange(9 * 14, dtype=np.uint8).reshape(9, 14) % 3
    image = Image.frombytes("P", (14, 9), indices.tobytes())
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    return image


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_palette_indices_become_their_colours(tmp_path: Path, name: str) -> None:
    expected = np.eye(3, dtype=np.uint8)[np.arange(9 * 14).reshape(9, 14) % 3] * 255
    np.testing.assert_array_equal(saved(tmp_path / name, palette_image()), expected)


@pytest.mark.parametrize("transparency", [1, b"\xff\x00\xff"])
def test_a_transparent_palette_entry_is_white(tmp_path: Path, transparency: int | bytes) -> None:
    found = saved(tmp_path / "a.png", palette_image(), transparency=transparency)
    expected = np.array([[255, 0, 0], [255, 255, 255], [0, 0, 255]])[np.arange(9 * 14).reshape(9, 14) % 3]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
def test_one_bit_becomes_black_and_white(tmp_path: Path, name: str) -> None:
    bits = RGB[:, :, 0] > 127
    found = saved(tmp_path / name, Image.fromarray(bits))
    np.testing.assert_array_equal(found, np.where(bits[:, :, None], 255, 0).repeat(3, axis=2))


# how the stored picture must be turned, written with NumPy alone (EXIF 2.3, tag 274)
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, k=-1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, k=1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
def test_the_exif_orientation_is_respected(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options: dict[str, object] = {"lossless": True} if name.endswith("webp") else {}
    if name.endswith("tif"):
        directory = ImageFileDirectory_v2()
        directory[ORIENTATION] = orientation
        options = {"tiffinfo": directory}
    else:
        options["exif"] = exif
    found = saved(tmp_path / name, Image.fromarray(RGB), **options)
    np.testing.assert_array_equal(found, UPRIGHT[orientation](RGB))


def test_a_phone_jpeg_lying_on_its_side_stands_up(tmp_path: Path) -> None:
    stored = np.zeros((16, 32, 3), dtype=np.uint8)
    stored[:, :16] = 255
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    found = saved(tmp_path / "a.jpg", Image.fromarray(stored), exif=exif, quality=95)
    assert found.shape == (32, 16, 3)
    assert found[:14].mean() > 250
    assert found[18:].mean() < 5


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_damaged_exif_data_do_not_hide_the_picture(tmp_path: Path, exif: bytes) -> None:
    assert saved(tmp_path / "a.jpg", Image.new("RGB", (20, 10), "red"), exif=exif).shape == (10, 20, 3)


def test_a_missing_file_a_folder_and_an_empty_file_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    for name, reason in (("none.jpg", "no such file"), (".", "folder"), ("empty.jpg", "empty")):
        with pytest.raises(ImageError, match=reason) as caught:
            load_image(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "contents", [b"hello\nworld\n" * 40, b"\x00" * 64, b"GIF89a" + b"\x01" * 60, b"%!PS-Adobe"]
)
def test_what_is_no_picture_of_the_five_formats_is_refused(tmp_path: Path, contents: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(contents)
    with pytest.raises(ImageError, match="no JPEG, PNG, WebP, TIFF or BMP"):
        load_image(tmp_path / "a.jpg")


def test_floats_are_refused_because_their_range_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"a\.tif.*floating-point"):
        saved(tmp_path / "a.tif", Image.fromarray(RGB[:, :, 0].astype(np.float32)))


def test_32_bit_numbers_are_refused_because_their_range_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"a\.tif.*32-bit"):
        saved(tmp_path / "a.tif", Image.fromarray(RGB[:, :, 0].astype(np.int32)))


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_half_of_any_file_is_refused_in_one_line(tmp_path: Path, format_name: str) -> None:
    whole = io.BytesIO()
    Image.fromarray(SEED.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(whole, format_name)
    path = tmp_path / "half"
    path.write_bytes(whole.getvalue()[: len(whole.getvalue()) // 2])
    with pytest.raises(ImageError, match="half") as caught:
        load_image(path)
    assert "\n" not in str(caught.value)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    format_name=st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "BMP"]),
    keep=st.floats(0, 1),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_damaged_file_gives_a_picture_or_one_line(
    tmp_path: Path, format_name: str, keep: float, damage: list[tuple[float, int]]
) -> None:
    whole = io.BytesIO()
    Image.fromarray(RGB).save(whole, format_name)
    contents = bytearray(whole.getvalue())
    for where, value in damage:
        contents[int(where * len(contents))] = value
    path = tmp_path / "damaged"
    path.write_bytes(contents[: int(keep * len(contents))])
    found, refusal = np.zeros((1, 1, 3), np.uint8), f"{path}"
    try:
        found = load_image(path, max_pixels=10_000)
    except ImageError as error:
        refusal = str(error)
    assert str(path) in refusal
    assert "\n" not in refusal
    assert found.dtype == np.uint8
    assert found.shape[2:] == (3,)
    assert found.shape[0] * found.shape[1] <= 10_000


def test_a_bomb_is_refused_by_its_header_alone(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(60_000, 50_000))
    with pytest.raises(ImageError, match=r"60000 x 50000 = 3,000,000,000 pixels.*--max-pixels"):
        load_image(path)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_max_pixels_is_the_largest_size_allowed(tmp_path: Path, format_name: str) -> None:
    path = tmp_path / "picture"
    Image.fromarray(RGB).save(path, format_name)
    assert load_image(path, max_pixels=9 * 14).shape == RGB.shape
    with pytest.raises(ImageError, match="126 pixels, more than the 125 allowed"):
        load_image(path, max_pixels=9 * 14 - 1)


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "WEBP", "TIFF", "BMP"])
def test_the_limit_of_pillow_neither_warns_nor_refuses_and_is_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_name: str
) -> None:
    path = tmp_path / "picture"
    Image.fromarray(RGB).save(path, format_name)
    for limit in (100, 20):  # Pillow would warn at the first and refuse at the second
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert load_image(path).shape == RGB.shape
        assert limit == Image.MAX_IMAGE_PIXELS


def test_threads_that_load_at_once_leave_the_limit_of_pillow_as_it_was(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    before = Image.MAX_IMAGE_PIXELS
    threads = [
        threading.Thread(target=lambda: [load_image(tmp_path / "a.png") for _ in range(20)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 5000), (5000, 1)])
def test_the_thinnest_pictures_load(tmp_path: Path, size_hw: tuple[int, int]) -> None:
    pixels = np.full((*size_hw, 3), 77, dtype=np.uint8)
    np.testing.assert_array_equal(saved(tmp_path / "thin.png", Image.fromarray(pixels)), pixels)


def test_arrays_and_pillow_images_in_memory_become_rgb() -> None:
    grey = RGB[:, :, 0]
    as_grey = grey[:, :, None].repeat(3, axis=2)
    np.testing.assert_array_equal(as_rgb(RGB), RGB)
    np.testing.assert_array_equal(as_rgb(RGB[:, ::-1]), RGB[:, ::-1])
    np.testing.assert_array_equal(as_rgb(grey), as_grey)
    np.testing.assert_array_equal(as_rgb(grey[:, :, None]), as_grey)
    np.testing.assert_array_equal(as_rgb(grey.astype(np.uint16) * 256 + 3), as_grey)
    np.testing.assert_array_equal(as_rgb(RGB.astype(">u2") * 256), RGB)
    np.testing.assert_array_equal(as_rgb(grey > 99), np.where(as_grey > 99, 255, 0))
    np.testing.assert_array_equal(as_rgb(Image.fromarray(RGB)), RGB)
    assert np.abs(as_rgb(np.dstack([RGB, ALPHA])) - on_white(RGB, ALPHA)).max() <= 1
    assert np.abs(as_rgb(np.dstack([grey, ALPHA])) - on_white(as_grey, ALPHA)).max() <= 1


@pytest.mark.parametrize("shape", [(3,), (0, 4, 3), (4, 0), (2, 9, 14, 3), (9, 14, 5)])
def test_an_array_of_another_shape_is_a_mistake(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one image at a time"):
        as_rgb(np.zeros(shape, dtype=np.uint8))


def test_an_array_of_floats_is_a_mistake() -> None:
    with pytest.raises(TypeError, match="float32"):
        as_rgb(np.zeros((4, 4, 3), dtype=np.float32))


@pytest.mark.parametrize(
    ("size_hw", "expected"),
    [  # the sizes of docs/protocol.md, step 1
        ((480, 640), (448, 597)),
        ((427, 640), (448, 671)),
        ((333, 500), (448, 673)),
        ((1080, 1920), (448, 796)),
        ((1024, 2048), (448, 896)),
        ((1000, 6000), (341, 2048)),
        ((1, 5000), (1, 2048)),
        ((1, 1), (448, 448)),
    ],
)
def test_sizes_after_resizing_are_those_of_the_protocol(
    size_hw: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert resized_hw(size_hw, 448, 2048) == expected
    assert resized_hw(size_hw[::-1], 448, 2048) == expected[::-1]


@given(height=st.integers(1, 20_000), width=st.integers(1, 20_000))
def test_no_size_exceeds_its_bounds_or_vanishes(height: int, width: int) -> None:
    found = resized_hw((height, width), 448, 2048)
    assert 1 <= min(found) <= 448
    assert max(found) <= 2048
    assert min(found) == 448 or max(found) == 2048


def bilinear(image: NDArray[np.uint8], size_hw: tuple[int, int]) -> NDArray[np.float64]:
    """Half-pixel bilinear sampling with clamped borders and no antialias, in floats."""

    def weights(length: int, target: int) -> NDArray[np.float64]:
        matrix = np.zeros((target, length))
        for i in range(target):
            place = min(max((i + 0.5) * length / target - 0.5, 0), length - 1)
            low = min(int(place), max(length - 2, 0))
            matrix[i, low] += 1 - (place - low)
            if length > 1:
                matrix[i, low + 1] += place - low
        return matrix

    rows, columns = weights(image.shape[0], size_hw[0]), weights(image.shape[1], size_hw[1])
    return np.einsum("yh,hwc,xw->yxc", rows, image, columns)


@settings(deadline=None)
@given(
    size_hw=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    target_hw=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 99),
)
def test_resizing_is_bilinear_without_antialias(
    size_hw: tuple[int, int], target_hw: tuple[int, int], seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    found = resize(image, target_hw)
    assert found.shape == (*target_hw, 3)
    assert np.abs(found - bilinear(image, target_hw)).max() <= 1.01


def test_premultiplied_grey_is_refused_in_a_sentence_or_read() -> None:
    picture = Image.new("La", (4, 4))
    try:
        assert as_rgb(picture).shape == (4, 4, 3)
    except ImageError as error:
        assert "La" in str(error)  # noqa: PT017 - either outcome is right


def test_a_pillow_image_whose_file_is_cut_off_is_one_line(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-2000])
    with Image.open(tmp_path / "a.png") as opened, pytest.raises(ImageError, match="truncated or damaged"):
        as_rgb(opened)
