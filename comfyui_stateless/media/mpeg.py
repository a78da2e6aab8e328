"""MPEG streams: they have no signature, but frames or packets that follow each other.

Audio frames: ISO/IEC 11172-3, 2.4.1.3 and 13818-7, 6.2. Packets: ISO/IEC 13818-1, 2.4.3 and 2.5.3.
"""

from __future__ import annotations

from collections.abc import Callable

_KBITS = {
    (3, 3): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (3, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (3, 1): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 3): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 1): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
"""By MPEG version (3 is 1; 2 and 2.5 are alike) and layer bits (3 is I), kbit/s by rate index."""

_HERTZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}
"""By MPEG version bits (0 is 2.5)."""

_PACKET = 188
_SYNC = 0x47


def type_of_frames(head: bytes) -> str | None:
    """Return the media type of an MPEG stream from its first bytes, None if it is none."""
    if head.startswith(b"ID3"):
        return "audio/mpeg" if _is_tag(head) else None
    if head.startswith(b"\0\0\x01"):
        return "video/mpeg" if _is_program(head) else None
    if _is_transport(head, 0) or _is_transport(head, 4):
        return "video/mp2t"
    if _repeats(head, _mpeg_frame):
        return "audio/mpeg"
    return "audio/aac" if _repeats(head, _adts_frame) else None


def _repeats(head: bytes, frame_length: Callable[[bytes], int]) -> bool:
    """Whether a whole frame is there, and another one, or the end, behind it."""
    length = frame_length(head)
    rest = head[length:]
    return 0 < length <= len(head) and (not rest or len(rest) < 7 or frame_length(rest) > 0)


def _mpeg_frame(data: bytes) -> int:
    """Return the bytes of the audio frame that ``data`` begins with, 0 if there is none."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return 0
    version, layer = data[1] >> 3 & 3, data[1] >> 1 & 3
    rate, frequency = data[2] >> 4, data[2] >> 2 & 3
    rates = _KBITS.get((3 if version == 3 else 2, layer), ())
    if version not in _HERTZ or not 0 < rate < len(rates) or frequency == 3:
        return 0
    padding = data[2] >> 1 & 1
    if layer == 3:
        return (12_000 * rates[rate] // _HERTZ[version][frequency] + padding) * 4
    samples = 72_000 if layer == 1 and version != 3 else 144_000
    return samples * rates[rate] // _HERTZ[version][frequency] + padding


def _adts_frame(data: bytes) -> int:
    """Return the bytes of the AAC frame that ``data`` begins with, 0 if there is none."""
    if len(data) < 7 or data[0] != 0xFF or data[1] & 0xF6 != 0xF0 or data[2] >> 2 & 15 > 12:
        return 0
    length = (data[3] & 3) << 11 | data[4] << 3 | data[5] >> 5
    return length if length > 7 else 0


def _is_tag(head: bytes) -> bool:
    """An ID3v2 tag has a version of 2 to 4, and its size in bytes below 128."""
    return len(head) >= 10 and 2 <= head[3] <= 4 and head[4] < 0xFF and max(head[6:10]) < 0x80


def _is_program(head: bytes) -> bool:
    """A program stream begins with a pack, a bare video stream with a sequence header."""
    if len(head) < 5 or head[3] not in (0xBA, 0xB3):
        return False
    return head[3] == 0xB3 or head[4] & 0xC4 == 0x44 or head[4] & 0xF1 == 0x21


def _is_transport(head: bytes, offset: int) -> bool:
    """Packets of 188 bytes, each with a payload or an adaptation field; 4 more with time codes."""
    packet = _PACKET + offset
    if len(head) < 2 * packet or head[offset] != _SYNC:
        return False
    starts = range(offset, len(head) - 3, packet)
    return all(head[at] == _SYNC and head[at + 3] & 0x30 for at in starts)
