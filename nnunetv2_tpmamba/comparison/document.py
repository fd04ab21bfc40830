"""A document of headings, paragraphs, tables and pictures, written as Markdown and as one HTML file."""

import base64
import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

STYLE = """
:root { color-scheme: light dark; --text: #222; --page: #fff; --clear: #fff0; --line: #ddd; --shadow: #0003;
  --note: #fff6e6; }
@media (prefers-color-scheme: dark) {
  :root { --text: #ddd; --page: #1b1b1b; --clear: #1b1b1b00; --line: #444; --shadow: #fff4; --note: #33280f; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page); }
body { max-width: 1240px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; }
h1, h2, h3 { line-height: 1.2; overflow-wrap: anywhere; }
p, li, figcaption { overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
.table { background: linear-gradient(to left, var(--page) 50%, var(--clear)) right / 4rem 100% no-repeat local,
  linear-gradient(to left, var(--shadow), #0000) right / 1rem 100% no-repeat; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid var(--line); padding: 0.3rem 0.6rem; text-align: right; white-space: nowrap; }
.name, .words { text-align: left; white-space: normal; }
.name div { width: max-content; max-width: 13rem; overflow-wrap: anywhere; }
.words { min-width: 10rem; }
th { vertical-align: bottom; white-space: normal; }
figure { margin: 1rem 0; }
summary { cursor: pointer; }
details { margin: 1rem 0; }
img { max-width: 100%; height: auto; }
.notes { border-left: 4px solid #c80; background: var(--note); padding: 0.5rem 1rem; }
@media (max-width: 600px) { .name div { max-width: 9rem; } }
"""  # a table that is cut off on its right has a shadow there
DASH = "\N{EN DASH}"  # in a cell without a value
WORDS = 40  # characters from which a cell counts as a sentence, whose lines may be broken
SMALLEST = 0.7  # a picture on a narrow screen is shrunk to this part of its width at most, and scrolls from there on


@dataclass(frozen=True)
class Heading:
    """A title; level 1 is the document's own."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    text: str


@dataclass(frozen=True)
class Notes:
    """What a reader must not miss."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows of texts below a header; the first columns hold names."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    names: int = 1


@dataclass(frozen=True)
class Picture:
    """A PNG: a file called ``name`` beside the Markdown, and part of the HTML."""

    name: str
    caption: str
    data: bytes


@dataclass(frozen=True)
class Details:
    """Blocks that a reader opens by their title."""

    title: str
    blocks: "Sequence[Block]"


Block = Heading | Paragraph | Notes | Table | Picture | Details


def defined(value: float, form: str) -> str:
    """A formatted number, or a dash for NaN."""
    return DASH if math.isnan(value) else format(value, form)


def to_markdown(blocks: Sequence[Block]) -> str:
    """Write all blocks as Markdown; a picture is a link to its file."""
    return "\n\n".join(map(markdown_of, blocks)) + "\n"


def markdown_of(block: Block) -> str:
    """Write one block as Markdown."""
    match block:
        case Heading(text, level):
            return f"{'#' * level} {escaped(text)}"
        case Paragraph(text):
            return escaped(text)
        case Notes(items):
            return "\n".join(f"- **Note:** {escaped(item)}" for item in items)
        case Table(header, rows):
            cells = [list(map(escaped, row)) for row in rows]
            return tabulate(cells, list(map(escaped, header)), tablefmt="github", disable_numparse=True)
        case Picture(name, caption, _):
            return f"![{escaped(caption)}]({name})\n\n*{escaped(caption)}*"
        case Details(title, blocks):
            inner = "\n\n".join(map(markdown_of, blocks))
            return f"<details>\n<summary>{html.escape(title)}</summary>\n\n{inner}\n\n</details>"


def escaped(text: str) -> str:
    """Write a text on one line, with a backslash or an entity where Markdown would see HTML or the border of a cell."""
    return " ".join(text.split()).replace("\\", "\\\\").replace("<", "&lt;").replace("|", "\\|")


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """Write all blocks as one HTML page that needs no other file and also fits the screen of a telephone."""
    body = "\n".join(map(html_of, blocks))
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""


def html_of(block: Block) -> str:
    """Write one block as HTML."""
    match block:
        case Heading(text, level):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{html.escape(text)}</p>"
        case Notes(items):
            listed = "".join(f"<li>{html.escape(item)}</li>" for item in items)
            return f'<div class="notes"><strong>Before you believe these numbers</strong><ul>{listed}</ul></div>'
        case Table(header, rows, names):
            kinds = column_kinds(header, rows, names)
            head = "".join(map(cell_html, header, kinds, ["th"] * len(header)))
            lines = "".join(f"<tr>{''.join(map(cell_html, row, kinds))}</tr>" for row in rows)
            table = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
            return f'<div class="scroll table">{table}</div>'
        case Picture(_, caption, data):
            source = base64.b64encode(data).decode()
            text = html.escape(caption)
            width = f"min-width: {SMALLEST * png_width(data):.0f}px"
            image = f'<img alt="{text}" style="{width}" src="data:image/png;base64,{source}">'
            return f'<figure><div class="scroll">{image}</div><figcaption>{text}</figcaption></figure>'
        case Details(title, blocks):
            inner = "\n".join(map(html_of, blocks))
            return f"<details><summary>{html.escape(title)}</summary>\n{inner}\n</details>"


def column_kinds(header: Sequence[str], rows: Sequence[Sequence[str]], names: int) -> list[str]:
    """How the cells of each column are set: the first columns hold names, every other one numbers or words."""
    columns = [[row[index] for row in rows] for index in range(names, len(header))]
    return [
        *["name"] * names,
        *("words" if any(len(cell) >= WORDS for cell in column) else "number" for column in columns),
    ]


def cell_html(cell: str, kind: str, tag: str = "td") -> str:
    """Write one cell as HTML.

    Args:
        kind: one that :func:`column_kinds` gives.
        tag: ``th`` in the header.
    """
    text = html.escape(cell)
    if kind == "name":
        text = f"<div>{text.replace('_', '_<wbr>')}</div>"  # trainers' names break at their underscores
    return f'<{tag} class="{kind}">{text}</{tag}>'


def png_width(data: bytes) -> int:
    """The width of a PNG in pixels, which stands after the signature and the header's length and name."""
    return int.from_bytes(data[16:20], "big")
