"""What failure codes mean: for the forwarder (what became of the instance) and for people (a sentence).

Codes are those of PS3.18 Table I.2-2 and PS3.4 Table B.2-1 as four hex digits, those that archives
add to them, HTTP statuses as "http-413", and words of our own.
"""

from sync.evidence import Outcome

# Something under this UID is there already; the answer does not say whether it is the same.
_EXISTS = frozenset({"0111", "B00E"})
# Another request has not ended, or the archive is deleting; storage is full or short (A7xx).
_LATER = frozenset({"0213", "A77A", "B00F"})
# dcm4chee uses these A7xx codes for what no waiting mends: identifiers that are missing or contradict.
_FOR_GOOD = frozenset({*(f"A77{digit}" for digit in "0123456789"), "A77B"})

_SENTENCES = {
    "0110": "The PACS could not process this image.",
    "0111": "The PACS already has an image with this identifier.",
    "0117": "The PACS says that this image is not valid.",
    "0122": "The PACS does not accept this kind of image.",
    "0124": "The PACS does not allow this sender to store this image.",
    "0213": "The PACS is short of resources; it is tried again.",
    "A700": "The PACS is full; it is tried again.",
    "A776": "The PACS refuses the image because the patient data contradict what it has.",
    "A777": "The PACS refuses the image because it has no patient ID.",
    "A778": "The PACS has this study under another patient ID.",
    "A779": "The PACS has other data for this patient.",
    "A77A": "The PACS is just deleting this study; it is tried again.",
    "A77B": "The image contradicts what the PACS has of this study.",
    "A900": "The image does not agree with the kind of image that it says it is.",
    "A901": "The image belongs to another study.",
    "B000": "The PACS changed some values when it stored the image.",
    "B006": "The PACS dropped some values when it stored the image.",
    "B007": "The PACS stored the image, and says that it does not agree with its kind.",
    "B00E": "The PACS already has an image with this identifier.",
    "B00F": "The PACS is busy with this very image; it is tried again.",
    "C122": "The PACS does not accept the way in which this image is coded.",
    "C409": "The image belongs to another study.",
    "C499": "The PACS could not read the image.",
    "http-400": "The PACS could not read what was sent.",
    "http-409": "The PACS refuses this image and does not say why.",
    "http-411": "The PACS could not read what was sent.",
    "http-413": "The image is larger than the PACS takes.",
    "http-415": "The PACS does not accept images in this form.",
    "http-500": "The PACS failed with this image; it is tried again.",
    "no-reason": "The PACS refuses this image and does not say why.",
    "one-of-several": "The PACS refused some of the images and does not say which.",
    "not-named": "The PACS did not say what became of this image; it is asked again.",
    "contradiction": "The PACS named this image both as stored and as refused; it is asked again.",
    "not-dicomweb": "What answered was not a PACS, maybe a login page of the network.",
    "other-content": "The PACS has another image under the same identifier.",
    "no-file-header": "The image has no file header (PS3.10), which this way of sending needs.",
    "not-readable": "The PACS lists this image but does not give it back.",
}  # fmt: skip
_BY_CLASS = {
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
