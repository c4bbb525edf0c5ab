"""Tables that fit: no amount, number, identifier or word is broken, whatever the width.

Where a table is too wide, prose wraps between its words; then columns that can be spared are left out and named below;
and when that is not enough, each row becomes a block of lines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

GAP = 2  # between columns: the space before each, and the divider of the box
INDENT = 1
PROSE_MIN = 24  # what is no longer than this is not wrapped
FIGURE_MAX = 40  # what is set to the right is not either, unless it is longer than any figure
RIGHT = ">"


@dataclass(slots=True)
class Column:
    """A heading, its cells and its footer."""

    heading: str
    right: bool
    cells: list[Text] = field(default_factory=list)
    footer: str = ""

    @property
    def side(self) -> Literal["left", "right"]:
        """To which side it is set."""
        return "right" if self.right else "left"

    @property
    def most(self) -> int:
        """The width at which nothing wraps."""
        return max([len(self.heading), len(self.footer), *map(_longest_line, self.cells)])

    @property
    def least(self) -> int:
        """The width below which something would break that must not."""
        whole = FIGURE_MAX if self.right else PROSE_MIN
        pieces = [_longest_piece(cell, whole) for cell in self.cells]
        return max([_longest_word(self.heading), len(self.footer), *pieces])


class FittingTable:
    """Rows under headings, laid out for the width that there is when they are shown."""

    def __init__(self, headings: Sequence[str], *, title: str = "", spare: Sequence[str] = ()) -> None:
        self.title = title
        self.columns = [Column(name.removeprefix(RIGHT), name.startswith(RIGHT)) for name in headings]
        self._spare = spare
        self._styles: list[str] = []

    def add_row(self, *cells: str | Text, style: str = "") -> None:
        """A row; plain strings are read as markup."""
        for column, cell in zip(self.columns, cells, strict=True):
            column.cells.append(Text.from_markup(cell) if isinstance(cell, str) else cell)
        self._styles.append(style)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(1, options.max_width)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        kept = list(self.columns)
        for name in self._spare:
            if _width([column.least for column in kept]) <= options.max_width:
                break
            kept = [column for column in kept if column.heading != name]
        widths = _fitted(kept, options.max_width)
        if widths is None:
            yield from self._blocks()
            return
        yield self._laid_out(kept, widths)
        left_out = [column.heading for column in self.columns if column not in kept]
        if left_out:
            yield Text(f"no room for: {', '.join(left_out)}; --json has them", style="dim")

    def _laid_out(self, kept: Sequence[Column], widths: Sequence[int]) -> Table:
        made = _plain_table(self.title, show_footer=any(column.footer for column in kept))
        for column, width in zip(kept, widths, strict=True):
            made.add_column(column.heading, column.footer, justify=column.side, width=width, overflow="fold")
        for number, style in enumerate(self._styles):
            made.add_row(*(column.cells[number] for column in kept), style=style)
        return made

    def _blocks(self) -> RenderResult:
        """A block of lines for each row. A value that is too long for its line is left to the terminal to wrap."""
        if self.title:
            yield Text(self.title, style="bold cyan")
        name_width = max(len(column.heading) for column in self.columns)
        for number, style in enumerate(self._styles):
            block = Table.grid(padding=(0, 0, 0, GAP))
            block.add_column(width=name_width, style="dim")
            block.add_column(overflow="fold")
            for column in self.columns:
                block.add_row(column.heading, column.cells[number], style=style)
            yield block
            if number + 1 < len(self._styles):
                yield Text("")
        for column in self.columns:
            if column.footer:
                yield Text(f"{column.heading}  {column.footer}")


def _plain_table(title: str, *, show_footer: bool) -> Table:
    return Table(
        box=box.SIMPLE_HEAD,
        title=title or None,
        title_justify="left",
        title_style="bold cyan",
        header_style="dim",
        show_edge=False,
        show_footer=show_footer,
        padding=(0, 0, 0, GAP - 1),
    )


def _fitted(columns: Sequence[Column], room: int) -> list[int] | None:
    """The width of each column: as wide as it wants, the widest narrowed first. None when they cannot fit."""
    widths = [column.most for column in columns]
    least = [column.least for column in columns]
    while _width(widths) > room:
        place = max(range(len(widths)), key=lambda at: (widths[at] > least[at], widths[at]))
        if widths[place] <= least[place]:
            return None
        widths[place] -= 1
    return widths


def _width(widths: Sequence[int]) -> int:
    return INDENT + sum(widths) + GAP * (len(widths) - 1)


def _longest_line(cell: Text) -> int:
    return max((line.cell_len for line in cell.split("\n", allow_blank=True)), default=0)


def _longest_piece(cell: Text, whole: int) -> int:
    """What of a cell must stay on one line: all of it when it is short, else its longest word."""
    return max(_longest_word(cell.plain), min(_longest_line(cell), whole))


def _longest_word(text: str) -> int:
    return max((Text(word).cell_len for word in text.split()), default=0)
