"""A small SVG canvas with an axis of values: the few shapes that the plots need."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 760, 380
LEFT, RIGHT, TOP, BOTTOM = 78, 24, 64, 58
#: told apart also by colour-blind readers (Okabe and Ito, then Tol)
COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9",
    "#999999", "#f0e442", "#882255", "#44aa99", "#332288", "#ddcc77",
)  # fmt: skip
DARK = ("#0072b2", "#d55e00", "#882255", "#332288")  # of these; text on them is white
INK, PALE, PAPER = "#333333", "#dddddd", "#ffffff"
TICKS = 5
LEGEND_ROW = 16
LABEL = 12  # pixels between two labels
LETTER = 6.6  # pixels of a letter at the usual size, on average
FONT = "system-ui, sans-serif"


class Axis(NamedTuple):
    """Maps values from `low` to `high` onto pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    is_logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.is_logarithmic:
            low, high, at = math.log10(low), math.log10(high), math.log10(max(value, self.low))
        share = (at - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[float]:
        if self.is_logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            found = (digit * 10.0**decade for decade in decades for digit in (1, 2, 5))
            return [tick for tick in found if self.low <= tick <= self.high]
        step = _step(self.high - self.low)
        first = math.ceil(self.low / step)
        return [step * number for number in range(first, math.floor(self.high / step + 1e-9) + 1)]


def linear(values: Sequence[float], start: float, end: float) -> Axis:
    """Returns an axis from 0 to a little more than the largest value."""
    high = max([*values, 0.0]) or 1.0
    return Axis(0.0, high * 1.05, start, end)


def logarithmic(values: Sequence[float], start: float, end: float) -> Axis:
    """Returns an axis that has all positive values; it begins and ends at 1, 2 or 5 times a power of ten."""
    positive = [value for value in values if value > 0] or [1.0]
    low, high = _round_down(min(positive)), _round_up(max(positive))
    return Axis(low, high if high > low else low * 10, start, end, True)


def _step(extent: float) -> float:
    rough = extent / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= rough * 0.999)


def _round_down(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * digit for digit in (5, 2, 1) if power * digit <= value * 1.000001)


def _round_up(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= value * 0.999999)


def number_text(value: float) -> str:
    """Returns a number without needless digits: 1,500,000 is 1.5 M."""
    for size, letter in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= 10_000 and abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _legend(names: Sequence[str]) -> tuple[list[tuple[float, float]], int]:
    """Returns the place of each name, and the number of rows."""
    places, x, row = [], float(LEFT), 0
    for name in names:
        width = 34 + LETTER * len(name)
        if x + width > WIDTH and x > LEFT:
            x, row = float(LEFT), row + 1
        places.append((x, 32.0 + LEGEND_ROW * row))
        x += width
    return places, row + 1


class Canvas:
    def __init__(self, title: str, names: Sequence[str] = (), height: int = HEIGHT) -> None:
        """Draw the title, and below it the legend: the names with their colours. Many names make the canvas higher."""
        places, rows = _legend(names)
        self.width, self.height = WIDTH, height + LEGEND_ROW * max(0, rows - 2)
        #: where the plot begins and ends
        self.top, self.floor = TOP + self.height - height, self.height - BOTTOM
        self._title = title
        self._elements: list[str] = []
        self._labels: list[tuple[float, float]] = []
        self.text(self.width / 2, 22, title, size=15, anchor="middle", weight="bold")
        for (x, y), name, colour in zip(places, names, colours(len(names)), strict=True):
            self.rectangle(x, y, 11, 11, colour)
            self.text(x + 16, y + 10, name)

    def text(
        self,
        x: float,
        y: float,
        content: str,
        *,
        size: int = 12,
        anchor: str = "start",
        weight: str = "normal",
        turn: int = 0,
        colour: str = INK,
    ) -> None:
        turned = f' transform="rotate({turn} {x:g} {y:g})"' if turn else ""
        self._elements.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}"{turned} '
            f'fill="{colour}">{escape(content)}</text>'
        )

    def label(self, x: float, heights: Sequence[float], content: str) -> None:
        """Write a figure at the first of the heights where no other label of this x is, or not at all."""
        for y in heights:
            if all(x != at or abs(y - height) >= LABEL for at, height in self._labels):
                self._labels.append((x, y))
                self.text(x, y, content, anchor="middle", size=11)
                return

    def rectangle(self, x: float, y: float, width: float, height: float, colour: str) -> None:
        self._elements.append(
            f'<rect x="{x:g}" y="{y:g}" width="{max(width, 0):g}" height="{max(height, 0):g}" fill="{colour}"/>'
        )

    def line(self, points: Sequence[tuple[float, float]], colour: str = INK, width: float = 1) -> None:
        text = " ".join(f"{x:g},{y:g}" for x, y in points)
        self._elements.append(f'<polyline points="{text}" fill="none" stroke="{colour}" stroke-width="{width:g}"/>')

    def dot(self, x: float, y: float, colour: str) -> None:
        self._elements.append(f'<circle cx="{x:g}" cy="{y:g}" r="3.5" fill="{colour}"/>')

    def whisker(self, low: float, high: float, across: float, *, is_upright: bool = False) -> None:
        """Draw the range from the least to the most value, if there is one."""
        if abs(high - low) < 1:
            return
        lines = [[(low, across), (high, across)], *([(end, across - 4), (end, across + 4)] for end in (low, high))]
        for points in lines:
            self.line([(y, x) for x, y in points] if is_upright else points)

    def value_axis(self, axis: Axis, unit: str) -> None:
        """Draw the axis of values on the left, with a pale line across the plot at each tick."""
        for tick in axis.ticks():
            y = axis(tick)
            self.line([(LEFT, y), (self.width - RIGHT, y)], PALE)
            self.text(LEFT - 8, y + 4, number_text(tick), anchor="end")
        self.text(18, (self.top + self.floor) / 2, unit, anchor="middle", turn=-90)

    def base_axis(self, axis: Axis, label: str, left: float = LEFT) -> None:
        """Draw the axis at the bottom."""
        y = self.floor
        self.line([(left, y), (self.width - RIGHT, y)])
        for tick in axis.ticks():
            self.line([(axis(tick), y), (axis(tick), y + 4)])
            self.text(axis(tick), y + 18, number_text(tick), anchor="middle")
        self.text((left + self.width - RIGHT) / 2, self.height - 14, label, anchor="middle")

    def svg(self) -> str:
        return "\n".join(
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height}" role="img" '
                f'aria-label="{escape(self._title, {chr(34): "&quot;"})}" font-family="{FONT}" fill="{INK}">',
                f'<rect width="{self.width}" height="{self.height}" fill="{PAPER}"/>',
                *self._elements,
                "</svg>\n",
            )
        )


def colours(number: int) -> Iterator[str]:
    return (COLOURS[index % len(COLOURS)] for index in range(number))
