"""What failure codes mean: for the forwarder (what became of the instance) and for people (a sentence).

Codes are those of PS3.18 Table I.2-2 and PS3.4 Table B.2-1 as four hex digits, those that archives
add to them, HTTP statuses as "http-413", and words of our own.
"""

from sync.evidence import Outcome

# Something under this UID is there already; the answer does not say whether it is the same.
_EXISTS = frozenset({"0111", "B00E"})
_ASKED = frozenset({"one-of-several", "not-named", "contradiction", "not-dicomweb", "not-readable"})
# Another request has not ended, or the archive is deleting; storage is full or short (A7xx).
_LATER = frozenset({"0131", "0213", "A77A", "B00F"})
# dcm4chee uses these A7xx codes for what no waiting mends: identifiers that are missing or contradict.
_FOR_GOOD = frozenset({*(f"A77{digit}" for digit in "0123456789"), "A77B"})

# code → (who says it, what it means for people). Azure and Google write codes as decimal numbers.
_KNOWN: dict[str, tuple[str, str]] = {
    "0110": ("DICOM, Google, Azure (272)", "The PACS could not process this image."),
    "0111": ("DICOM, Google's detail", "The PACS already has an image with this identifier."),
    "0112": ("DICOM", "The PACS does not have this image."),
    "0117": ("DICOM", "The PACS says that this image is not valid."),
    "0119": ("DICOM", "The PACS has this image as another kind of image."),
    "0122": ("DICOM", "The PACS does not accept this kind of image."),
    "0124": ("DICOM", "The PACS does not allow this sender to store this image."),
    "0131": ("DICOM", "The PACS was asked for this before and has not answered yet."),
    "0213": ("DICOM", "The PACS is short of resources; it is tried again."),
    "A700": ("DICOM, Orthanc", "The PACS is full; it is tried again."),
    "A776": ("dcm4chee", "The PACS refuses the image because of what it has of this study or patient."),
    "A777": ("dcm4chee", "The PACS refuses the image because it has no patient ID."),
    "A778": ("dcm4chee", "The PACS has this study under another patient ID."),
    "A779": ("dcm4chee", "The PACS has other data for this patient."),
    "A77A": ("dcm4chee", "The PACS is just deleting this study; it is tried again."),
    "A77B": ("dcm4chee", "The image contradicts what the PACS has of this study."),
    "A900": ("DICOM, Azure (43264)", "The image does not agree with the kind of image that it says it is."),
    "A901": ("Azure (43265)", "The image belongs to another study."),
    "A922": ("dcm4chee", "The image does not agree with the kind of image that it says it is."),
    "B000": ("DICOM, AWS", "The PACS changed some values when it stored the image."),
    "B006": ("DICOM, AWS", "The PACS dropped some values when it stored the image."),
    "B007": ("DICOM, AWS, Azure (45063)", "Stored; the PACS says that it does not agree with its kind."),
    "B00E": ("Azure (45070)", "The PACS already has an image with this identifier."),
    "B00F": ("Azure (45071)", "The PACS is busy with this very image; it is tried again."),
    "B100": ("AWS", "The PACS stored the image as it is; it could not code it in its own way."),
    "B110": ("AWS", "The PACS stored the image, and could not read all of its frames."),
    "B111": ("AWS", "The PACS stored the image; it counts other frames than the image says it has."),
    "C000": ("DICOM, Orthanc", "The PACS could not understand the image."),
    "C122": ("DICOM", "The PACS does not accept the way in which this image is coded."),
    "C409": ("dcm4chee", "The image belongs to another study."),
    "C499": ("dcm4chee", "The PACS could not read the image."),
    "http-400": ("HTTP", "The PACS could not read what was sent."),
    "http-409": ("HTTP", "The PACS refuses this image and does not say why."),
    "http-411": ("HTTP", "The PACS could not read what was sent."),
    "http-413": ("HTTP, proxies", "The image is larger than the PACS takes."),
    "http-415": ("HTTP", "The PACS does not accept images in this form."),
    "http-422": ("HTTP", "The PACS refuses this image and does not say why."),
    "http-424": ("HTTP, Azure", "The PACS could not get on because of something else; it is tried again."),
    "http-500": ("HTTP", "The PACS failed with this image; it is tried again."),
    "no-reason": ("we", "The PACS refuses this image and does not say why."),
    "one-of-several": ("we", "The PACS refused some of the images and does not say which."),
    "not-named": ("we", "The PACS did not say what became of this image; it is asked again."),
    "contradiction": ("we", "The PACS named this image both as stored and as refused; it is asked again."),
    "not-dicomweb": ("we", "What answered was not a PACS, maybe a login page of the network."),
    "other-content": ("we", "The PACS has another image under the same identifier."),
    "no-file-header": ("we", "The image has no file header (PS3.10), which this way of sending needs."),
    "not-readable": ("we", "The PACS lists this image but does not give it back."),
}  # fmt: skip
_SENTENCES = {code: sentence for code, (_, sentence) in _KNOWN.items()}
_BY_CLASS = {
    "A77": "The PACS refuses the image by its own rules about rejected or contradicting images.",
    "A7": "The PACS is short of space; it is tried again.",
    "A9": "The image does not agree with the kind of image that it says it is.",
    "B": "The PACS stored the image with a remark.",
    "C": "The PACS could not understand the image.",
    "http-5": "The PACS failed; it is tried again.",
    "http-4": "The PACS refuses what was sent.",
}


def failure_outcome(code: str) -> Outcome:
    """Return what a Failure Reason (0008,1197) makes of an instance: four hex digits, or "no-reason"."""
    if code in _EXISTS:
        return Outcome.UNKNOWN
    if code in _LATER or (code.startswith("A7") and code not in _FOR_GOOD):
        return Outcome.RETRY
    return Outcome.REJECTED


def means_full(code: str) -> bool:
    """Say whether a reason is about the whole destination, which is full or short of resources."""
    return code in {"0213", "http-507"} or (
        code.startswith("A7") and failure_outcome(code) is Outcome.RETRY and code != "A77A"
    )


def explain(code: str) -> str:
    """Return a code as a sentence for people; "" for no code."""
    if not code or code in _SENTENCES:
        return _SENTENCES.get(code, "")
    for beginning, sentence in _BY_CLASS.items():
        if code.startswith(beginning):
            return sentence
    return "The PACS refuses this image for a reason that this version does not know."


def table() -> str:
    """Return the codes as the Markdown that docs/pacs.md shows."""
    rows = [
        f"| `{code}` | {_decimal(code)} | {who} | {sentence} | {_then(code)} |"
        for code, (who, sentence) in _KNOWN.items()
    ]
    return "\n".join(["| code | decimal | said by | what it means | then |", "|---|---|---|---|---|", *rows])


def _decimal(code: str) -> str:
    return str(int(code, 16)) if len(code) == 4 else ""


def _then(code: str) -> str:
    if code == "other-content":
        return "a person: `conflict`"
    if code in _ASKED:
        return "asked"
    if code.startswith("B") and code not in _EXISTS | _LATER:
        return "stored; the read-back decides"
    if code.startswith("http-"):
        return "later" if code in {"http-424", "http-500"} else "alone, then a person: `rejected`"
    outcome = failure_outcome(code)
    words = {Outcome.UNKNOWN: "asked: the same, or a conflict", Outcome.RETRY: "later"}
    return words.get(outcome, "a person: `rejected`")
