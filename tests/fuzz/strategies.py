"""What hypothesis draws from in several tests."""

from __future__ import annotations

from hypothesis import strategies as st

TOKEN = "s3cr3t-0f-a-cl13nt-5a9e"
"""What is to be seen nowhere."""

HOSTILE_IDS = (
    "__proto__", "constructor", "toString", ".", "..", "...", "../a", "a/../../b", "a\\b", "C:\\a",
    "CON", "con.png", "nul", "COM1", "a.", "a ", " a", "~", "-rf", "%2e%2e", "%width%", "{0}",
    "\0", "a\0b", "\r\nX: y", "\u202eabc", "\ufeffa", "\u200b", "\ud800", "\udfff\ud800", "\U0010ffff",
    "é", "e\u0301", "\u212b", "\u00c5", "A\u030a", "\ufb01", "\uff41", "\u1e9e", "ß", "İ", "🖼" * 60,
    "x" * 255, "é" * 200, ".x" * 100, "a" * 149 + "é", "NaN", "null", "true", "1", "01", "1.0", "-0",
)  # fmt: skip

IDS = st.one_of(
    st.sampled_from(HOSTILE_IDS), st.text(min_size=1, max_size=255), st.text("./\\é ", min_size=1)
)


def around(token: str) -> st.SearchStrategy[str]:
    """Return texts that hold a token somewhere."""
    pieces = st.text(max_size=8)
    return st.tuples(pieces, pieces).map(lambda pair: f"{pair[0]}{token}{pair[1]}")
