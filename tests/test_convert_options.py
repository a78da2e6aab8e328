"""The wire model of ``convert_output``: what is refused, where, and what the defaults are."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from comfyui_stateless.images import ConvertOutput


class Request(BaseModel):
    """Holds the model as requests do."""

    model_config = ConfigDict(frozen=True, strict=True)

    convert_output: ConvertOutput | None = None


def jpeg(**options: Any) -> dict[str, Any]:
    return {"format": "jpeg", "options": options}


def webp(**options: Any) -> dict[str, Any]:
    return {"format": "webp", "options": options}


def png(**options: Any) -> dict[str, Any]:
    return {"format": "png", "options": options}


def avif(**options: Any) -> dict[str, Any]:
    return {"format": "avif", "options": options}


JPEG = "quality progressive chromaSubsampling optimizeCoding mozjpeg trellisQuantisation"
JPEG += " overshootDeringing optimizeScans quantisationTable metadata"
WEBP = "quality alphaQuality lossless nearLossless smartSubsample preset effort metadata"
PNG = "compressionLevel adaptiveFiltering progressive metadata"
AVIF = "quality lossless effort chromaSubsampling metadata"
NAMES = {"jpeg": JPEG.split(), "webp": WEBP.split(), "png": PNG.split(), "avif": AVIF.split()}

REFUSED: list[tuple[Any, str]] = [
    *((jpeg(quality=value), "options.quality") for value in (0, 101, -1, 80.5, "80", True, [80])),
    (jpeg(quality=float("inf")), "options.quality"),
    (jpeg(progressive=0), "options.progressive"),
    (jpeg(progressive="true"), "options.progressive"),
    (jpeg(chromaSubsampling="4:2:2"), "options.chromaSubsampling"),
    (jpeg(chromaSubsampling=True), "options.chromaSubsampling"),
    (jpeg(optimizeCoding=1), "options.optimizeCoding"),
    (jpeg(mozjpeg=1), "options.mozjpeg"),
    (jpeg(quantisationTable=9), "options.quantisationTable"),
    (jpeg(quantisationTable=-1), "options.quantisationTable"),
    (jpeg(chroma_subsampling="4:4:4"), "options.chroma_subsampling"),
    (jpeg(lossless=True), "options.lossless"),
    (jpeg(nonsense=1), "options.nonsense"),
    (webp(quality=0), "options.quality"),
    (webp(alphaQuality=101), "options.alphaQuality"),
    (webp(effort=7), "options.effort"),
    (webp(effort=True), "options.effort"),
    (webp(preset="cartoon"), "options.preset"),
    (webp(progressive=True), "options.progressive"),
    (webp(metadata=1), "options.metadata"),
    (png(compressionLevel=10), "options.compressionLevel"),
    (png(quality=80), "options.quality"),
    (avif(effort=10), "options.effort"),
    (avif(chromaSubsampling="4:2:2"), "options.chromaSubsampling"),
    (avif(alphaQuality=80), "options.alphaQuality"),
    ({"format": "jpeg", "options": None}, "options"),
    ({"format": "jpeg", "options": []}, "options"),
    ({"format": "jpeg", "quality": 80}, "quality"),
    ({"format": "gif"}, "format"),
    ({"format": "JPEG"}, "format"),
    ({"format": None}, "format"),
    ({"format": ["jpeg"]}, "format"),
    ({"options": {"quality": 80}}, "format"),
    ({}, "format"),
    ("jpeg", ""),
    (["jpeg"], ""),
    *(
        ({"format": format, "options": {name: None}}, f"options.{name}")
        for format, names in NAMES.items()
        for name in names
    ),
]


@pytest.mark.parametrize(("value", "place"), REFUSED, ids=str)
def test_what_is_wrong_is_refused_where_it_stands(value: Any, place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Request.model_validate({"convert_output": value})
    (error,) = caught.value.errors()
    assert ".".join(map(str, error["loc"])) == f"convert_output.{place}".rstrip(".")


def test_every_wrong_option_is_listed() -> None:
    with pytest.raises(ValidationError) as caught:
        Request.model_validate({"convert_output": jpeg(quality=0, progressive=0, effort=1)})
    assert [error["loc"][2] for error in caught.value.errors()] == [
        "quality",
        "progressive",
        "effort",
    ]


def test_a_wrong_format_is_told_the_right_ones() -> None:
    with pytest.raises(ValidationError, match="'jpeg', 'jpg', 'webp', 'png', 'avif'"):
        Request.model_validate({"convert_output": {"format": "gif"}})


ACCEPTED = [
    jpeg(quality=1, quantisationTable=8, chromaSubsampling="4:4:4", mozjpeg=True),
    jpeg(quality=100, quantisationTable=0),
    webp(quality=1, alphaQuality=0, effort=0, preset="text"),
    webp(quality=100, alphaQuality=100, effort=6, preset="drawing"),
    png(compressionLevel=0, metadata=False),
    png(compressionLevel=9, adaptiveFiltering=False, progressive=True),
    avif(quality=1, effort=0, lossless=True),
    avif(quality=100, effort=9, chromaSubsampling="4:2:0"),
]


@pytest.mark.parametrize("value", ACCEPTED, ids=str)
def test_the_ends_of_every_range_are_accepted_and_echoed_as_they_came(value: Any) -> None:
    request = Request.model_validate({"convert_output": value})
    assert request.model_dump(mode="json", exclude_unset=True) == {"convert_output": value}


def test_a_whole_number_may_be_written_with_a_point() -> None:
    request = Request.model_validate_json(
        '{"convert_output": {"format": "jpeg", "options": {"quality": 70.0}}}'
    )
    assert request.model_dump()["convert_output"]["options"]["quality"] == 70


def test_no_conversion_is_a_null_or_nothing() -> None:
    assert Request.model_validate({}).convert_output is None
    assert Request.model_validate({"convert_output": None}).convert_output is None


@pytest.mark.parametrize("format", ["jpeg", "jpg", "webp", "png", "avif"])
def test_the_extension_is_the_format_as_given(format: str) -> None:
    request = Request.model_validate({"convert_output": {"format": format}})
    assert request.convert_output
    assert request.convert_output.extension == format


def schema() -> dict[str, Any]:
    return TypeAdapter(ConvertOutput).json_schema()


def test_the_defaults_are_those_of_the_specification() -> None:
    defaults = {
        format: {
            name: field["default"]
            for name, field in schema()["$defs"][f"{format.capitalize()}Options"][
                "properties"
            ].items()
        }
        for format in NAMES
    }
    assert defaults == {
        "jpeg": {
            "quality": 80,
            "progressive": False,
            "chromaSubsampling": "4:2:0",
            "optimizeCoding": True,
            "mozjpeg": False,
            "trellisQuantisation": False,
            "overshootDeringing": False,
            "optimizeScans": False,
            "quantisationTable": 0,
            "metadata": False,
        },
        "webp": {
            "quality": 80,
            "alphaQuality": 100,
            "lossless": False,
            "nearLossless": False,
            "smartSubsample": False,
            "preset": "default",
            "effort": 4,
            "metadata": False,
        },
        "png": {
            "compressionLevel": 6,
            "adaptiveFiltering": True,
            "progressive": False,
            "metadata": True,
        },
        "avif": {
            "quality": 50,
            "lossless": False,
            "effort": 4,
            "chromaSubsampling": "4:4:4",
            "metadata": False,
        },
    }


def test_the_schema_tells_formats_apart_and_describes_every_field() -> None:
    assert schema()["discriminator"]["propertyName"] == "format"
    assert set(schema()["discriminator"]["mapping"]) == {"jpeg", "jpg", "webp", "png", "avif"}
    for model in schema()["$defs"].values():
        assert model["additionalProperties"] is False
        assert all(field["description"] for field in model["properties"].values())
    assert schema()["$defs"]["JpegOptions"]["properties"]["quality"]["maximum"] == 100
