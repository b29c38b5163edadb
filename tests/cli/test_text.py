from contrapas.cli import text


def test_control_characters_and_direction_overrides_are_escaped() -> None:
    assert text.escape("a\x1b[31mb\u202ec\x00\n") == "a\\x1b[31mb\\u202ec\\x00\\n"
    assert text.escape("lone \ud800") == "lone \\ud800"


def test_long_text_is_cut_at_two_hundred_characters() -> None:
    assert len(text.escape("x" * 1000)) == 200


def test_binary_is_shown_as_one_kilobyte_of_hex_without_escape_sequences() -> None:
    shown = text.payload(b"\x1b[2J\xff" * 1000)
    assert shown.startswith("hex 1b5b324aff")
    assert shown.endswith("… (5 000 B)")
    assert "\x1b" not in shown
    assert len(shown) < 2 * 1024 + 40


def test_text_with_an_escape_sequence_counts_as_binary() -> None:
    assert text.payload(b"ok \x1b[31m").startswith("hex ")
    assert text.payload('{"id":"ü"}'.encode()) == '{"id":"ü"}'
    assert text.payload(None) == "(empty)"


def test_durations_read_like_the_screens() -> None:
    told = [text.duration(ms) for ms in (41, 19_000, 64_000, 11_520_000, 450_000_000)]
    assert told == ["41ms", "19s", "1m04s", "3h12m", "5d5h"]


def test_every_symbol_has_an_ascii_form() -> None:
    assert text.plain("ChargeCard ✓ ─▶ x ↩ – …").isascii()
