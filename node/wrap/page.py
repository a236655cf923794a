"""The clinical impression as a PDF: one quiet page, or as many as it takes. Runs in the press.

The same order gives the same bytes: no clock, no random identifier, fonts cut to what is shown.
"""

from datetime import UTC, datetime

from fpdf import FPDF

from node.wrap.document import IMPRESSION_TITLE
from node.wrap.order import Order
from node.wrap.text import FONTS, Line, lay_out, width_of

_MARGIN, _WIDTH, _BOTTOM = 20.0, 170.0, 277.0  # millimetres, on A4
_MM = 25.4 / 72  # of a point
_NOTE = (
    "Written by the clinician who handed in the images. "
    "This is not a radiology report, and nobody has verified it."
)
_SEX = {"M": "male", "F": "female", "O": "other"}

Row = tuple[Line, float]
"""A line and the size of its letters, in points."""


def impression_page(order: Order) -> bytes:
    """Return the impression of an order as a PDF."""
    rows = [
        *_rows(IMPRESSION_TITLE, 16),
        *_rows(_NOTE, 9),
        *_rows("", 6),
        *(row for told in _facts(order) for row in _rows(told, 10)),
        *_rows("", 8),
        *_rows(order.text, 11),
    ]
    pdf = FPDF(format="A4", unit="mm")
    pdf.set_creation_date(datetime(1970, 1, 1, tzinfo=UTC))
    pdf.set_producer("ClinicMesh")
    pdf.set_title(IMPRESSION_TITLE)
    pdf.set_auto_page_break(False)
    pdf.alias_nb_pages(None)  # type: ignore[arg-type]  # nothing in the text stands for a number of pages
    pdf.c_margin = 0
    fonts = {run.font for line, _ in rows for run in line.runs} | {"NotoSans"}
    for font in sorted(fonts):
        pdf.add_font(font, "", FONTS / f"{font}.ttf")
    pages = _pages(rows)
    for number, page in enumerate(pages, 1):
        pdf.add_page()
        y = _MARGIN
        for line, size in page:
            _draw(pdf, line, size, y)
            y += _height(size)
        foot = f"Study {order.context.study_uid}    page {number} of {len(pages)}"
        for line, size in _rows(foot, 8):
            _draw(pdf, line, size, _BOTTOM + 4)
    return bytes(pdf.output())


def _facts(order: Order) -> list[str]:
    study = order.context
    told = {
        "Patient": study.patient_name.replace("=", "  ").replace("^", " ").strip(),
        "Patient ID": study.patient_id,
        "Born": _day(study.birth_date),
        "Sex": _SEX.get(study.sex, study.sex),
        "Study": " ".join(filter(None, (_day(study.study_date), study.description))),
        "Written by": order.author,
        "Written": _moment(order.written),
    }
    return [f"{name}: {value or 'not told'}" for name, value in told.items()]


def _day(text: str) -> str:
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if len(text) == 8 and text.isdigit() else text


def _moment(text: str) -> str:
    """Return a moment (YYYYMMDDHHMM, UTC) as people read it."""
    return f"{_day(text[:8])} {text[8:10]}:{text[10:12]} UTC" if len(text) == 12 else text


def _rows(text: str, size: float) -> list[Row]:
    return [(line, size) for line in lay_out(text, _WIDTH, size * _MM)]


def _height(size: float) -> float:
    return size * _MM * 1.5


def _pages(rows: list[Row]) -> list[list[Row]]:
    pages: list[list[Row]] = [[]]
    y = _MARGIN
    for row in rows:
        if y + _height(row[1]) > _BOTTOM and pages[-1]:
            pages.append([])
            y = _MARGIN
        pages[-1].append(row)
        y += _height(row[1])
    return pages


def _draw(pdf: FPDF, line: Line, size: float, y: float) -> None:
    em = size * _MM
    widths = [width_of(run) * em for run in line.runs]
    x = _MARGIN + (_WIDTH - sum(widths) if line.rtl else 0)
    for run, width in zip(line.runs, widths, strict=True):
        pdf.set_font(run.font, size=size)
        pdf.set_text_shaping(True, direction="rtl" if run.rtl else "ltr")
        pdf.set_xy(x, y)
        pdf.cell(width, _height(size), run.text, align="L")
        x += width
