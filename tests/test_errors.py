"""The errors that geomatch raises."""

from __future__ import annotations

import pytest

from geomatch.errors import GeomatchError, InputError, printable


@pytest.mark.parametrize("given", ["a\rb", "a\nb", "a\x1b[31mb", "a\u2028b", "a\ud800b"])
def test_error_message_is_one_printable_line_whatever_it_quotes(given: str) -> None:
    message = str(InputError(f"no file '{given}'"))
    assert message.isprintable()
    assert message.startswith("no file 'a")
    assert message.endswith("b'")


def test_error_message_keeps_letters_of_all_scripts() -> None:
    assert str(GeomatchError("Pferd, 馬, ձի")) == "Pferd, 馬, ձի"


def test_printable_escapes_as_python_does() -> None:
    assert printable("a\tb\r\n") == r"a\tb\r\n"
