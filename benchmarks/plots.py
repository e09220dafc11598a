"""The plots of a result, as SVG. Bars and points are medians over the rounds; whiskers go from least to most."""

from collections.abc import Callable, Mapping, Sequence
from statistics import median

from benchmarks.results import Plot, Result, Spread, spread
from benchmarks.svg import (
    BOTTOM,
    COLOURS,
    DARK,
    INK,
    LEFT,
    LETTER,
    PAPER,
    RIGHT,
    TOP,
    WIDTH,
    Axis,
    Canvas,
    colours,
    linear,
    logarithmic,
    number_text,
)

EDGE = WIDTH - RIGHT
ROW = 40
ROWS_TOP = 40  # where a plot without legend begins
WIDE = 20.0  # sizes that differ by more get a logarithmic axis


def render(result: Result, plot: Plot) -> str | None:
    """Returns the plot as SVG, or None if the result has nothing for it."""
    return KINDS[plot.kind](result, plot)


def _bars(result: Result, plot: Plot) -> str | None:
    """A group of bars for each figure; one figure has a horizontal bar for each variant."""
    names = [variant.name for variant in result.variants]
    found = {(name, figure): spread(result, name, figure) for name in names for figure in plot.figures}
    values = [value for one in found.values() if one for value in one]
    if not values:
        return None
    if len(plot.figures) == 1:
        return _rows(plot, {name: one for (name, _), one in found.items() if one})
    canvas = Canvas(plot.title, names)
    axis = _values(plot, canvas, values)
    canvas.value_axis(axis, plot.unit)
    group = (EDGE - LEFT) / len(plot.figures)
    wide = min(70.0, group * 0.8 / len(names))
    for place, figure in enumerate(plot.figures):
        middle = LEFT + group * (place + 0.5)
        for index, (name, colour) in enumerate(zip(names, colours(len(names)), strict=True)):
            if one := found[name, figure]:
                _bar(canvas, axis, middle + wide * (index - len(names) / 2), wide, one, colour)
        canvas.text(middle, canvas.floor + 20, figure, anchor="middle")
    canvas.line([(LEFT, canvas.floor), (EDGE, canvas.floor)])
    return canvas.svg()


def _rows(plot: Plot, found: Mapping[str, Spread]) -> str:
    canvas = Canvas(plot.title, height=ROWS_TOP + ROW * len(found) + BOTTOM)
    left = 40 + LETTER * max(map(len, found))
    axis = _axis(plot, [value for one in found.values() for value in one], left, EDGE - 50)
    canvas.base_axis(axis, plot.unit, left)
    for row, (name, one) in enumerate(found.items()):
        y, end = ROWS_TOP + ROW * row + 6, axis(one.median)
        canvas.text(left - 8, y + 18, name, anchor="end")
        canvas.rectangle(left, y, end - left, ROW - 12, COLOURS[0] if row == 0 else COLOURS[6])
        canvas.whisker(axis(one.lowest), axis(one.highest), y + (ROW - 12) / 2)
        canvas.text(axis(one.highest) + 6, y + 18, number_text(one.median), size=11)
    return canvas.svg()


def _bar(canvas: Canvas, axis: Axis, x: float, wide: float, found: Spread, colour: str) -> None:
    top = axis(found.median)
    canvas.rectangle(x + 2, top, wide - 4, canvas.floor - top, colour)
    canvas.whisker(axis(found.lowest), axis(found.highest), x + wide / 2, is_upright=True)
    canvas.text(x + wide / 2, axis(found.highest) - 6, number_text(found.median), anchor="middle", size=11)


def _curve(result: Result, plot: Plot) -> str | None:
    """One line for each figure over the variants' sizes."""
    sized = sorted((v.size, v.name) for v in result.variants if v.size is not None)
    lines = {
        figure: [(size, one) for size, name in sized if (one := spread(result, name, figure)) is not None]
        for figure in plot.figures
    }
    lines = {figure: points for figure, points in lines.items() if points}
    if not lines:
        return None
    canvas = Canvas(plot.title, list(lines))
    values = _values(plot, canvas, [value for points in lines.values() for _, one in points for value in one])
    base = _base([size for points in lines.values() for size, _ in points])
    canvas.value_axis(values, plot.unit)
    canvas.base_axis(base, plot.over)
    for points, colour in zip(lines.values(), colours(len(lines)), strict=True):
        canvas.line([(base(size), values(one.median)) for size, one in points], colour, 2)
        for size, one in points:
            canvas.whisker(values(one.lowest), values(one.highest), base(size), is_upright=True)
            canvas.dot(base(size), values(one.median), colour)
    by_height = sorted((pair for points in lines.values() for pair in points), key=lambda pair: -pair[1].median)
    for size, one in by_height:
        canvas.label(base(size), (values(one.highest) - 8, values(one.lowest) + 16), number_text(one.median))
    return canvas.svg()


def _series(result: Result, plot: Plot) -> str | None:
    """One line for each variant, from its last run that has the series."""
    (name,) = plot.figures
    lines = {
        variant.name: runs[-1].series[name]
        for variant in result.variants
        if (runs := [run for run in result.runs_of(variant.name) if run.series.get(name)])
    }
    if not lines:
        return None
    canvas = Canvas(plot.title, list(lines))
    values = _values(plot, canvas, [y for points in lines.values() for _, y in points])
    base = linear([x for points in lines.values() for x, _ in points], LEFT, EDGE)
    canvas.value_axis(values, plot.unit)
    canvas.base_axis(base, plot.over)
    for points, colour in zip(lines.values(), colours(len(lines)), strict=True):
        canvas.line([(base(x), values(y)) for x, y in points], colour, 2)
    return canvas.svg()


def _stack(result: Result, plot: Plot) -> str | None:
    """A horizontal bar for each variant, made of figures that add up; without names, of the shares of CPU."""
    parts = {variant.name: _parts(result, plot, variant.name) for variant in result.variants}
    parts = {name: found for name, found in parts.items() if found}
    if not parts:
        return None
    names = list(dict.fromkeys(part for found in parts.values() for part in found))
    canvas = Canvas(plot.title, names, TOP + ROW * len(parts) + BOTTOM)
    left = 40 + LETTER * max(map(len, parts))
    base = linear([sum(found.values()) for found in parts.values()], left, EDGE)
    canvas.base_axis(base, plot.unit, left)
    palette = dict(zip(names, colours(len(names)), strict=True))
    for row, (variant, found) in enumerate(parts.items()):
        y, sum_so_far = canvas.top + ROW * row + 6, 0.0
        canvas.text(left - 8, y + 18, variant, anchor="end")
        for part, value in found.items():
            x, end = base(sum_so_far), base(sum_so_far + value)
            canvas.rectangle(x, y, end - x, ROW - 12, palette[part])
            ink = PAPER if palette[part] in DARK else INK
            if end - x > 34:
                canvas.text((x + end) / 2, y + 18, number_text(value), anchor="middle", size=11, colour=ink)
            sum_so_far += value
    return canvas.svg()


def _parts(result: Result, plot: Plot, variant: str) -> Mapping[str, float]:
    if plot.figures:
        return {name: one.median for name in plot.figures if (one := spread(result, variant, name))}
    runs = [run for run in result.runs_of(variant) if run.shares]
    return {name: median(run.shares.get(name, 0.0) for run in runs) for name in (runs[0].shares if runs else ())}


def _values(plot: Plot, canvas: Canvas, values: Sequence[float]) -> Axis:
    return _axis(plot, values, canvas.floor, canvas.top)


def _axis(plot: Plot, values: Sequence[float], start: float, end: float) -> Axis:
    return (logarithmic if plot.is_logarithmic else linear)(values, start, end)


def _base(sizes: Sequence[float]) -> Axis:
    wide = min(sizes) > 0 and max(sizes) / min(sizes) > WIDE
    return (logarithmic if wide else linear)(sizes, LEFT + 12, EDGE - 12)


KINDS: Mapping[str, Callable[[Result, Plot], str | None]] = {
    "bars": _bars,
    "curve": _curve,
    "series": _series,
    "stack": _stack,
}
