"""Text from outside as it can be shown: what would steer a terminal, or hide, is written out."""
# SPDX-License-Identifier: GPL-2.0-or-later

ASCII = {
    "✓": "+", "✗": "x", "→": ">", "—": "-", "–": "-", "…": "~", "·": "*", "█": "#", "░": ".", "▒": ":", "▓": "%",
    "┊": "|", "│": "|", "┃": "|", "─": "-", "━": "-", "┄": "-", "═": "=", "║": "|", "▶": ">", "◀": "<", "▸": ">",
    "●": "*", "×": "x", "≥": ">", "≤": "<", "≠": "#", "“": '"', "”": '"', "’": "'", "‘": "'", "\u00a0": " ",
    "•": "*", "▁": "_",
}  # fmt: skip
"""What stands for a sign where the output's character set lacks it, always one for one, so that columns stay."""


def printable(text: str, *, keep: str = "") -> str:
    """The text with every character that does not print, but for those of `keep`, as its escape sequence.

    Those are control characters, marks that change the direction of writing or take no room, line and paragraph
    separators, halves of surrogate pairs (bytes of file names that are no text), and characters without a meaning yet.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in keep or each == "\u00a0" else _escape(each) for each in text)


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def replaced(error: UnicodeError) -> tuple[str, int]:
    """A handler of encoding errors (:func:`codecs.register_error`): signs as `ASCII` has them, the rest written out."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end]
    return "".join(ASCII.get(each) or _escape(each) for each in signs), error.end
