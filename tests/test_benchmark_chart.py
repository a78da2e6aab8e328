"""A run of the benchmarks as a table and as a picture, without measuring anything."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

from benchmarks import chart, report
from benchmarks.rows import BUDGETS, Row, compared
from benchmarks.run import parse
from benchmarks.spread import Spread

SVG = "{http://www.w3.org/2000/svg}"
ROUNDS = Spread.of([3.0, 1.0, 2.0])
HALF = Spread.of([1.5, 0.5, 1.0])
TENTH = Spread.of([0.3, 0.1, 0.2])

ROWS = [
    Row("idle.time", "alone", "ms", ROUNDS),
    compared("smallest.1.rate", 'less < more & "quoted"', "1/s", ROUNDS, HALF),
    compared("smallest.1.above", "beside another", "ms", ROUNDS, HALF, "said", TENTH),
    Row("nothing.grew", "all of it nothing", "MiB", Spread.of([0.0, 0.0, 0.0])),
    Row("prepared.more", "less than nothing", "ms more", Spread.of([-1.0, 1.0, 0.5])),
]
MARKS = (3 + 6 + 9 + 3 + 3) + (3 + 6)
"""Of the rounds of all sides, and of all ratios."""


def drawn(rows: list[Row]) -> ET.Element:
    return ET.fromstring(chart.svg(rows, "5 rounds & <more>"))


def groups(picture: ET.Element) -> list[ET.Element]:
    return picture.findall(f"{SVG}g")


def marks(element: ET.Element) -> list[ET.Element]:
    return [each for each in element.iter() if "round" in each.get("class", "").split()]


def text(element: ET.Element) -> str:
    return " ".join("".join(each.itertext()) for each in element.iter(f"{SVG}text"))


def test_the_picture_has_each_row_with_each_round() -> None:
    found = groups(drawn(ROWS))

    assert len(found) == len(ROWS)
    assert sum(len(marks(group)) for group in found) == MARKS
    for row, group in zip(ROWS, found, strict=True):
        assert row.label in text(group)
        assert "2 (1-3)" in text(group) or row.ours is not ROUNDS


def test_the_picture_says_what_is_measured_and_escapes_it() -> None:
    assert "5 rounds & <more>" in text(drawn(ROWS))


def test_all_marks_lie_inside_the_picture() -> None:
    picture = drawn(ROWS)
    _, _, width, height = map(float, picture.attrib["viewBox"].split())

    for mark in picture.iter(f"{SVG}circle"):
        assert 0 < float(mark.attrib["cx"]) < width
        assert 0 < float(mark.attrib["cy"]) < height


def test_twice_and_half_lie_equally_far_from_one() -> None:
    scale = chart.Scale(100, 200, 0.25, 4, is_log=True)

    assert math.isclose(scale.at(2) - scale.at(1), scale.at(1) - scale.at(0.5))
    assert scale.at(1) == 200
    assert scale.at(0.0) == 100  # no logarithm: on the edge


def test_a_budget_is_drawn_on_the_panel_that_it_judges() -> None:
    def budgets(group: ET.Element) -> list[float]:
        lines = (each for each in group.iter() if each.get("class") == "budget")
        return [float(line.attrib["d"][1:].split()[0]) for line in lines]

    found = [budgets(group) for group in groups(drawn(ROWS))]

    assert [len(each) for each in found] == [0, 1, 1, 0, 0]
    assert found[1][0] > chart.RATIO_X > found[2][0] > chart.FIGURES_X


def test_a_missed_budget_is_written_out() -> None:
    told = [text(group) for group in groups(drawn(ROWS))]

    assert ["missed" in each for each in told] == [False, True, True, False, False]


def test_the_picture_is_readable_on_dark_and_on_light_background() -> None:
    style = drawn(ROWS).findtext(f"{SVG}style") or ""

    assert "prefers-color-scheme: dark" in style
    assert style.count("--text:") == style.count("--back:") == 2


def test_columns_that_no_row_fills_are_left_out() -> None:
    head, *lines = report.markdown(ROWS[:1]).splitlines()

    assert head == "|  | ours |"
    assert lines == ["|---|---|", "| alone | 2 (1-3) ms |"]


def test_the_other_server_has_columns_of_its_own() -> None:
    head, _, *lines = report.markdown(ROWS).splitlines()

    names = [name.strip() for name in head.split("|")]
    said = [cell.strip() for cell in lines[2].split("|")]
    assert said[names.index("beside")] == "0.2 (0.1-0.3) ms"
    assert said[names.index("ours : beside")] == "10"
    assert {line.count("|") for line in lines} == {head.count("|")}


def test_every_budget_is_for_a_row_that_is_measured() -> None:
    assert {key.partition(".")[0] for key in BUDGETS} <= set(parse([]).only)
