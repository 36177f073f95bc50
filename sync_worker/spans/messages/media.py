"""Images, sound, video and files: by address, by content or by the provider's file id."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sync_worker.spans.messages.conversation import Part
from sync_worker.spans.messages.parts import first_string, with_rest

#: Block type to modality; None where only the MIME type shows.
MODALITIES: dict[str, str | None] = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "image-url": "image",
    "audio": "audio",
    "audio_url": "audio",
    "input_audio": "audio",
    "audio-url": "audio",
    "video": "video",
    "video_url": "video",
    "video-url": "video",
    "document": "document",
    "document-url": "document",
    "document_url": "document",
    "file": None,
    "input_file": None,
    "media": None,
    "binary": None,
}
#: Fields that may hold the address or content one level further down.
_WRAPPERS = (
    *("source", "image_url", "audio_url", "video_url", "document_url", "input_audio", "image", "audio", "video"),
    *("document", "file"),
)
_MIME_KEYS = (
    *("mime_type", "mimeType", "media_type", "mediaType", "image_mimetype", "document_mimetype", "video_mimetype"),
)
_DATA_KEYS = (
    *(
        "data",
        "base64",
        "bytes",
        "file_data",
        "content",
        "image",
        "audio",
        "video",
        "base64_image",
        "base64_data",
        "base64Data",
    ),
)
_URL_KEYS = (
    *("url", "uri", "image_url", "audio_url", "video_url", "document_url", "file_url", "file_uri", "fileUri"),
    "data_uri",
)
_ID_KEYS = ("file_id", "fileId", "id")  # a plain "id" only where it can be nothing else
#: What a source's type states is plain from the part that it becomes.
_SOURCE_KINDS = ("base64", "url", "file", "id")
#: How Langfuse writes a payload that it moved to its media store.
_MEDIA_TOKEN = "@@@langfuseMedia:"  # noqa: S105
_ADDRESSES = ("http://", "https://", "data:", "gs://", "s3://", "file://", _MEDIA_TOKEN)
_MIME_LENGTH_LIMIT = 200  # characters before the comma of a data URI


def media_part(block: dict[str, Any], modality: str | None) -> Part | None:
    """Return the part for a media block, or None where neither address, content nor file id is found."""
    flat = _flattened(block)
    mime = first_string(flat, _MIME_KEYS)
    used = {"type"} if mime is None else {"type", mime[0]}
    mime_type = None if mime is None else mime[1]
    sound = flat.get("format")
    if mime is None and modality == "audio" and isinstance(sound, str) and sound:
        mime_type = "audio/" + sound
        used.add("format")
    found = first_string(flat, _DATA_KEYS) or first_string(flat, _URL_KEYS)
    if found is None:
        by_id = modality == "audio" or flat.get("source_type") == "id"
        found = first_string(flat, _ID_KEYS if by_id else _ID_KEYS[:-1])
    if found is None:
        return None
    key, place = found
    kind, target = "blob", "content"
    inline = _data_uri(place)
    if inline is not None:
        declared, place = inline
        if mime_type is None:
            mime_type = declared
        elif declared != mime_type:
            return None  # two MIME types: the block stays as it is
    elif key in _URL_KEYS or place.startswith(_ADDRESSES):
        kind, target = "uri", "uri"
    elif key in _ID_KEYS:
        kind, target = "file", "file_id"
    part: Part = {"type": kind, "modality": modality or _modality(mime_type)}
    if mime_type:
        part["mime_type"] = mime_type
    part[target] = place
    return with_rest(part, flat, used | {key})


#: MIME subtype of Bedrock's formats that are not their own subtype (AWS API reference, DocumentBlock, VideoBlock).
_SUBTYPES = {
    "txt": "text/plain",
    "md": "text/markdown",
    "csv": "text/csv",
    "html": "text/html",
    "pdf": "application/pdf",
    "doc": "application/msword",
    "xls": "application/vnd.ms-excel",
    "jpg": "image/jpeg",
    "mov": "video/quicktime",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "mkv": "video/x-matroska",
    "wmv": "video/x-ms-wmv",
    "flv": "video/x-flv",
    "three_gp": "video/3gpp",
}


def bedrock_media(kind: str) -> Callable[[dict[str, Any]], Part | None]:
    """Return the reader of Bedrock's {format, name, source: {bytes | s3Location: {uri}}} under a kind as its key.

    What has neither, such as a document whose source is text, keeps the kind as its type. Haystack's pictures and
    files stand under the same keys.
    """
    modality = MODALITIES[kind]

    def read(value: dict[str, Any]) -> Part | None:
        source, form = value.get("source"), value.get("format")
        if not isinstance(source, dict):
            part = media_part(value, modality)
            return part if part is not None else _as_type(kind, value)
        place = source.get("s3Location")
        target, content = ("content", source.get("bytes")) if place is None else ("uri", place)
        rest = {key: item for key, item in source.items() if key not in {"bytes", "s3Location"}}
        if isinstance(place, dict):
            content = place.get("uri")
            rest |= {key: item for key, item in place.items() if key != "uri"}
        if not isinstance(content, str):
            return _as_type(kind, value)
        part = {"type": "blob" if target == "content" else "uri", "modality": modality or "document"}
        used = {"source"}
        if isinstance(form, str) and form:
            part["mime_type"] = _SUBTYPES.get(form) or f"{kind if modality != 'document' else 'application'}/{form}"
            used.add("format")
        part[target] = content
        return with_rest(with_rest(part, value, used), rest, ())

    return read


def _as_type(kind: str, value: dict[str, Any]) -> Part:
    return {"type": kind, "content": value} if "type" in value else {"type": kind, **value}


def _flattened(block: dict[str, Any]) -> dict[str, Any]:
    """Lift the fields of a block's wrapper beside its own; of two that differ, the outer one gets a new name."""
    for wrapper in _WRAPPERS:
        inner = block.get(wrapper)
        if isinstance(inner, dict):
            lifted = {key: value for key, value in inner.items() if key != "type"}
            kind = inner.get("type")
            if kind not in _SOURCE_KINDS:
                with_rest(lifted, {"source_type": kind}, ())
            same = {key for key in lifted if key in block and block[key] == lifted[key]}
            return with_rest(lifted, block, {wrapper, "type", *same})
    return block


def _data_uri(place: str) -> tuple[str | None, str] | None:
    """Return MIME type and Base64 content of a data URI, or None for any other text."""
    if not place.startswith("data:"):
        return None
    comma = place.find(",", 0, _MIME_LENGTH_LIMIT)
    head = place[len("data:") : comma] if comma > 0 else ""
    if not head.endswith(";base64"):
        return None
    return head.removesuffix(";base64") or None, place[comma + 1 :]


def _modality(mime_type: str | None) -> str:
    family = (mime_type or "").partition("/")[0]
    return family if family in {"image", "audio", "video"} else "document"
