import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from xml.etree import ElementTree

import pytest
from adversarial_example import adversarial_cases
from bs4 import BeautifulSoup
from dropout_example import dropout_cases
from markdown_it import MarkdownIt
from report_example import example_result, with_alternatives
from results import changed

from repairkit.experiments import results as kinds
from repairkit.experiments.fairness import report as fairness_report
from repairkit.experiments.fairness.report import Agreement, CurvePoint, FairnessResult, Overlap
from repairkit.report import formatting, html, markdown, tables
from repairkit.result import Claim, Difference, Guaranteed, Histogram, Result

COMMITTED = Path(__file__).parents[2] / "reports"
SVG = "{http://www.w3.org/2000/svg}"
ORDER = {
    "fairness": [
        "Verdict", "Before and after", "Regressions", "Alternatives", "Paired differences", "Disparities between groups", "Filters changed",
        "Method and cost", "Figures", "Limits", "Glossary", "Reproduce",
    ],
    "adversarial": [
        "Verdict", "Threat models", "Regressions", "Alternatives", "Paired differences", "How many filters to freeze", "How large a change it takes",
        "Filters changed", "Method and cost", "Figures", "Limits", "Glossary", "Reproduce",
    ],
    "dropout": [
        "Verdict", "Accuracy of both networks", "Regressions", "Paired differences", "Ablation curves", "Highest and lowest values",
        "Comparison with other filter rankings", "Method and cost", "Figures", "Limits", "Glossary", "Reproduce",
    ],
}  # fmt: skip
HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "a|b||c",
    "two\nlines\r\n\r\nand # more",
    "`tick``s` and ```",
    "back\\slash \\| pipe",
    "*star* _under_ [link](http://example.invalid) ![x](http://example.invalid/x.png)",
    "1. list",
    "&amp; &lt;",
    "{{ 7 * 7 }} {% raw %}",
    "]]> --> </title></svg></style>",
    "שלום ünïcödé 顔 🙂",
    "x" * 400,
]


def soup_of(text: str) -> BeautifulSoup:
    return BeautifulSoup(text, "html.parser")


def markdown_soup(result: Result) -> BeautifulSoup:
    text = markdown.render(kinds.document(result))
    return soup_of(MarkdownIt("commonmark").enable("table").render(text))


@cache
def usual() -> tuple[BeautifulSoup, BeautifulSoup]:
    """Both views of the example as it is."""
    return soup_of(html.render(kinds.document(example_result()))), markdown_soup(example_result())


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)  # noqa: S314  (our own drawing)


def squeezed(text: str) -> str:
    return "".join(text.split())


def renamed(result: FairnessResult, name: str) -> FairnessResult:
    """The result with one string in every place that comes from the user."""
    text = result.model_dump_json()
    data = FairnessResult.model_validate_json(text).model_dump()
    data["title"] = data["model"] = data["extra"]["target"] = data["objective"] = name
    data["notices"], data["limits"], data["method"] = [name], [name], [name]
    data["verdict"] |= {"headline": name, "sentences": [name], "worse": [name]}
    data["columns"][1] |= {"label": name, "explanation": name}
    data["groups"] = [name if group == "darker women" else group for group in data["groups"]]
    for entry in data["shares"] + data["differences"]:
        entry["group"] = name if entry["group"] == "darker women" else entry["group"]
    for entry in data["frozen"]:
        entry["layer"] = name
    data["extra"]["disparities"][0]["lowest_group"] = data["costs"][0]["part"] = data["histograms"][0]["title"] = name
    data["extra"]["curves"][0]["series"] = name
    data["reproduction"] |= {"command": name, "settings": {name: name}}
    return FairnessResult.model_validate(data)


def edge_cases() -> dict[str, FairnessResult]:
    full = example_result()
    keep = {"original", "repaired", "threshold"}
    no_dropout = changed(
        full,
        {
            "columns": [c for c in full.columns if c.key in keep],
            "shares": [s for s in full.shares if s.column in keep],
            "differences": [d for d in full.differences if {d.first, d.second} <= keep],
            "disparities": [d for d in full.extra.disparities if d.column in keep],
            "frozen": [f for f in full.frozen if f.column in keep],
        },
    )
    verdict = full.verdict.model_copy(
        update={"outcome": "no repair", "headline": "No filter was worth freezing.", "sentences": [], "worse": []}
    )
    alone = {"original"}
    none = changed(full, {
            "verdict": verdict, "frozen": [], "curves": [], "histograms": [], "differences": [], "disparities": [], "costs": [],
            "limits": [], "method": [], "notices": [], "columns": full.columns[:1], "shares": [s for s in full.shares if s.column in alone],
        }
    )  # fmt: skip
    bare = changed(none, {"columns": [], "shares": [], "groups": []})
    groups = [f"{group} of a place with a name that goes on and on, number {i}" for i in range(3) for group in full.groups]
    many = changed(
        full,
        {
            "groups": groups,
            "shares": [s.model_copy(update={"group": g}) for g in groups for s in full.shares if s.group == "darker men"]
            + [s for s in full.shares if not s.group],
        },
    )
    flat = changed(
        full,
        {
            "curves": [CurvePoint(series="repaired", filters=0, mean_recall=0.8, source_accuracy=0.9)],
            "histograms": [
                Histogram(title="no filter", edges=[], counts=[], culprits=[]),
                Histogram(title="zeros", edges=[0.0, 1.0], counts=[0], culprits=[]),
                Histogram(title="one point", edges=[0.0, 0.0], counts=[3], culprits=[0.0]),
            ],
        },
    )
    perfect = changed(
        full,
        {
            "shares": [s.model_copy(update={"value": 1.0, "low": 1.0, "high": 1.0}) for s in full.shares],
            "curves": [c.model_copy(update={"mean_recall": 1.0, "source_accuracy": 1.0}) for c in full.extra.curves],
        },
    )
    halves = [
        Agreement(
            column=column, by=by, end=end, rank_correlation=None if by == "screen" else -0.07,
            overlaps=[Overlap(k=k, share=0.61, low=0.5, high=0.7, chance=k / 2976) for k in sizes],
        )
        for column in ("repaired", "dropout_repaired")
        for by, end, sizes in (("value", "low", (25, 50)), ("screen", "low", (25, 50, 200)), ("screen", "high", (25, 50, 200)))
    ]  # fmt: skip
    cases = {"full": full, "one fold": changed(full, {"folds": 1}), "no dropout": no_dropout, "no repair": none}
    cases |= {
        "stability": changed(full, {"stability": halves}),
        "only stability": changed(none, {"stability": halves[:1]}),
    }
    cases["alternatives"] = with_alternatives()
    return cases | {"bare": bare, "many groups": many, "flat": flat, "perfect": perfect}


CASES = edge_cases() | adversarial_cases() | dropout_cases()


@pytest.fixture(params=list(CASES))
def case(request):
    return CASES[request.param]


def test_page_is_one_static_file_that_asks_for_nothing(case):
    text = html.render(kinds.document(case))
    page = soup_of(text)
    assert text.startswith("<!DOCTYPE html>")
    assert len(text.encode()) < 1_000_000
    assert page.html["lang"] == "en"
    assert not page.find_all(["script", "iframe", "object", "embed", "base", "img", "form"])
    for element in page.find_all(True):
        for name, value in element.attrs.items():
            assert not name.startswith("on")
            if name in {"href", "src", "srcset", "action", "xlink:href"}:
                assert value.startswith(("#", "data:,"))
    style = "".join(sheet.string for sheet in page.find_all("style"))
    assert "url(" not in style
    assert "@import" not in style
    assert page.find("meta", attrs={"http-equiv": "Content-Security-Policy"})["content"].startswith("default-src 'none'")


def test_page_is_accessible(case):
    page = soup_of(html.render(kinds.document(case)))
    identifiers = [element["id"] for element in page.find_all(id=True)]
    assert len(identifiers) == len(set(identifiers))
    for link in page.select("a[href^='#']"):
        assert link["href"][1:] in identifiers
    for table in page.find_all("table"):
        assert table.caption.get_text(strip=True)
        assert all(head["scope"] == "col" for head in table.select("thead th"))
        assert all(row.find("th")["scope"] == "row" for row in table.select("tbody tr"))
        widths = {len(row.find_all(["th", "td"])) for row in table.find_all("tr")}
        assert len(widths) == 1
        region = table.parent
        assert (region["role"], region["tabindex"]) == ("region", "0")
        assert page.find(id=region["aria-labelledby"]).get_text(strip=True)
    for image in page.find_all("svg"):
        assert image["role"] == "img"
        assert len(image["aria-label"]) > 40
    assert page.find("header")
    assert page.find("nav")["aria-label"]
    assert page.find("main")["id"] == page.select_one("a.skip")["href"][1:]
    assert [len(page.find_all(name)) for name in ("h1", "main", "title")] == [1, 1, 1 + len(page.select("svg title"))]


def test_both_views_have_the_same_sections_in_the_agreed_order(case):
    for view in (soup_of(html.render(kinds.document(case))), markdown_soup(case)):
        assert [heading.get_text(strip=True) for heading in view.find_all("h2")] == [
            title
            for title in ORDER[case.kind]
            if (case.alternatives or title != "Alternatives") and (case.compared or title != "Comparison with other filter rankings")
        ]


def test_both_views_show_the_same_tables_cell_by_cell(case):
    def cells(table):
        return [[squeezed(re.sub(r"[()]", "", cell.get_text())) for cell in row.find_all(["th", "td"])] for row in table.find_all("tr")]

    pages = [cells(table) for table in soup_of(html.render(kinds.document(case))).find_all("table")]
    captioned = [table for table in markdown_soup(case).find_all("table") if table.find_previous_sibling().find("strong", recursive=False)]
    captioned = [cells(table) for table in captioned if table.th.get_text() not in {"Metric", "Run"}]
    assert captioned == pages
    assert len(pages) >= (1 if case.shares else 0)


def test_every_number_of_the_markdown_tables_is_in_the_page(case):
    page = soup_of(html.render(kinds.document(case))).get_text(" ")
    shown = set(re.findall(r"[−+]?\d[\d,.]*%?", page))
    for row in re.findall(r"^\|.*$", markdown.render(kinds.document(case)), re.MULTILINE):
        for number in re.findall(r"[−+]?\d[\d,.]*%?", re.sub(r"`[^`]*`", "", row)):
            assert number in shown or number.rstrip(".,") in page


@pytest.mark.parametrize("name", HOSTILE)
def test_no_string_of_a_result_escapes_into_markup(name, tmp_path):
    result = renamed(example_result(), name)
    page = soup_of(html.render(kinds.document(result)))
    plain, usual_view = usual()
    assert [element.name for element in page.find_all(True)].count("script") == 0
    assert {element.name for element in page.find_all(True)} == {element.name for element in plain.find_all(True)}
    assert page.h1.get_text() == name
    assert squeezed(name) in squeezed(page.find(id="figure-recall").svg["aria-label"])

    markdown.write(kinds.document(result), tmp_path / "report.md")
    for path in sorted((tmp_path / "figures").iterdir()):
        tree = parsed(path.read_text(encoding="utf-8"))
        assert {element.tag.removeprefix(SVG) for element in tree.iter()} <= {
            "svg", "title", "desc", "g", "defs", "clipPath", "rect", "path", "use", "text",
        }  # fmt: skip
    described = parsed((tmp_path / "figures" / "recall.svg").read_text(encoding="utf-8")).find(f"{SVG}desc").text
    assert squeezed(name) in squeezed(described)

    view = markdown_soup(result)
    assert {element.name for element in view.find_all(True)} <= {element.name for element in usual_view.find_all(True)}
    assert len(view.find_all("img")) == len(usual_view.find_all("img"))
    assert squeezed(view.h1.get_text()) == squeezed(name)
    for table, twin in zip(view.find_all("table"), usual_view.find_all("table"), strict=True):
        assert {len(row.find_all(["th", "td"])) for row in table.find_all("tr")} == {len(twin.tr.find_all("th"))}
    assert squeezed(name) in [squeezed(cell.get_text()) for cell in view.find_all("td")]
    assert view.find("pre").get_text().strip() == name.replace("\r\n", "\n").strip()


def test_control_characters_leave_the_figures_well_formed():
    result = renamed(example_result(), "bell\x07 null\x00 escape\x1b")
    for figure in fairness_report.draw(result):
        parsed(figure.svg(standalone=True))
        parsed(figure.svg())


@pytest.mark.parametrize("file", sorted(COMMITTED.rglob("result.json")), ids=lambda file: file.parent.relative_to(COMMITTED).as_posix())
def test_committed_reports_are_what_their_results_give(file, tmp_path):
    """`repairkit report` on a run of an earlier version changes no byte of its views; not every run has its page committed."""
    kinds.write_views(kinds.read(file), tmp_path)
    if not file.with_name("report.html").exists():
        (tmp_path / "report.html").unlink()
    written = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    for path in written:
        assert (tmp_path / path).read_bytes() == (file.parent / path).read_bytes(), path
    drawn = {path.name for path in file.parent.glob("figures/*")}
    assert drawn == {path.name for path in written if path.suffix == ".svg"}


def test_equal_results_give_equal_bytes(tmp_path):
    written = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        html.write(kinds.document(example_result()), folder / "report.html")
        markdown.write(kinds.document(example_result()), folder / "report.md")
        written.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert written[0] == written[1]
    names = {path.as_posix() for path in written[0]}
    assert names == {"report.html", "report.md", *(f"figures/{key}.svg" for key in ("recall", "removal", "values", "tradeoff"))}


def test_images_of_the_markdown_exist_and_carry_the_finding(tmp_path):
    markdown.write(kinds.document(example_result()), tmp_path / "report.md")
    images = markdown_soup(example_result()).find_all("img")
    assert len(images) == 4
    for image in images:
        assert (tmp_path / image["src"]).is_file()
        drawn = parsed((tmp_path / image["src"]).read_text(encoding="utf-8"))
        assert squeezed(image["alt"]) == squeezed(drawn.get("aria-label"))


@pytest.mark.parametrize("view", [html, markdown])
def test_failed_writing_leaves_the_old_report(view, tmp_path, monkeypatch):
    path = tmp_path / "report"
    path.write_text("old")

    def full_disk(descriptor):
        raise OSError("no space left")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(OSError, match="no space"):
        view.write(kinds.document(example_result()), path)
    assert path.read_text() == "old"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_shares_are_shown_with_n_and_interval():
    table = soup_of(html.render(kinds.document(example_result()))).find("table")
    heads = [head.get_text(strip=True) for head in table.select("thead th")]
    rows = {
        row.th.get_text(strip=True): [cell.get_text(" ", strip=True) for cell in row.find_all("td")] for row in table.select("tbody tr")
    }
    for share in example_result().shares:
        row = rows[share.group or share.metric]
        column = heads.index(next(c.label for c in example_result().columns if c.key == share.column)) - 1
        assert row[0] == str(share.n)
        assert row[column] == f"{100 * share.value:.1f}% {100 * share.low:.1f} to {100 * share.high:.1f}"


def test_every_claim_is_a_symbol_and_a_word():
    result = example_result()
    page = soup_of(html.render(kinds.document(result)))
    claims = [span.get_text() for span in page.select("#differences ~ .scroll span.claim")]
    symbols = {"better": "▲ better", "worse": "▼ worse", "no claim": "● inconclusive"}
    assert claims == [symbols[entry.claim] for entry in result.differences]


def with_claims(claims: dict[tuple[str, str], Claim], worse: tuple[str, ...] = ()) -> FairnessResult:
    """Two groups compared once, with a claim and a sign for each (group, comparison)."""
    entries = [
        Difference(
            metric="recall", group=group, first="original", second=second, n=10, value=-0.1 if claim != "better" else 0.1,
            low=-0.2, high=0.2, p_value=0.5, p_adjusted=1.0, claim=claim,
        )
        for (group, second), claim in claims.items()
    ]  # fmt: skip
    full = example_result()
    return changed(full, {"differences": entries, "verdict": full.verdict.model_copy(update={"worse": list(worse)})})


@pytest.mark.parametrize(
    ("claims", "worse", "rows", "nothing"),
    [
        ({("a", "repaired"): "worse", ("b", "repaired"): "better"}, ("a is worse",), ["a"], False),
        ({("a", "repaired"): "worse"}, (), ["a"], False),
        ({("a", "repaired"): "no claim", ("b", "repaired"): "worse"}, ("b is worse",), ["b", "a"], False),
        ({("a", "repaired"): "no claim"}, (), ["a"], True),
        ({("a", "repaired"): "better"}, (), [], True),
        ({("a", "threshold"): "worse"}, (), [], True),
    ],
)
def test_regressions_are_always_there_and_complete(claims, worse, rows, nothing):
    result = with_claims(claims, worse)
    section = soup_of(html.render(kinds.document(result))).find(id="worse").parent
    assert [row.th.get_text(strip=True) for row in section.select("tbody tr")] == rows
    assert [item.get_text() for item in section.select("li")] == list(worse)
    assert ("No regression was measured" in section.get_text()) == nothing
    part = markdown.render(kinds.document(result)).split("## Regressions")[1].split("\n## ")[0]
    assert ("No regression was measured" in part) == nothing
    assert all(f"▼ {sentence}" in part for sentence in worse)


def test_folds_name_who_chose_each_filter():
    result = example_result()
    table = tables.filters_by_fold(result)
    shown = {row[0].text: (row[2].text, row[3].text) for row in table.bodies[0] if row[1].text == "Repaired"}
    for name, (chosen_by, folds) in shown.items():
        expected = [entry.fold for entry in result.frozen if f"{entry.layer}:{entry.channel}" == name and entry.column == "repaired"]
        assert chosen_by == f"{len(expected)} of 5"
        assert folds == ", ".join(map(str, expected))
    assert tables.filters_by_fold(CASES["one fold"]) is None
    assert "Fold" not in tables.filters(CASES["one fold"]).heads


def test_stability_is_a_table_where_it_was_measured():
    assert fairness_report.stability(example_result()) is None
    table = fairness_report.stability(CASES["stability"])
    assert table.heads == ("Ranking", "k = 25", "k = 50", "k = 200", "Rank correlation")
    (rows,) = table.bodies
    assert [row[0].text for row in rows[:3]] == ["Repaired: lowest by value", "Repaired: lowest by screen", "Repaired: highest by screen"]
    assert (rows[0][1].text, rows[0][1].detail) == ("61.0%", "50.0 to 70.0 over folds, by chance 0.8")
    assert (rows[0][3].text, rows[0][4].text, rows[1][4].text) == ("—", "−0.07", "—")
    page = soup_of(html.render(kinds.document(CASES["stability"])))
    assert page.find(id="stability-caption").get_text().startswith("Filters that both halves of the attribution images name")
    once = fairness_report.stability(changed(CASES["stability"], {"folds": 1}))
    assert once.bodies[0][0][1].detail == "by chance 0.8"


def test_results_from_before_stability_can_be_read():
    content = example_result().model_dump(mode="json")
    del content["extra"]["stability"]
    assert FairnessResult.model_validate(content) == example_result()


def test_every_frozen_filter_is_listed_with_value_and_half_width():
    rows = [[cell.text for cell in row] for row in tables.filters(example_result()).bodies[0]]
    for row, entry in zip(rows, example_result().frozen, strict=True):
        assert row[0] == f"{entry.layer}:{entry.channel}"
        value, half_width = (float(part.replace("−", "-")) for part in row[4].split(" ± "))
        assert value == pytest.approx(entry.value, abs=5e-5)
        assert half_width == pytest.approx(entry.half_width, rel=0.05)
        assert float(row[3]) == pytest.approx(entry.constant, rel=1e-2)


def test_unknown_half_width_and_screen_are_said_to_be_so():
    full = example_result()
    entry = full.frozen[0].model_copy(update={"half_width": None, "screen": None})
    row = [cell.text for cell in tables.filters(changed(full, {"frozen": [entry]})).bodies[0][0]]
    assert row[-2].endswith("± unknown")
    assert row[-1] == "—"


def test_alternative_texts_state_the_finding():
    result = example_result()
    drawn = {figure.key: figure for figure in fairness_report.draw(result)}
    for entry in result.differences:
        if (entry.first, entry.second) == ("original", "repaired"):
            figure = drawn["recall" if entry.group else "tradeoff"]
            sign = "+" if entry.value > 0 else "−"
            assert f"{entry.group or entry.metric} {sign}{abs(100 * entry.value):.1f} points" in figure.alt
            assert figure.finding in figure.alt
    chosen = next(point for point in result.extra.curves if point.chosen)
    assert f"as chosen, mean recall is {100 * chosen.mean_recall:.1f}%" in drawn["removal"].alt


def palettes() -> list[dict[str, str]]:
    style = files("repairkit.report").joinpath("report.css").read_text(encoding="utf-8")
    light, dark = style.split("@media")[:2]
    read = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", part)) for part in (light, dark)]
    return [read[0], read[0] | read[1]]


def contrast(first: str, second: str) -> float:
    """WCAG 2.2 contrast ratio of two colours written as #rrggbb."""

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", palettes(), ids=["light", "dark"])
def test_colours_have_contrast(palette):
    for background in ("paper", "raised"):
        for text in ("ink", "muted", "better", "worse", "neutral", "accent"):
            assert contrast(palette[text], palette[background]) >= 4.5, (text, background)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (formatting.percent(0.99951), "100.0%"),
        (formatting.points(-0.00004), "0.0"),
        (formatting.points(-0.0004), "−0.04"),
        (formatting.points(0.1), "+10.0"),
        (formatting.p_value(0.0), "<0.001"),
        (formatting.p_value(1.0), "1.000"),
        (formatting.plus_minus(-0.0123456, 0.0000321), "−0.012346 ± 0.000032"),
        (formatting.plus_minus(12.3456, 3.21), "12.3 ± 3.2"),
        (formatting.small(-0.00001234), "−1.23e−05"),
        (formatting.count(1234567.4), "1,234,567"),
    ],
)
def test_numbers_as_text(shown, expected):
    assert shown == expected


def test_a_guarantee_is_stated_beside_the_method():
    ends = {"low": 12, "high": 3}
    entry = Guaranteed(
        column="repaired",
        fold=2,
        delta=0.05,
        tolerance=0.2,
        top=40,
        filters=2976,
        valued=301,
        separated=ends,
        certified={"low": 40, "high": 31},
        missed={"low": 370, "high": 1},
        decided=False,
    )
    everyone = entry.model_copy(update={"fold": 0, "valued": 2976, "missed": {}, "decided": True})
    result = changed(example_result(), {"guarantees": [entry, everyone]})
    sentences = tables.method(result)[-2:]
    numbers = [re.findall(r"\d[\d.,]*\d%?|\d%?", sentence) for sentence in sentences]
    claims = ["12", "40", "3", "40", "40", "31", "20.0%"]
    assert numbers == [["2", "301", "2,976", *claims, "370", "1", "5.0%"], ["2,976", *claims, "5.0%"]]
    assert [sentence.endswith("Both ends were decided.") for sentence in sentences] == [False, True]
    assert tables.method(example_result()) == example_result().method
    for page in (soup_of(html.render(kinds.document(result))), markdown_soup(result)):
        listed = [" ".join(item.get_text().split()) for item in page.find_all("li")]
        assert [item for item in listed if item.startswith("Guarantee")] == sentences


def test_what_one_could_do_instead_has_a_section_where_it_was_tried():
    result = with_alternatives()
    table = fairness_report.alternatives(result)
    rows = {row[0].text: [cell.text for cell in row[1:]] for row in table.bodies[0]}
    assert rows["Last layer"][-5:] == ["1.2", "1,234", "yes", "no", "no"]
    assert rows["By group"] == ["—"] * 11
    assert rows["Dropout-trained"][-4:] == ["the training data", "yes", "no", "yes"]
    assert rows["Last layer"][:4] == ["99.5%"] * 4
    assert rows["Original"][-5:] == ["—", "—", "no", "no", "no"]
    for page in (soup_of(html.render(kinds.document(result))), markdown_soup(result)):
        text = page.get_text(" ", strip=True)
        assert "What Last layer is. Selected: penalty 0.1." in text
        assert "Left out: no group." in text
        assert "Repaired minus Last layer" in text
        headings = [heading.get_text() for heading in page.find_all("h2")]
        assert headings == ORDER["fairness"]
    assert soup_of(html.render(kinds.document(example_result()))).find(id="alternatives") is None
    assert fairness_report.alternatives(example_result()) is None
    assert fairness_report.quoted(result)[-1] == table
