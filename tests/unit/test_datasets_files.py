"""Tables, images and names that others wrote: read as they look, or refused by file and line."""

import contextlib
import os
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from effnotes.core.errors import DataError
from effnotes.datasets.files import clean_name, decode_image, decode_images, list_image_folders, read_csv

ROWS = [f"P{number},likes,O{number % 3}" for number in range(8)]


def table_of(folder: Path, *rows: str, header: str = "subject,relation,object", encoding: str = "utf-8") -> Path:
    path = folder / "table.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding=encoding, newline="")
    return path


def read(path: Path, columns: str = "subject relation object", **options) -> list[tuple[int, dict[str, str]]]:
    return list(read_csv(path, columns.split(), **options))


# --- tables ---------------------------------------------------------------------------------------------------------------


OPEN = "a quotation mark that is opened here"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({3: 'P3,likes,"O0'}, f"line 5: {OPEN} is not closed at the end of its cell"),
        ({7: 'P7,likes,"O1'}, f"line 9: {OPEN} is not closed"),
        ({3: 'P3,likes,"O0', 5: 'P5,likes,"O2"'}, f"line 5: {OPEN} is not closed"),
        ({3: 'P3,likes,"O0"x'}, f"line 5: {OPEN} is not closed"),
        ({3: 'P3,likes,O0"'}, "line 5: one quotation mark is without another"),
        ({3: 'P3,li"kes,O0'}, "line 5: one quotation mark is without another"),
        ({3: 'P3,likes,"O0', 5: 'P5,likes,O2"'}, f"line 5: {OPEN} is closed in line 7, with whole rows between"),
        ({3: 'P3,"likes,O0', 4: 'P4,likes",O1'}, f"line 5: {OPEN} is closed in line 6, with whole rows between"),
        ({3: '"P3,likes,O0', 4: '\nP4",likes,O1'}, f"line 5: {OPEN} is closed in line 7, with whole rows between"),
        ({3: "P3,likes,O0,"}, "line 5: 4 cells, but the header has 3"),
    ],
)
def test_a_quotation_mark_too_many_swallows_no_row(tmp_path: Path, changes: dict[int, str], message: str) -> None:
    path = table_of(tmp_path, *(changes.get(number, row) for number, row in enumerate(ROWS)))
    with pytest.raises(DataError, match=rf"table\.csv, {message}"):
        read(path)


def test_an_unclosed_quote_before_more_than_the_csv_module_takes_into_a_cell(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2: a quotation mark that is opened here"):
        read(table_of(tmp_path, 'P,likes,"O', *(f"P{number},likes,O" for number in range(20_000))))


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ('"object","subject","relation"', '"O ""x"", y","P","likes"'),
        ("object, subject, relation", '"O ""x"", y", "P", "likes"'),
        ('"object" ,subject\t, "relation" ', '"O ""x"", y"  , "P"\t,likes '),
        (',"relation","subject","object"', '"1","likes","P","O ""x"", y"'),
        ("Unnamed: 0,relation,subject,note,object", 'a,likes,P,"two\nlines, of prose","O ""x"", y"'),
        ("\ufeffsubject\u200b,relation,object", 'P,likes,"O ""x"", y"'),
        ("subject,relation,object,", 'P,likes,"O ""x"", y",'),
    ],
)
def test_how_a_table_is_written_does_not_matter(tmp_path: Path, header: str, row: str) -> None:
    expected = {"subject": "P", "relation": "likes", "object": 'O "x", y'}
    for end in ("\n", "\r\n", "\r"):
        path = table_of(tmp_path, (row + "\n\n" + row).replace("\n", end), header=header)
        assert [cells for _, cells in read(path)] == [expected, expected]
    (_, first), (line, _) = read(path, "object", others=True)
    assert {name: first[name] for name in expected} == expected
    assert set(first) - set(expected) <= {"note"}
    assert line in (4, 5)


def test_a_name_may_be_there_once_however_it_is_spelt(tmp_path: Path) -> None:
    path = table_of(tmp_path, "a.jpg,1", "b.jpg,1", './/sub/../"a.jpg",0'.replace('"', ""), header="image,y")
    with pytest.raises(DataError, match=r"line 4: .*a\.jpg is listed a second time, first in line 2; keep one"):
        read(path, "image y", once="image")
    assert len(read(path, "image y", once=None)) == 3


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_other_encodings_are_refused(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataError, match=r"table\.csv: this is no UTF-8 text .*save it as UTF-8"):
        read(table_of(tmp_path, "P,likes,Café", encoding=encoding))


# --- names ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["Ro\u200bme", "Rome\ufeff", "\u200eRome\u200f", "R\u00adome", "Rome\u2060", "Ro\u200dme", "Rome\ufe0f", "Rome\x00",
     " Rome\xa0", "Rome\u180e", "Ro\u034fme", "Rome\u3164", "Rome\U000e0041", "\u202aRome\u202c", "\u2068Rome\u2069", "Rome\x7f"],
)  # fmt: skip
def test_letters_that_cannot_be_seen_make_no_other_name(name: str) -> None:
    assert clean_name(name) == "Rome"


@pytest.mark.parametrize(
    "name",
    ["Zürich", "می\u200cخواهم", "क्\u200dष", "日本", "👩\u200d🚀", "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f"],
)
def test_letters_that_shape_a_word_stay(name: str) -> None:
    assert clean_name(name) == name


def test_names_are_written_in_one_way() -> None:
    assert clean_name("Zu\u0308rich") == "Zürich"
    assert clean_name("می\u200c\u200cخواهم\u200c") == "می\u200cخواهم"


# --- images ---------------------------------------------------------------------------------------------------------------


def colours(path: Path) -> list[tuple[int, ...]]:
    image = decode_image(path)
    assert image.mode == "RGB"
    return list(map(tuple, np.asarray(image).reshape(-1, 3).tolist()))


def png(width: int, height: int, depth: int, kind: int, rows: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand, for kinds that Pillow does not write."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)),
        *chunks,
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    body = b"".join(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts)
    return b"\x89PNG\r\n\x1a\n" + body


def test_sixteen_bits_keep_their_levels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    ramp = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(ramp).save(path)
    assert colours(path) == [(level, level, level) for level in (0, 0, 1, 128, 255)]
    for kind, channels in ((2, 3), (4, 2), (6, 4)):  # colour, grey and colour with opacity
        values = np.repeat(ramp[0], channels).reshape(5, channels)
        values[:, 3 if channels == 4 else channels :] = 65535
        if channels == 2:
            values[:, 1] = 65535
        path.write_bytes(png(5, 1, 16, kind, b"\0" + values.astype(">u2").tobytes()))
        assert colours(path) == [(level, level, level) for level in (0, 0, 1, 128, 255)]


def test_what_is_transparent_is_white_and_not_what_lies_under_it(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    assert colours(path) == [(10, 20, 30), (255, 255, 255), (127, 127, 127)]
    Image.fromarray(pixels[..., [0, 3]][:, :2], "LA").save(path)
    assert colours(path) == [(10, 10, 10), (255, 255, 255)]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 0, 0])
    palette.putdata([0, 1])
    palette.save(path, transparency=1)
    assert colours(path) == [(10, 20, 30), (255, 255, 255)]
    palette.save(path)
    assert colours(path) == [(10, 20, 30), (200, 0, 0)]
    path.write_bytes(png(2, 1, 8, 2, bytes([0, 1, 2, 3, 4, 5, 6]), (b"tRNS", bytes([0, 4, 0, 5, 0, 6]))))
    assert colours(path) == [(1, 2, 3), (255, 255, 255)]


def test_black_and_white_is_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert colours(tmp_path / "a.png") == [(255, 255, 255), (0, 0, 0)]


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_an_image_is_turned_as_it_says(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    image = Image.new("RGB", (32, 16), "black")
    image.paste((255, 255, 255), (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: a quarter to the right
    image.save(path, exif=exif, quality=95)
    turned = np.asarray(decode_image(path))
    assert turned.shape == (32, 16, 3)
    assert turned[:14].min() > 240
    assert turned[18:].max() < 15


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_what_exif_says_is_no_reason_to_refuse_an_image(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (4, 4), "white").save(path, exif=b"Exif\0\0" + b"II*\0\xff\xff\xff\xff" + b"\x01" * 20)
    assert set(colours(path)) == {(255, 255, 255)}


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF", "WEBP", "PPM", "ICO", "EPS", "TGA", "PCX"])
@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_the_name_does_not_make_an_image_of_another_format_one_that_is_read(tmp_path: Path, kind: str, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    file = BytesIO()
    Image.new("RGB", (16, 16)).save(file, kind)
    path.write_bytes(file.getvalue())
    with pytest.raises(DataError, match=rf"a\.{ending}: this image cannot be read .*JPEG and PNG are read"):
        decode_image(path)
    Image.new("RGB", (16, 16)).save(path, "PNG" if ending == "jpg" else "JPEG")  # either may have the ending of the other
    assert decode_image(path).size == (16, 16)


def test_damaged_bytes_are_a_data_error_whatever_they_raise(tmp_path: Path) -> None:
    path, generator = tmp_path / "a.png", np.random.default_rng(0)
    pixels = Image.fromarray(generator.integers(0, 256, (24, 20, 3), dtype=np.uint8))
    refused = 0
    for kind in ("PNG", "JPEG"):
        file = BytesIO()
        pixels.save(file, kind)
        for _ in range(150):
            content = bytearray(file.getvalue())
            for place in generator.integers(0, min(len(content), 700), 3):
                content[place] = generator.integers(0, 256)
            path.write_bytes(content[: generator.integers(100, len(content) + 1)])
            with contextlib.suppress(DataError):  # anything else is an error of the test
                decode_image(path)
                continue
            refused += 1
    assert refused > 100


@pytest.mark.parametrize(("kind", "ending"), [("PNG", "png"), ("JPEG", "jpg")])
def test_an_image_is_never_what_could_be_read_before_the_damage(tmp_path: Path, kind: str, ending: str) -> None:
    path, file = tmp_path / f"a.{ending}", BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file, kind, progressive=True)
    refused = 0
    for place in range(700, len(file.getvalue()) - 100, 97):
        content = bytearray(file.getvalue())
        content[place] ^= 0xFF
        path.write_bytes(content)
        with Image.open(path) as image, contextlib.suppress(Exception):
            image.load()  # some damage to a JPEG can be made up for
            continue
        with pytest.raises(DataError, match="cannot be read"):
            decode_image(path)
        refused += 1
    assert refused


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png(60_000, 60_000, 8, 2, b""))
    with pytest.raises(DataError, match=r"a\.png: this image cannot be read .*decompression bomb"):
        decode_image(path)
    Image.new("RGB", (1, 30_000)).save(path)  # 200 bytes, which scaled to 224 pixels are 4 gigabytes
    with pytest.raises(DataError, match=r"a\.png: with 1 x 30000 pixels this image is too long and thin"):
        decode_images([path], 224)
    assert decode_images([path], 224, "squash").shape == (1, 3, 224, 224)


def test_a_pipe_or_a_folder_in_place_of_an_image_is_missing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").mkdir()
    (tmp_path / "c.jpg").symlink_to(tmp_path / "nowhere.jpg")
    for name, why in (("a", "this image is missing$"), ("b", "there is a folder of its name"), ("c", "this image is missing$")):
        with pytest.raises(DataError, match=rf"{name}\.jpg: .*{why}"):
            decode_image(tmp_path / f"{name}.jpg")


def test_what_is_no_image_is_left_out_counted_and_named(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "._a.png", ".DS_Store", "Thumbs.db", "c.tif", "d.webp", "e\u200b.gif"):
        (tmp_path / name).touch()
    for name in (".ipynb_checkpoints", "more.jpg", "__MACOSX"):
        (tmp_path / name).mkdir()
    with pytest.warns(RuntimeWarning) as caught:
        assert [path.name for path in list_image_folders([tmp_path])[0]] == ["a.png", "b.JPG"]
    (message,) = [str(warning.message) for warning in caught]
    for part in ("5 hidden", "1 folders", "more.jpg", "3 of another ending", "c.tif", "d.webp", "'", r"e\u200b.gif"):
        assert part in message
    with pytest.warns(RuntimeWarning) as caught:
        assert [len(images) for images in list_image_folders([tmp_path, tmp_path])] == [2, 2]
    assert len(caught) == 1


def test_a_folder_without_images_says_what_it_has(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no JPEG or PNG file in this folder; it is empty"):
        list_image_folders([tmp_path])
    for name in ("fox.tif", ".fox.jpg"):
        (tmp_path / name).touch()
    with pytest.raises(
        DataError, match=r"no JPEG or PNG file in this folder; left out are 1 hidden \(.*/\.fox\.jpg\), 1 of another ending"
    ):
        list_image_folders([tmp_path])
