"""Media types and the extensions that files of them have."""

from __future__ import annotations

UNKNOWN = "application/octet-stream"

_EXTENSIONS = {
    "application/gzip": "gz",
    "application/json": "json",
    "application/jsonl": "jsonl",
    "application/pdf": "pdf",
    "application/vnd.rn-realmedia": "rm",
    "application/x-safetensors": "",
    "application/x-subrip": "srt",
    "application/xml": "xml",
    "application/yaml": "yaml yml",
    "application/zip": "zip",
    "audio/aac": "aac",
    "audio/aiff": "aiff aif aifc",
    "audio/amr": "amr",
    "audio/amr-wb": "awb",
    "audio/basic": "au snd",
    "audio/flac": "flac",
    "audio/midi": "mid midi",
    "audio/mp4": "m4a m4b",
    "audio/mpeg": "mp3 mp2",
    "audio/ogg": "ogg oga opus spx",
    "audio/wav": "wav",
    "audio/x-caf": "caf",
    "audio/x-matroska": "mka",
    "audio/x-ms-wma": "wma",
    "audio/x-wavpack": "wv",
    "image/apng": "apng",
    "image/avif": "avif",
    "image/bmp": "bmp dib",
    "image/gif": "gif",
    "image/heic": "heic",
    "image/heif": "heif hif",
    "image/icns": "icns",
    "image/jp2": "jp2 j2k jpf jpx",
    "image/jpeg": "jpg jpeg jpe jfif",
    "image/jxl": "jxl",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/tiff": "tiff tif",
    "image/vnd-ms.dds": "dds",
    "image/vnd.adobe.photoshop": "psd psb",
    "image/vnd.microsoft.icon": "ico",
    "image/vnd.radiance": "hdr",
    "image/webp": "webp",
    "image/x-exr": "exr",
    "image/x-portable-anymap": "pnm pam pbm pfm pgm ppm",
    "image/x-qoi": "qoi",
    "image/x-tga": "tga",
    "model/3mf": "3mf",
    "model/gltf+json": "gltf",
    "model/gltf-binary": "glb",
    "model/mtl": "mtl",
    "model/obj": "obj",
    "model/stl": "stl",
    "model/vnd.collada+xml": "dae",
    "model/vnd.usda": "usda",
    "model/vnd.usd": "usd usdc",
    "model/vnd.usdz+zip": "usdz",
    "model/x-fbx": "fbx",
    "model/x-ksplat": "ksplat",
    "model/x-ply": "ply",
    "model/x-splat": "splat",
    "model/x-spz": "spz",
    "text/css": "css",
    "text/csv": "csv",
    "text/html": "html htm",
    "text/markdown": "md",
    "text/plain": "txt log",
    "text/tab-separated-values": "tsv",
    "text/vtt": "vtt",
    "video/3gpp": "3gp",
    "video/3gpp2": "3g2",
    "video/mp2t": "ts m2ts mts",
    "video/mp4": "mp4",
    "video/mpeg": "mpg mpeg",
    "video/ogg": "ogv",
    "video/quicktime": "mov qt",
    "video/webm": "webm",
    "video/x-flv": "flv",
    "video/x-m4v": "m4v",
    "video/x-matroska": "mkv",
    "video/x-ms-asf": "wmv asf",
    "video/x-msvideo": "avi",
    UNKNOWN: "latent",
}
"""The extensions of each type, the usual one first."""

_USUAL = {
    **{media_type: f".{names.split()[0]}" for media_type, names in _EXTENSIONS.items() if names},
    "application/x-safetensors": ".safetensors",
    UNKNOWN: "",
}
"""A file of weights is named like any unknown one: what is in it only its reader can tell."""

_TYPES = {name: media_type for media_type, names in _EXTENSIONS.items() for name in names.split()}

_ALIASES = {
    "application/ogg": "audio/ogg",
    "application/sla": "model/stl",
    "application/x-gzip": "application/gzip",
    "application/x-zip-compressed": "application/zip",
    "application/xhtml+xml": "text/html",
    "audio/aacp": "audio/aac",
    "audio/m4a": "audio/mp4",
    "audio/mp3": "audio/mpeg",
    "audio/opus": "audio/ogg",
    "audio/vnd.wave": "audio/wav",
    "audio/vorbis": "audio/ogg",
    "audio/wave": "audio/wav",
    "audio/x-aac": "audio/aac",
    "audio/x-aiff": "audio/aiff",
    "audio/x-flac": "audio/flac",
    "audio/x-m4a": "audio/mp4",
    "audio/x-mp3": "audio/mpeg",
    "audio/x-mpeg": "audio/mpeg",
    "audio/x-pn-wav": "audio/wav",
    "audio/x-wav": "audio/wav",
    "image/heic-sequence": "image/heic",
    "image/heif-sequence": "image/heif",
    "image/jpg": "image/jpeg",
    "image/jpx": "image/jp2",
    "image/pjpeg": "image/jpeg",
    "image/vnd.ms-dds": "image/vnd-ms.dds",
    "image/x-bmp": "image/bmp",
    "image/x-icon": "image/vnd.microsoft.icon",
    "image/x-ms-bmp": "image/bmp",
    "image/x-png": "image/png",
    "image/x-portable-bitmap": "image/x-portable-anymap",
    "image/x-portable-graymap": "image/x-portable-anymap",
    "image/x-portable-pixmap": "image/x-portable-anymap",
    "image/x-psd": "image/vnd.adobe.photoshop",
    "image/x-targa": "image/x-tga",
    "image/x-tiff": "image/tiff",
    "model/vnd.ply": "model/x-ply",
    "model/x.stl-ascii": "model/stl",
    "model/x.stl-binary": "model/stl",
    "text/json": "application/json",
    "text/xml": "application/xml",
    "video/avi": "video/x-msvideo",
    "video/m4v": "video/x-m4v",
    "video/msvideo": "video/x-msvideo",
    "video/x-ms-wmv": "video/x-ms-asf",
}
"""What others call them."""

_TEXTS = {
    "application/json",
    "application/jsonl",
    "application/x-subrip",
    "application/xml",
    "application/yaml",
}


def type_of_name(filename: str) -> str | None:
    """Return the media type that a file's extension stands for, None if it stands for none."""
    _, _, name = filename.rpartition(".")
    return _TYPES.get(name.lower())


def extension(media_type: str) -> str:
    """Return the usual extension of a media type, with its dot; empty where there is none.

    Args:
        media_type: In any case, under any of its names, parameters and all.
    """
    plain = media_type.partition(";")[0].strip().lower()
    return _USUAL.get(_ALIASES.get(plain, plain), "")


def kind(media_type: str) -> str:
    """Return what a media type is to a person: image, video, audio, model, text, or file."""
    first, _, _ = media_type.partition("/")
    if first in ("image", "video", "audio", "model", "text"):
        return first
    return "text" if media_type in _TEXTS else "file"
