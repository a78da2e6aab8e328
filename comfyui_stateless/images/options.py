"""The wire model of ``convert_output``: formats, their options, ranges and defaults.

JPEG and WebP options are those of the specification, which are those of the library sharp
(https://sharp.pixelplumbing.com/api-output); AVIF's and PNG's carry sharp's names as well.
Attributes carry the names of the wire, so that errors and echoes need no translation.
"""
# ruff: noqa: N815

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WrapValidator
from pydantic_core import InitErrorDetails
from pydantic_core.core_schema import ValidatorFunctionWrapHandler


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 80.0 is an integer there."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
Quality = Annotated[int, Field(ge=1, le=100), WHOLE]
Subsampling = Literal["4:2:0", "4:4:4"]


class _WireModel(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True)


class JpegOptions(_WireModel):
    """Options of JPEG, encoded by libvips with mozjpeg. Transparency becomes black."""

    quality: Quality = Field(default=80, description="Quality, 1 to 100.")
    progressive: bool = Field(default=False, description="Use progressive (interlace) scanning.")
    chromaSubsampling: Subsampling = Field(
        default="4:2:0", description="`4:4:4` keeps the full colour resolution."
    )
    optimizeCoding: bool = Field(default=True, description="Optimize the Huffman coding tables.")
    mozjpeg: bool = Field(
        default=False,
        description="Use mozjpeg's defaults: `trellisQuantisation`, `overshootDeringing` and "
        "`optimizeScans` true, `quantisationTable` 3, progressive. Any of the first four that is "
        "given as well wins.",
    )
    trellisQuantisation: bool = Field(default=False, description="Use trellis quantisation.")
    overshootDeringing: bool = Field(default=False, description="Use overshoot deringing.")
    optimizeScans: bool = Field(
        default=False, description="Optimize the scan order; makes the image progressive."
    )
    quantisationTable: Annotated[int, Field(ge=0, le=8), WHOLE] = Field(
        default=0, description="The quantization table to use, 0 to 8."
    )
    metadata: bool = Field(
        default=False, description="Keep the embedded prompt and workflow, as EXIF (up to 64 KB)."
    )


class WebpOptions(_WireModel):
    """Options of WebP."""

    quality: Quality = Field(default=80, description="Quality, 1 to 100.")
    alphaQuality: Annotated[int, Field(ge=0, le=100), WHOLE] = Field(
        default=100, description="Quality of the alpha channel, 0 to 100."
    )
    lossless: bool = Field(default=False, description="Use lossless compression.")
    nearLossless: bool = Field(default=False, description="Use near-lossless compression.")
    smartSubsample: bool = Field(default=False, description="Use smart (sharp) chroma subsampling.")
    preset: Literal["default", "picture", "photo", "drawing", "icon", "text"] = Field(
        default="default", description="Named preset for preprocessing and filtering."
    )
    effort: Annotated[int, Field(ge=0, le=6), WHOLE] = Field(
        default=4, description="CPU effort, 0 (fastest) to 6 (slowest)."
    )
    metadata: bool = Field(
        default=False,
        description="Keep the embedded prompt and workflow, as EXIF: ComfyUI's editor loads the "
        "graph from it.",
    )


class PngOptions(_WireModel):
    """Options of PNG.

    With none of the first three, a fast encoder is used, whose files are about as large as those
    that ComfyUI writes.
    """

    compressionLevel: Annotated[int, Field(ge=0, le=9), WHOLE] = Field(
        default=6,
        description="zlib compression level, 0 (fastest, largest) to 9 (slowest, smallest).",
    )
    adaptiveFiltering: bool = Field(
        default=True, description="Choose the best filter for each row; false uses no filter."
    )
    progressive: bool = Field(default=False, description="Use progressive (interlace) scanning.")
    metadata: bool = Field(default=True, description="Keep the embedded prompt and workflow.")

    @property
    def fast(self) -> bool:
        """Whether nothing was asked of the encoder."""
        return self.model_fields_set <= {"metadata"}


class AvifOptions(_WireModel):
    """Options of AVIF."""

    quality: Quality = Field(default=50, description="Quality, 1 to 100.")
    lossless: bool = Field(default=False, description="Use lossless compression.")
    effort: Annotated[int, Field(ge=0, le=9), WHOLE] = Field(
        default=4, description="CPU effort, 0 (fastest) to 9 (slowest)."
    )
    chromaSubsampling: Subsampling = Field(
        default="4:4:4", description="`4:2:0` halves the colour resolution."
    )
    metadata: bool = Field(
        default=False,
        description="Keep the embedded prompt and workflow, as EXIF: ComfyUI's editor loads the "
        "graph from it.",
    )


Options = JpegOptions | WebpOptions | PngOptions | AvifOptions


class _Output(_WireModel):
    format: str

    @property
    def extension(self) -> str:
        """The extension of the converted file, without the dot: the format as given."""
        return self.format


class JpegOutput(_Output):
    """Convert still images to JPEG."""

    format: Literal["jpeg", "jpg"] = Field(description="Also the converted file's extension.")
    options: JpegOptions = Field(default_factory=JpegOptions, description="JPEG options.")


class WebpOutput(_Output):
    """Convert still images to WebP."""

    format: Literal["webp"] = Field(description="Also the converted file's extension.")
    options: WebpOptions = Field(default_factory=WebpOptions, description="WebP options.")


class PngOutput(_Output):
    """Convert still images to PNG."""

    format: Literal["png"] = Field(description="Also the converted file's extension.")
    options: PngOptions = Field(default_factory=PngOptions, description="PNG options.")


class AvifOutput(_Output):
    """Convert still images to AVIF."""

    format: Literal["avif"] = Field(description="Also the converted file's extension.")
    options: AvifOptions = Field(default_factory=AvifOptions, description="AVIF options.")


def _untagged(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Keep the chosen format out of the places of errors, where the wire has no such level."""
    try:
        return validate(value)
    except ValidationError as error:
        raise ValidationError.from_exception_data(
            error.title, [_untagged_error(e) for e in error.errors(include_url=False)]
        ) from None


def _untagged_error(error: Any) -> InitErrorDetails:
    kind, place, context = error["type"], error["loc"][1:], error.get("ctx", {})
    if kind == "union_tag_not_found":
        kind, place, context = "missing", ("format",), {}
    elif kind == "union_tag_invalid":
        kind, place, context = "literal_error", ("format",), {"expected": context["expected_tags"]}
    return InitErrorDetails(type=kind, loc=place, input=error["input"], ctx=context)


ConvertOutput = Annotated[
    JpegOutput | WebpOutput | PngOutput | AvifOutput,
    Field(discriminator="format"),
    WrapValidator(_untagged),
]
"""What ``convert_output`` may be; ``extension`` names the converted files."""
