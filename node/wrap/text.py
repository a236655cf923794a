"""Text of any language laid out in lines: which font shows what, from which side, and where a line breaks.

Runs in the press's process. Fonts that are shipped cover the scripts in docs/architecture.md; what none of
them shows is written as its Unicode name in brackets, so nothing is left out silently. The bidirectional
algorithm (UAX 9) is fpdf2's, applied to whole paragraphs; each run that is drawn has one font and one side.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import groupby
from pathlib import Path

import uharfbuzz
from fpdf.bidi import BidiParagraph, auto_detect_base_direction
from fpdf.enums import TextDirection

FONTS = Path(__file__).parent / "fonts"
PLAIN = "NotoSans"
# The first that shows a character is taken. Kanji and hanzi before hanja, letters before symbols.
_ORDER = (
    PLAIN,
    *("NotoSansArabic", "NotoSansHebrew", "NotoSansEthiopic", "NotoSansDevanagari", "NotoSansBengali"),
    *("NotoSansGurmukhi", "NotoSansGujarati", "NotoSansTamil", "NotoSansTelugu", "NotoSansKannada"),
    *("NotoSansMalayalam", "NotoSansSinhala", "NotoSansOriya", "NotoSansThai", "NotoSansLao"),
    *("NotoSansKhmer", "NotoSansMyanmar", "NotoSansGeorgian", "NotoSansArmenian", "NotoSansTifinagh"),
    *("NotoSansNKo", "NotoSansThaana", "NotoSansAdlam", "DejaVuSans", "DroidSansFallbackFull", "NanumSquare"),
)
_JOINER = "\u200d"
_EMBEDDINGS = dict.fromkeys(map(ord, "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"))
_BREAKS = str.maketrans(dict.fromkeys("\r\x0b\x0c\x85\u2028\u2029", "\n"))
_LONGEST = 400  # clusters that are measured at once; no line holds more
_EDGE = 32  # neutral characters at each end of a long stretch that are looked at
_NEUTRALS = frozenset({"WS", "ON", "S", "B", "ES", "ET", "CS", "NSM"})
_IDEOGRAPHS = ((0x2E80, 0xA000), (0xF900, 0xFB00), (0xFF00, 0xFFF0), (0x20000, 0x40000))


@dataclass(frozen=True, slots=True)
class Run:
    """Characters of one font and one side, in the order in which they are read."""

    text: str
    font: str
    rtl: bool


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its runs from left to right; `rtl` if it begins at the right edge."""

    runs: tuple[Run, ...]
    rtl: bool


@dataclass(slots=True)
class _Cluster:
    """What must not be torn apart: a character with its marks. `level` is that of UAX 9."""

    text: str
    font: str
    level: int = 0


def lay_out(text: str, width: float, size: float) -> list[Line]:
    """Return a text as lines.

    Args:
        text: as a person wrote it; its line breaks stay.
        width: how wide a line may be, in the unit of `size`.
        size: of the letters (one em).
    """
    lines: list[Line] = []
    for paragraph in text.replace("\r\n", "\n").translate(_BREAKS).split("\n"):
        plain = unicodedata.normalize("NFC", paragraph.replace("\t", "    ")).translate(_EMBEDDINGS)
        clusters = list(_clusters(plain))
        rtl = auto_detect_base_direction(plain) is TextDirection.RTL
        _set_levels(clusters, rtl=rtl)
        lines += [_ordered(line, rtl=rtl) for line in _broken(clusters, width / size)]
    return lines


def width_of(run: Run) -> float:
    """Return how wide a run is, in em."""
    return _advance(run.font, run.text, run.rtl)


def shown(character: str) -> str:
    """Return how a character is written that no font shows."""
    return f"[{unicodedata.name(character, f'U+{ord(character):04X}')}]"


# -- fonts --------------------------------------------------------------------------------------


@cache
def _face(name: str) -> uharfbuzz.Face:
    return uharfbuzz.Face(uharfbuzz.Blob.from_file_path(str(FONTS / f"{name}.ttf")))


@cache
def _covered(name: str) -> frozenset[int]:
    return frozenset(_face(name).unicodes)


@cache
def _font(name: str) -> uharfbuzz.Font:
    return uharfbuzz.Font(_face(name))


@lru_cache(maxsize=4096)
def _advance(font: str, text: str, rtl: bool) -> float:
    buffer = uharfbuzz.Buffer()
    buffer.add_str(text)
    buffer.guess_segment_properties()
    buffer.direction = "rtl" if rtl else "ltr"
    uharfbuzz.shape(_font(font), buffer)
    total = sum(glyph.x_advance for glyph in buffer.glyph_positions)
    return float(total) / float(_face(font).upem)


# -- clusters -----------------------------------------------------------------------------------


def _clusters(text: str) -> Iterator[_Cluster]:
    """Yield the text in clusters, each with a font that shows it."""
    before = PLAIN
    for cluster in _graphemes(text):
        for part in _in_a_font(cluster, before):
            before = part.font
            yield part


def _graphemes(text: str) -> Iterator[str]:
    held = ""
    for character in text:
        marks = unicodedata.category(character) in ("Mn", "Mc", "Me") or _ignorable(character)
        if held and not marks and not held.endswith(_JOINER):
            yield held
            held = ""
        held += character
    if held:
        yield held


def _in_a_font(cluster: str, before: str) -> Iterator[_Cluster]:
    """Yield a cluster with its font; torn into characters, or named, if no font shows it whole."""
    visible = [character for character in cluster if not _ignorable(character)]
    font = _font_for(visible, before)
    if font is not None:
        yield _Cluster(cluster, font)
    elif len(visible) == 1:
        for character in shown(visible[0]):
            yield _Cluster(character, PLAIN)
    else:
        for character in visible:
            yield from _in_a_font(character, before)


def _font_for(visible: list[str], before: str) -> str | None:
    wanted = {ord(character) for character in visible}
    if any(unicodedata.category(character) == "Cc" for character in visible):
        return None
    if wanted <= _covered(before) and all(_goes_along(character) for character in visible):
        return before
    return next((font for font in _ORDER if wanted <= _covered(font)), None)


def _goes_along(character: str) -> bool:
    """Say whether a character looks right in the font of what stands before it: digits, signs, spaces."""
    return unicodedata.category(character)[0] in "NPSZC"


def _ignorable(character: str) -> bool:
    """Say whether a character has no shape of its own: joiners, marks of direction, variation selectors."""
    code = ord(character)
    return (
        unicodedata.category(character) == "Cf" or 0xFE00 <= code <= 0xFE0F or 0xE0100 <= code <= 0xE01EF
    ) and character != "\u00ad"


# -- sides --------------------------------------------------------------------------------------


def _set_levels(clusters: list[_Cluster], *, rtl: bool) -> None:
    """Give each cluster the embedding level of its first character that has one."""
    text = "".join(cluster.text for cluster in clusters)
    told = [character for character in text if unicodedata.bidirectional(character) != "BN"]
    base = TextDirection.RTL if rtl else TextDirection.LTR
    levels = iter(_levels("".join(told), base))
    level = int(rtl)
    for cluster in clusters:
        own = [next(levels) for one in cluster.text if unicodedata.bidirectional(one) != "BN"]
        level = own[0] if own else level
        cluster.level = level


def _levels(text: str, base: TextDirection) -> list[int]:
    if not text:
        return []
    kept, places = _shortened(text)
    characters = BidiParagraph(kept, base_direction=base).get_characters_with_embedding_level()
    return [characters[place].embedding_level for place in places]


def _shortened(text: str) -> tuple[str, list[int]]:
    """Return a text with long stretches of neutral characters cut, and for each character its place in it.

    fpdf2 looks for the letters around such a stretch by calling itself for each character of it: a thousand
    dashes or emoji are too many. All of a stretch have one side, so its middle is that of what is before.
    """
    kept: list[str] = []
    places: list[int] = []
    for neutral, characters in groupby(text, _is_neutral):
        stretch = list(characters)
        end = len(stretch) - _EDGE if neutral else 0
        for number, character in enumerate(stretch):
            if not _EDGE <= number < end:
                kept.append(character)
            places.append(len(kept) - 1)
    return "".join(kept), places


def _is_neutral(character: str) -> bool:
    return unicodedata.bidirectional(character) in _NEUTRALS


def _ordered(clusters: list[_Cluster], *, rtl: bool) -> Line:
    """Return one line's runs from left to right (UAX 9, L1 and L2)."""
    while clusters and clusters[-1].text.isspace():
        clusters = clusters[:-1]
    runs: list[tuple[int, Run]] = []
    for cluster in clusters:
        if runs and runs[-1][0] == cluster.level and runs[-1][1].font == cluster.font:
            last = runs.pop()[1]
            runs.append((cluster.level, Run(last.text + cluster.text, last.font, last.rtl)))
        else:
            runs.append((cluster.level, Run(cluster.text, cluster.font, bool(cluster.level % 2))))
    highest = max((level for level, _ in runs), default=0)
    for turned in range(highest, 0, -1):
        runs = _turned(runs, turned)
    return Line(tuple(run for _, run in runs), rtl)


def _turned(runs: list[tuple[int, Run]], level: int) -> list[tuple[int, Run]]:
    """Turn around each stretch of runs of at least a level."""
    result: list[tuple[int, Run]] = []
    stretch: list[tuple[int, Run]] = []
    for run in runs:
        if run[0] >= level:
            stretch.insert(0, run)
        else:
            result += [*stretch, run]
            stretch = []
    return result + stretch


# -- lines --------------------------------------------------------------------------------------


def _broken(clusters: list[_Cluster], width: float) -> Iterator[list[_Cluster]]:
    """Yield lines of clusters that fit; a word that fits no line is torn."""
    line: list[_Cluster] = []
    for whole in _words(clusters):
        word = whole
        if line and _width([*line, *word]) > width:
            yield line
            line = []
        while len(word) > _LONGEST or _width(word) > width:
            fitting = _fitting(word[:_LONGEST], width)
            yield word[:fitting]
            word = word[fitting:]
        line += word
    yield line


def _fitting(word: list[_Cluster], width: float) -> int:
    """Return how many clusters of a word fit a line, at least one."""
    low, high = 1, len(word)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if _width(word[:middle]) <= width else (low, middle - 1)
    return low


def _words(clusters: list[_Cluster]) -> Iterator[list[_Cluster]]:
    """Yield what stays together: words with the spaces after them, and single ideographs."""
    word: list[_Cluster] = []
    for cluster in clusters:
        space = cluster.text.isspace()
        ends = word and not space and (word[-1].text.isspace() or _ideograph(cluster) or _ideograph(word[-1]))
        closing = unicodedata.category(cluster.text[0]) in ("Pe", "Pf", "Po") and word
        if ends and not (closing and not word[-1].text.isspace()):
            yield word
            word = []
        word.append(cluster)
    if word:
        yield word


def _ideograph(cluster: _Cluster) -> bool:
    code = ord(cluster.text[0])
    return any(low <= code < high for low, high in _IDEOGRAPHS)


def _width(clusters: list[_Cluster]) -> float:
    """Return how wide clusters are, in em, without the spaces at their end."""
    return sum(width_of(run) for run in _ordered(list(clusters), rtl=False).runs)
