"""Graphs for the editor, in the API format; with titles, as the editor exports them."""

from __future__ import annotations

from typing import Any

Graph = dict[str, Any]


def node(class_type: str, title: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title}}


def saved(*, width: int = 64, title: str = "Background", prefix: str = "hello") -> Graph:
    """A picture of one colour."""
    return {
        "1": node("EmptyImage", title, width=width, height=48, batch_size=1, color=3093151),
        "9": node("SaveImage", "Save Image", images=["1", 0], filename_prefix=prefix),
    }


SIMPLE = saved()

PHOTO: Graph = {
    "2": node("LoadImage", "Photo", image="example.png"),
    "9": node("SaveImage", "Save Image", images=["2", 0], filename_prefix="photo"),
}


def waiting(seconds: float, nonce: str) -> Graph:
    """A picture that takes its time."""
    return {
        "1": node("EmptyImage", "Image", width=8, height=8, batch_size=1, color=255),
        "2": node(
            "TestWaits", "Wait", image=["1", 0], seconds=seconds, stubborn=False, nonce=nonce
        ),
        "9": node("SaveImage", "Save", images=["2", 0], filename_prefix="waited"),
    }


def failing(message: str) -> Graph:
    """A node that raises."""
    return {
        "1": node("EmptyImage", "Image", width=8, height=8, batch_size=1, color=255),
        "2": node("TestRaises", "Broken", image=["1", 0], kind="ValueError", message=message),
        "9": node("SaveImage", "Save", images=["2", 0], filename_prefix="never"),
    }
