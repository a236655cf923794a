"""Why something of a submission is not sent: one table from stable codes to sentences for people.

Each sentence says what happened, whether the data are safe and what to do. The codes go to the API and
the app; the sentences never quote a file.
"""

REASONS: dict[str, str] = {
    # a whole upload that cannot be used
    "empty-file": "The file is empty. Nothing was lost here; look at its source and send it again.",
    "empty-archive": "The ZIP holds no files. Nothing was lost here; look at its source and send it again.",
    "zip-damaged": "The ZIP is damaged and cannot be read. Keep the original; make or copy the ZIP again.",
    "zip-encrypted": "The ZIP is locked with a password. Keep the original, and send it without a password.",
    "zip-climbs-out": "The ZIP names files outside of itself, as harmful archives do. It was not unpacked; "
    "keep the original and send the images in a new ZIP.",
    "zip-too-large": "The ZIP would unpack to more than 16 GiB or 20,000 files. Send it in several parts.",
    "zip-overlaps": "The ZIP stores files on top of each other, as harmful archives do. It was not unpacked; "
    "keep the original and send the images in a new ZIP.",
    "upload-damaged": "The node's copy of this upload is damaged. Keep the original and send it again.",
    "nothing-to-send": "No images were found. Check that the right files were chosen and send again.",
    # single files that are left out: nothing in them belongs to a study
    "not-dicom": "This is not a DICOM file, so it is left out. The images are not affected.",
    "program": "This is a program or its settings, such as a disc's viewer. It was not run and is left out. "
    "The images are not affected.",
    "thumbnail": "This is a preview or an icon, too small to show anything. It is left out; the images are "
    "not affected.",
    "system-file": "The computer made this file for itself. It is left out; the images are not affected.",
    "disc-extra": "This picture or PDF came with a disc, whose images are taken as they are. It is left out; "
    "if it belongs to the patient, send it by itself.",
    "same-file-twice": "The same file is here twice. It is sent once.",
    "other-picture": "Pictures of this kind (such as HEIC, TIFF, GIF or a video) are not taken. The original "
    "stays where it is; save it as JPEG or PNG and send that.",
    "other-document": "Documents of this kind are not taken. The original stays where it is; save it as PDF "
    "and send that.",
    "other-archive": "Archives of this kind (such as RAR, 7z or a disc image) are not opened. The original "
    "stays where it is; unpack it and send the folder, or a ZIP.",
    "dicomdir": "This is a disc's table of contents, not an image. It is used to check that all are there.",
    "zip-link": "This is a link to another file and was not followed. The images are not affected.",
    # single files that look like images and cannot be sent: their bytes stay until a person decides
    "truncated": "This file is cut off at its end. Its bytes are kept; copy it again from its source.",
    "no-uids": "This image lacks the numbers that say which study it belongs to. Its bytes are kept; "
    "export it again from the device that made it.",
    "no-meta-header": "This looks like a compressed image without the header that says how to read it. "
    "Its bytes are kept; export it again as a DICOM file.",
    "malformed": "This looks like a DICOM image, but its structure cannot be read. Its bytes are kept; "
    "export it again from the device that made it.",
    "too-complex": "Reading this file took too long or too much memory. Its bytes are kept; "
    "ask a technician to look at it.",
    "inflates-too-much": "This image unpacks to far more than is plausible, as harmful files do. Its bytes "
    "are kept; ask a technician to look at it.",
    "partly-kept": "Some of these studies are on their way. A picture or PDF cannot be made into a part of "
    "the others, so those were not sent; their bytes are kept here. Take this back, and hand those studies "
    "in again without it.",
    "picture-damaged": "This picture is damaged. Its bytes are kept; copy it again from its source.",
    "picture-too-large": "This picture has more than 134 million pixels, or more than 75 million and must be "
    "turned upright. Its bytes are kept; save it smaller and send that.",
    "picture-unusual": "This picture is coded in a way that is not read, such as 12 bits a colour. Its bytes "
    "are kept; save it as an ordinary JPEG or PNG and send that.",
    "pdf-unreadable": "This PDF cannot be drawn, for a hospital that takes no PDF. Its bytes are kept; "
    "print it to a new PDF, or send its pages as pictures.",
    "document-too-large": "This picture or PDF is larger than 256 MiB. Its bytes are kept; save it smaller "
    "and send that.",
    "same-uid-other-bytes": "Another image here carries the same number but other content. Both are kept; "
    "a person must say which one is right.",
    "zip-member-damaged": "This file of the ZIP is damaged. Its bytes are kept; make or copy the ZIP again.",
    "zip-in-zip": "This is a ZIP two levels deep inside others, and was not opened. Its bytes are "
    "kept; if it holds images, send it by itself.",
    "zip-method": "This file of the ZIP is packed in a way that is not read. Its bytes are kept; "
    "make the ZIP again with an ordinary tool.",
    "zip-ratio": "This file of the ZIP unpacks to far more than is plausible. Its bytes are kept; "
    "send the file without a ZIP.",
}

SKIPPED = frozenset(
    {
        *("not-dicom", "program", "thumbnail", "system-file", "disc-extra", "same-file-twice"),
        *("other-picture", "other-document", "other-archive", "dicomdir", "zip-link", "empty-archive"),
    }
)
"""Codes of files that are left out without a decision; the other ones of single files are quarantined."""

LOCKED = "The node is locked. The bytes are safe; they are looked at once someone unlocks the node."
NO_SUCH_PACS = "This node knows no PACS of that name. Nothing was sent; choose another, or the usual one."
NOT_YET = "The studies could not be put on their way yet. The bytes are safe; the node tries again by itself."
LEFT = (
    "The studies are on their way. Some files could not be read ({n}); their bytes are kept here, sealed, "
    "until an administrator decides about them."
)
