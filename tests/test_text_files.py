"""Text files as other people write them: any encoding with its mark, any end of a line, read in pieces."""

import codecs
import io
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_hostile import quick
from test_prompts import loaded, texts

from exptilt.data import parsing, record_files, text_files
from exptilt.storage import keys

ROWS = ["Zwölf Boxkämpfer", "a\u2028b\x0bc\x0cd\x85e", "🙂 “quotes”, \ufeff and commas", "ࠀ", "one"]
ENCODINGS = {
    "utf-8": b"",
    "utf-8-sig": b"",
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
    "utf-32-be": codecs.BOM_UTF32_BE,
}
QUOTED = [json.dumps({"prompt": row}, ensure_ascii=False) for row in ROWS]
WRITTEN = {
    "a.txt": lambda end: end.join(ROWS),
    "a.jsonl": lambda end: end.join(QUOTED),
    "a.json": lambda end: f"[{end}{f',{end}'.join(QUOTED)}]",
    "a.csv": lambda end: end.join(["prompt,n", *(f'"{row}",1' for row in ROWS)]),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("name", WRITTEN)
def test_prompts_are_the_lines_and_strings_that_a_person_sees(tmp_path, name, encoding):
    for end, last in itertools.product(["\n", "\r\n", "\r"], [True, False]):
        text = WRITTEN[name](end) + end * last
        (tmp_path / name).write_bytes(ENCODINGS[encoding] + text.encode(encoding))
        table = loaded(str(tmp_path / name))
        assert table["prompt"].to_list() == ROWS
        assert table["prompt_id"].to_list() == [keys.prompt_id(row) for row in ROWS]


def test_an_end_of_a_line_within_quotes_stays_as_it_is(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'\xef\xbb\xbf"prompt",n\r\n"a\r\nb\rc\nd",1\r\n')
    assert texts(str(tmp_path / "a.csv")) == ["a\r\nb\rc\nd"]


@quick
@given(
    st.text("ab\r\n\u2028\x85\x0bࠀ🙂\ufeff", max_size=30), st.sampled_from([*ENCODINGS]), st.integers(1, 5)
)
def test_pieces_change_no_line(monkeypatch, text, encoding, size):
    monkeypatch.setattr(text_files, "PIECE", size)
    mark = ENCODINGS[encoding]
    if encoding == "utf-8":
        text = text.lstrip("\ufeff")
    found = list(text_files.lines(io.BytesIO(mark + text.encode(encoding))))
    assert "".join(found) == text
    whole = io.StringIO(text, newline="")
    assert found == list(whole)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_read_that_ends_within_a_character_is_not_the_end(monkeypatch, size):
    monkeypatch.setattr(parsing, "CHARACTERS", size)
    for encoding, mark in ENCODINGS.items():
        data = mark + '["ࠀ", "🙂"]'.encode(encoding)
        assert list(parsing.json_items(io.BytesIO(data))) == ["ࠀ", "🙂"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"ok\r\n\xc3\x28\n", "not UTF-8 at byte 4"),
        (b"\xef\xbb\xbfok\n\xff", "not UTF-8 at byte 6"),
        (codecs.BOM_UTF16_LE + "ok\n".encode("utf-16-le") + b"\x00\xdca\x00", "not UTF-16-LE at byte 8"),
        (codecs.BOM_UTF16_BE + "ok".encode("utf-16-be") + b"\x00", "not UTF-16-BE at byte 6"),
        (codecs.BOM_UTF32_LE + b"a\x00\x00\x00\xff\xff\xff\xff", "not UTF-32-LE at byte 8"),
    ],
)
def test_what_is_not_in_its_encoding_is_named_by_byte(tmp_path, monkeypatch, content, said):
    (tmp_path / "a.txt").write_bytes(content)
    for size in (1, 5, 2**16):
        monkeypatch.setattr(text_files, "PIECE", size)
        with pytest.raises(ValueError, match=said):
            texts(str(tmp_path / "a.txt"))


BAD = [
    (b'[{"prompt": "a", "x": NaN}]', "record 0: column 'x': NaN is not JSON"),
    (
        b'[{"prompt": "a"}, {"prompt": "a", "x": [{"y": -Infinity}]}]',
        "record 1: column 'x': -Infinity is not",
    ),
    (b'[{"prompt": "a", "prompt": "b"}]', "record 0: the key 'prompt' is there twice"),
    (b'[{"prompt": "a", "x": {"y": 1, "y": 2}}]', "record 0: column 'x': the key 'y' is there twice"),
    (b'[{"prompt": "a"}]\x0b', "more after the list"),
    (b'[{"prompt": "a"}, 3]', "record 1: it is no record but int"),
]


@pytest.mark.parametrize(("content", "said"), BAD)
def test_what_is_no_json_is_named_by_record_and_column(tmp_path, content, said):
    (tmp_path / "a.json").write_bytes(content)
    found = []
    for read in (
        lambda: texts(str(tmp_path / "a.json")),
        lambda: list(record_files.blocks(f"{tmp_path}/a.json")),
    ):
        with pytest.raises(ValueError, match="cannot be read") as stopped:
            read()
        found.append(str(stopped.value))
    assert all(said in text for text in found)
    if content.endswith(b"}]"):
        (tmp_path / "a.jsonl").write_bytes(content[1:-1].replace(b"}, {", b"}\n{"))
        with pytest.raises(ValueError, match="cannot be read") as stopped:
            texts(str(tmp_path / "a.jsonl"))
        assert said in str(stopped.value)


def test_a_line_of_other_characters_than_spaces_is_no_empty_line(tmp_path):
    (tmp_path / "a.jsonl").write_bytes('{"prompt": "a"}\n \t\r\n\u2028\n'.encode())
    with pytest.raises(ValueError, match="record 1: Expecting value at character 0"):
        texts(str(tmp_path / "a.jsonl"))
