"""The answer to a store request (PS3.18 §10.5.3), as archives really send it.

JSON (PS3.18 Annex F), XML (PS3.19 Annex A), an empty body, text, a proxy's HTML page: what cannot be read
names nobody. Called by `node.deliver.stow`. Nothing of the text of an answer is kept but UIDs and codes.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

_REFERENCED_SOP = "00081199"
_FAILED_SOP = "00081198"
_OTHER_FAILURES = "0008119A"
_INSTANCE_UID = "00081155"
_FAILURE_REASON = "00081197"
_WARNING_REASON = "00081196"
# Google's private block: (0009,0097) says in words what its Failure Reason 0110 does not.
_FAILURE_DETAIL = "00090097"
_ALREADY_THERE = ("already exist", "alreadyexist", "already_exist")
_XML_NAMESPACE = "{http://dicom.nema.org/PS3.19/models/NativeDICOM}"


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """What an answer names. Codes are four hex digits; "no-reason" where a failure gives none.

    Attributes:
        stored: SOP Instance UID → Warning Reason, "" without one.
        failed: SOP Instance UID → Failure Reason.
        others: failures of instances that the PACS could not name.
        readable: it was empty, JSON or a native DICOM model, so it came from a PACS.
    """

    stored: Mapping[str, str] = field(default_factory=dict, repr=False)
    failed: Mapping[str, str] = field(default_factory=dict, repr=False)
    others: tuple[str, ...] = ()
    readable: bool = False


def read_answer(body: bytes) -> StoreAnswer:
    """Return what the body of an answer names, whatever its media type says it is."""
    text = body.lstrip(b"\xef\xbb\xbf \t\r\n")
    data_set: Mapping[str, Any] | None = None if text else {}
    if text.startswith((b"{", b"[")):
        data_set = _from_json(text)
    elif text.startswith(b"<"):
        data_set = _from_xml(text)
    if data_set is None:
        return StoreAnswer()
    stored, failed, others = {}, {}, []
    for item in _items(data_set, _REFERENCED_SOP):
        if uid := _uid(item):
            stored[uid] = _code(item, _WARNING_REASON)
    for item in _items(data_set, _FAILED_SOP):
        if uid := _uid(item):
            failed[uid] = _reason(item)
    for item in _items(data_set, _OTHER_FAILURES):
        code = _reason(item)
        if uid := _uid(item):
            failed[uid] = code
        else:
            others.append(code)
    return StoreAnswer(stored, failed, tuple(others), readable=True)


def _from_json(text: bytes) -> Mapping[str, Any] | None:
    with contextlib.suppress(ValueError, RecursionError):
        value = json.loads(text)
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, dict):
            return {str(tag).upper(): element for tag, element in value.items()}
        return {} if value == [] else None
    return None


def _from_xml(text: bytes) -> Mapping[str, Any] | None:
    """Return a native DICOM model as the JSON model would say it."""
    # No answer of a PACS needs a document type; without one there are no entities to expand. A zero octet
    # is UTF-16, in which a document type would be overlooked here and found by the parser.
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text or b"\0" in text:
        return None
    with contextlib.suppress(ElementTree.ParseError, ValueError, LookupError, RecursionError):
        root = ElementTree.fromstring(text)  # noqa: S314  (no entities, see above)
        return _model(root) if root.tag.removeprefix(_XML_NAMESPACE) == "NativeDicomModel" else None
    return None


def _model(node: ElementTree.Element) -> dict[str, Any]:
    elements: dict[str, Any] = {}
    for attribute in node:
        if attribute.tag.removeprefix(_XML_NAMESPACE) != "DicomAttribute":
            continue
        values: list[Any] = []
        for child in attribute:
            kind = child.tag.removeprefix(_XML_NAMESPACE)
            if kind == "Item":
                values.append(_model(child))
            elif kind == "Value" and child.text:
                values.append(child.text)
        elements[attribute.get("tag", "").upper()] = {"Value": values}
    return elements


def _items(data_set: Mapping[str, Any], tag: str) -> Iterator[Mapping[str, Any]]:
    for item in _values(data_set, tag):
        if isinstance(item, dict):
            yield {str(name).upper(): element for name, element in item.items()}


def _values(data_set: Mapping[str, Any], tag: str) -> list[Any]:
    element = data_set.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values if isinstance(values, list) else []


def _uid(item: Mapping[str, Any]) -> str:
    values = _values(item, _INSTANCE_UID)
    return str(values[0]).strip(" \0\n\r\t") if values and values[0] is not None else ""


def _reason(item: Mapping[str, Any]) -> str:
    """Return why an instance failed; of a detail in words only whether something is there already."""
    detail = " ".join(str(value) for value in _values(item, _FAILURE_DETAIL)).lower()
    if any(words in detail for words in _ALREADY_THERE):
        return "0111"
    return _code(item, _FAILURE_REASON) or "no-reason"


def _code(item: Mapping[str, Any], tag: str) -> str:
    """Return a reason as four hex digits; archives write it as a number or as its decimal text."""
    for value in _values(item, tag)[:1]:
        with contextlib.suppress(TypeError, ValueError):
            return f"{int(value) & 0xFFFF:04X}"
    return ""
