"""The scoreboard: statuses follow the result files, and nothing else."""

import dataclasses
import json
import math

import booklint
import pytest
from bookfiles import ROOT, read
from scipy import stats

from splinelib.experiments import figures, get, paper_values, scoreboard
from splinelib.experiments.noise import agrees
from splinelib.experiments.record import write
from splinelib.experiments.scoreboard import (
    AGREES,
    DIFFERS,
    ELSEWHERE,
    FEW,
    FOLLOWS,
    NO_ANSWER,
    NOT_RUN,
    STAND_IN,
    as_table,
    counts,
    headline,
)

DENSE = "vgg16/cifar10/dense"
RECORDED = ROOT / "data/results/small/convnet/digits/dense-80/seed0.json"


def record(folder, name, accuracies, data=None, **changes):
    """Write a result for each accuracy, with a config of the registry and what else is wanted."""
    e = get(name)
    plain = json.loads(RECORDED.read_text())
    for seed, accuracy in enumerate(accuracies):
        told = {"name": data or e.data}
        new = {"name": e.name, "seed": seed, "config": e.to_json(), "accuracy": accuracy}
        write({**plain, **new, "data": plain["data"] | told, **changes}, folder)


def rows_of(folder, name=DENSE, quantity="accuracy", table=None):
    """The rows that an experiment answers."""
    cells = get(name).cells
    return [
        row
        for row in scoreboard.scoreboard(folder)
        if row.printed.cell in cells
        and row.printed.quantity == quantity
        and table in (None, row.printed.table)
    ]


def status(folder, *where, **which):
    found = {row.status for row in rows_of(folder, *where, **which)}
    assert len(found) == 1
    return found.pop()


# What is there


def test_each_number_of_the_tables_is_a_row_and_none_is_run_without_files(tmp_path):
    rows = scoreboard.scoreboard(tmp_path)
    assert [row.printed for row in rows] == [v for v in paper_values() if v.value is not None]
    assert set(counts(rows)) == {NOT_RUN, FOLLOWS}
    words = f"{NOT_RUN}: {counts(rows)[NOT_RUN]} of {len(rows)} numbers in 12 tables"
    assert headline(rows) == f"{words}; {FOLLOWS}: {counts(rows)[FOLLOWS]}"


def test_the_first_line_counts_figures_too(tmp_path):
    def first(folder):
        rows = scoreboard.scoreboard(folder)
        return headline(rows, figures.figure_statuses(folder)).split("; ")[0]

    assert first(tmp_path).endswith(" numbers in 12 tables, 5 of 15 figures")
    record(tmp_path, "vgg16/cifar100/spline-30", [0.7])
    assert first(tmp_path).endswith(" numbers in 12 tables, 4 of 15 figures")


def test_improvements_are_no_measurements(tmp_path):
    for row in scoreboard.scoreboard(tmp_path):
        improvement = "Improv" in row.printed.method or "gain" in row.printed.quantity
        assert (row.status == FOLLOWS) == improvement, row


# How the statuses change


def test_a_seed_then_three_then_another_mean(tmp_path):
    assert status(tmp_path, table=1) == NOT_RUN
    record(tmp_path, DENSE, [0.927])
    assert status(tmp_path, table=1) == FEW
    record(tmp_path / "near", DENSE, [0.926, 0.927, 0.929])
    assert status(tmp_path / "near", table=1) == AGREES
    record(tmp_path / "far", DENSE, [0.946, 0.947, 0.949])
    assert status(tmp_path / "far", table=1) == DIFFERS


def test_the_row_tells_mean_deviation_seeds_data_and_files(tmp_path):
    record(tmp_path, DENSE, [0.926, 0.927, 0.928])
    (row,) = rows_of(tmp_path, table=1)
    assert row.ours == "92.70 ± 0.10 (3)"
    assert row.data == "cifar10"
    assert row.files == tuple(f"{DENSE}/seed{k}.json" for k in range(3))


def test_a_stand_in_never_counts_as_the_data_set(tmp_path):
    name = DENSE.replace("cifar10", "cifar10-jpeg75")
    record(tmp_path, name, [0.926, 0.927, 0.928])
    (row,) = rows_of(tmp_path, table=1)
    assert (row.status, row.data) == (STAND_IN, "cifar10-jpeg75")
    record(tmp_path, DENSE, [0.946, 0.947, 0.948])
    (row,) = rows_of(tmp_path, table=1)
    assert (row.status, row.data, len(row.values)) == (DIFFERS, "cifar10", 3)


def test_another_config_under_the_name_does_not_count(tmp_path):
    changed = dataclasses.replace(get(DENSE), pad=3).to_json()
    record(tmp_path, DENSE, [0.926, 0.927], config=changed)
    assert status(tmp_path, table=1) == NOT_RUN


def test_operations_and_energy_have_rules_of_their_own(tmp_path):
    name = "vgg16/cifar10/ns-50"
    (printed,) = paper_values(cell=get(name).cells[0], quantity="flops_p")
    for share, expected in ((1.015, AGREES), (0.95, DIFFERS)):
        folder = tmp_path / expected
        total = round(share * printed.value * 1e15)
        flops = {"total": total, "watching": 0, "rows": []}
        record(folder, name, [0.93], flops=flops, energy=9e4)
        assert status(folder, name, "flops_p") == expected
        assert status(folder, name, "energy_kj") == ELSEWHERE


@pytest.mark.parametrize(
    ("network", "half"),
    [("VGG-16", 3 * 160 * 50_000 * 5e6), ("ResNet-50", 3 * 90 * 1_281_167 * 5e6)],
)
def test_operations_are_judged_by_one_seed_within_two_per_cent_and_the_rounding(network, half):
    paper = dataclasses.replace(printed(12.5, None, 2, "flops_p"), network=network)
    reach = 0.02 * 12.5 + half / 1e15  # half of 0.01 G, three times an image and epoch
    for share, expected in ((0.99, True), (1.01, False)):
        for sign in (1, -1):
            assert agrees([12.5 + sign * share * reach], paper) is expected


def test_a_small_network_whose_forward_pass_was_rounded_agrees():
    """0.10 G are printed where 0.1049 G were counted, 5 % more."""
    total = {gflops: 3 * 160 * 50_000 * gflops / 1e6 for gflops in (0.10, 0.1049)}
    paper = dataclasses.replace(printed(total[0.10], None, 2, "flops_p"), network="PreResNet-101")
    assert agrees([total[0.1049]], paper)


def test_a_run_that_did_not_measure_a_number_says_so(tmp_path):
    name = "vgg16/cifar10/ns-50"
    record(tmp_path, name, [0.93], energy="not measured")
    (row,) = rows_of(tmp_path, name, "energy_kj")
    assert (row.status, row.values, row.files, row.ours) == (NO_ANSWER, (), (), None)
    assert row.data == "cifar10"
    assert headline([row]) == f"{NOT_RUN}: 0 of 1 numbers in 1 tables; {NO_ANSWER}: 1"


def test_a_damaged_result_is_not_passed_over(tmp_path):
    record(tmp_path, DENSE, [0.9])
    (tmp_path / DENSE / "seed0.json").write_text("{")
    with pytest.raises(ValueError, match="seed0.json is damaged"):
        scoreboard.scoreboard(tmp_path)


# The rule


def printed(value, sd, table=2, quantity="accuracy"):
    return dataclasses.replace(
        paper_values(table=2)[0], table=table, quantity=quantity, value=value, sd=sd
    )


@pytest.mark.parametrize("gap", [0.1, 0.3, 0.5, 0.7, 1.0])
def test_noise_is_welchs_test(gap):
    """Against scipy's own test from means and deviations, at 5 %, the rounding aside."""
    ours = [93.0, 93.2, 93.55]
    mean, sd = sum(ours) / 3, stats.tstd(ours)
    paper = mean + gap
    p = stats.ttest_ind_from_stats(mean, sd, 3, paper, 0.12, 5, equal_var=False).pvalue
    assert agrees(ours, printed(paper, 0.12)) == (p >= 0.05)


@pytest.mark.parametrize(("table", "runs"), [(1, 5), (2, 5), (4, 3), (3, 3), (9, 3)])
def test_their_deviation_counts_over_the_runs_of_their_table(table, runs):
    """Theirs is the large one here, so the limit is their quantile and standard error."""
    ours, sd = [93.0, 93.001, 93.002], 0.8
    error = math.hypot(sd / math.sqrt(runs), stats.tstd(ours) / math.sqrt(3))
    reach = stats.t.ppf(0.975, runs - 1) * error
    for sign in (1, -1):
        for more, expected in ((0.004, True), (0.006, False)):  # half of 0.01 is added
            paper = printed(93.001 + sign * (reach + more), sd, table)
            assert agrees(ours, paper) == expected


@pytest.mark.parametrize(
    ("quantity", "half"),
    [("accuracy", 0.005), ("top5", 0.005), ("emerge_epoch", 0.5), ("distance_epoch_40", 0.0005)],
)
def test_half_of_the_last_digit_printed_is_added(quantity, half):
    for sign in (1, -1):
        inside, outside = (printed(9 + sign * f * half, None, 12, quantity) for f in (0.98, 1.02))
        assert agrees([9.0, 9.0], inside)
        assert not agrees([9.0, 9.0], outside)


@pytest.mark.parametrize("quantity", ["accuracy", "flops_p"])
def test_a_value_that_is_no_number_is_refused(quantity):
    for wrong in (math.nan, math.inf):
        with pytest.raises(ValueError, match="must be finite numbers, one a seed"):
            agrees([wrong, 92.0], printed(92.0, 0.1, 2, quantity))


def test_without_a_printed_deviation_one_more_run_of_ours_could_be_it():
    ours = [10.0, 12.0, 14.0]
    reach = stats.t.ppf(0.975, 2) * 2 * math.sqrt(1 + 1 / 3)
    for sign in (1, -1):
        assert agrees(ours, printed(12 + sign * (reach + 0.4), None, 6, "emerge_epoch"))
        assert not agrees(ours, printed(12 + sign * (reach + 0.6), None, 6, "emerge_epoch"))


def test_equal_runs_agree_only_with_the_digits_printed():
    assert agrees([30.0, 30.0], printed(30.0, None, 6, "emerge_epoch"))
    assert not agrees([30.0, 30.0], printed(31.0, None, 6, "emerge_epoch"))
    assert agrees([93.001, 93.001], printed(93.0, 0.0))


# What the reader sees


def test_the_table_leads_to_the_files_and_picks_rows(tmp_path):
    record(tmp_path, DENSE, [0.926, 0.927, 0.928])
    page = as_table(scoreboard.scoreboard(tmp_path), "All.")._repr_html_()
    assert f'/tree/main/data/results/{DENSE}">cifar10, 3 files</a>' in page
    assert len(page) < 600_000


def test_each_figure_of_the_paper_leads_to_one_of_ours():
    assert [f.number for f in figures.FIGURES] == list(range(1, 16))
    for figure in figures.FIGURES:
        nb = read(ROOT / "book" / f"{figure.chapter}.ipynb")
        names = [
            c.metadata.get("mystnb", {}).get("figure", {}).get("name")
            for c in booklint.code_cells(nb)
        ]
        assert figure.label in names, f"{figure.chapter} has no figure {figure.label}"
        text = booklint.prose(nb) + json.dumps([c.metadata for c in nb.cells])
        assert figure.name in text, f"{figure.chapter} does not mention {figure.name}"


def test_a_figure_is_called_by_the_title_of_its_chapter(tmp_path):
    for figure, cells in zip(figures.FIGURES, figures.figure_table(tmp_path).cells, strict=True):
        nb = read(ROOT / "book" / f"{figure.chapter}.ipynb")
        assert nb.cells[0].source.splitlines()[0] == f"# {cells[2]}"


def test_a_cell_is_of_the_figure_that_it_names_and_of_no_longer_number():
    first, fifth = figures.FIGURES[0], figures.FIGURES[4]
    for cell in ("Fig. 5", "Fig. 5a", "Fig. 5 | VGG-16"):
        assert figures._names(fifth, cell)
        assert not figures._names(first, cell)
    for number in range(10, 16):
        assert not figures._names(first, f"Fig. {number} | VGG-16")


def test_runs_of_a_figure_are_counted_on_its_own_data(tmp_path):
    def last(folder):
        return figures.figure_table(folder).cells[6][-2:]

    assert figures.FIGURES[6].name == "Fig. 7"
    assert last(tmp_path) == (NOT_RUN, "–")
    record(tmp_path, "vgg16/cifar100/spline-30", [0.7])
    record(tmp_path, "vgg16/cifar100/spline-50", [0.7], data="cifar100-1of2")
    assert last(tmp_path) == ("1 of 30 experiments", "cifar100, 1 file")
    assert (
        "/tree/main/data/results/vgg16/cifar100/spline-30"
        in figures.figure_table(tmp_path)._repr_html_()
    )
    record(tmp_path, "vgg16/cifar100/spline-10", [0.7, 0.8])
    assert last(tmp_path)[1] == "cifar100, 3 files"


def test_the_status_of_a_figure_without_runs_says_how_it_is_drawn(tmp_path):
    for figure, status in zip(figures.FIGURES, figures.figure_statuses(tmp_path), strict=True):
        assert status in (figure.how, NOT_RUN)
