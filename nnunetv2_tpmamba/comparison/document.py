"""A document of headings, paragraphs, tables and pictures, written as Markdown and as one HTML file."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; }
body { max-width: 1240px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; }
h1, h2, h3 { line-height: 1.2; overflow-wrap: anywhere; }
p, li, figcaption { overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { border-bottom: 1px solid #ddd; padding: 0.3rem 0.6rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
td.words { white-space: normal; min-width: 12rem; text-align: left; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; }
.notes { border-left: 4px solid #c80; background: #fff6e6; padding: 0.5rem 1rem; }
"""
WORDS = 40  # characters from which a cell is a sentence, which may be broken


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Notes:
    """What a reader must not miss."""

    items: Sequence[str]


@dataclass(frozen=True)
class Table:
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """A PNG, which lies beside the Markdown under ``name`` and within the HTML."""

    name: str
    caption: str
    data: bytes


Block = Heading | Paragraph | Notes | Table | Picture


def to_markdown(blocks: Sequence[Block]) -> str:
    return "\n\n".join(map(markdown_of, blocks)) + "\n"


def markdown_of(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Paragraph(text):
            return text
        case Notes(items):
            return "\n".join(f"- **Note:** {item}" for item in items)
        case Table(header, rows):
            lines = [header, ["---"] * len(header), *rows]
            return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in lines)
        case Picture(name, caption, _):
            return f"![{caption}]({name})\n\n*{caption}*"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """One file with everything in it, which opens offline and on a telephone."""
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
    match block:
        case Heading(text, level):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{html.escape(text)}</p>"
        case Notes(items):
            listed = "".join(f"<li>{html.escape(item)}</li>" for item in items)
            return f'<div class="notes"><strong>Before you believe these numbers</strong><ul>{listed}</ul></div>'
        case Table(header, rows):
            head = "".join(f"<th>{html.escape(cell)}</th>" for cell in header)
            lines = "".join(f"<tr>{''.join(map(cell_html, row))}</tr>" for row in rows)
            table = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
            return f'<div class="scroll">{table}</div>'
        case Picture(_, caption, data):
            source = base64.b64encode(data).decode()
            text = html.escape(caption)
            image = f'<img alt="{text}" src="data:image/png;base64,{source}">'
            return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def cell_html(cell: str) -> str:
    kind = ' class="words"' if len(cell) >= WORDS else ""
    return f"<td{kind}>{html.escape(cell)}</td>"
