"""What the dashboards are made of: panels of Grafana's foundation SDK, in one look."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    Threshold,
    ThresholdsMode,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from grafana_foundation_sdk.cog.builder import Builder
    from grafana_foundation_sdk.models.dashboard import Dashboard, Panel

Panels: TypeAlias = "Mapping[str, Sequence[Builder[Panel]]]"
Queries: TypeAlias = "Mapping[str, str]"

SOURCE = DataSourceRef(type_val="prometheus", uid="$datasource")
TAG = "headrace"
WIDTH = 24  # columns of a dashboard
GOOD, FAIR, BAD = "green", "orange", "red"

# What queries are made of. A panel is looked at in the regions that are chosen above it.
IN = '{region=~"$region"}'
RATE = "[$__rate_interval]"
NOTHING = " or on () vector(0)"  # what is seen of a fault while there is none
# Labels to choose by, each with a metric that has all its values.
REGION = "region:headrace_reader_info"
DATABASE = "database:headrace_ingest_database_rows"


def dashboard(uid: str, title: str, said: str, rows: Panels, *variables: str) -> Dashboard:
    """Make a dashboard.

    Args:
        uid: What its address ends in.
        title: Its title, after the project's.
        said: What it is for.
        rows: Panels, by the title of the row that they stand in.
        variables: Names of labels to choose by, each with the metric that has all its values after
            a colon.
    """
    made = (
        builders.Dashboard(f"Headrace: {title}")
        .uid(f"headrace-{uid}")
        .description(said)
        .tags([TAG])
        .timezone("browser")
        .time("now-6h", "now")
        .refresh("30s")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(
            builders.DashboardLink("Headrace")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .include_vars(True)
            .keep_time(True)
        )
        .with_variable(
            builders.DatasourceVariable("datasource")
            .label("Prometheus")
            .type(SOURCE.type_val or "")
        )
    )
    for name, _, metric in (each.partition(":") for each in variables):
        made.with_variable(_variable(name, metric))
    for row, panels in rows.items():
        made.with_row(builders.Row(row))
        for panel in panels:
            made.with_panel(panel)
    board = made.build()
    for number, each in enumerate(board.panels or (), 1):
        each.id_val = number
    return board


def rate(metric: str, labels: str = "", *, by: str = "") -> str:
    """Ask how fast a counter grows, a second."""
    return f"{_sum(by)} (rate({metric}{labels}{RATE}))"


def each_minute(metric: str, labels: str = "", *, by: str = "") -> str:
    """Ask how fast a counter grows, a minute."""
    return f"{rate(metric, labels, by=by)} * 60"


def increase(metric: str, labels: str = "", *, by: str = "") -> str:
    """Ask by how much a counter grew from point to point."""
    return f"{_sum(by)} (increase({metric}{labels}{RATE}))"


def quantile(part: float, metric: str, labels: str = "", *, by: str = "") -> str:
    """Ask for a quantile of a histogram."""
    groups = f"le, {by}" if by else "le"
    return f"histogram_quantile({part}, {rate(f'{metric}_bucket', labels, by=groups)})"


def _sum(by: str) -> str:
    return f"sum by ({by})" if by else "sum"


def _variable(name: str, metric: str) -> builders.QueryVariable:
    made = (
        builders.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query(f"label_values({metric}, {name})")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
    )
    if name == "region":
        everything = VariableOption(text="All", value="$__all")
        made.multi(True).include_all(True).all_value(".+").current(everything)
    return made


def lines(
    title: str,
    said: str,
    unit: str,
    queries: Queries,
    *,
    span: int = 8,
    limit: float | None = None,
    stacked: bool = False,
    at_most: float | None = None,
) -> timeseries.Panel:
    """Make lines over time.

    Args:
        title: What is shown.
        said: What it means, and when to worry.
        unit: Grafana's name of the unit.
        queries: What is asked, by what each line is called.
        span: Columns that it is wide.
        limit: Where it begins to be too much: a dashed line.
        stacked: Whether the lines are parts of a whole.
        at_most: The largest value that there can be.
    """
    panel = (
        timeseries.Panel()
        .title(title)
        .description(said)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .height(8)
        .span(span)
        .line_width(1)
        .fill_opacity(60 if stacked else 10)
        .show_points(common.VisibilityMode.NEVER)
        .legend(
            common_builders.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    )
    if stacked:
        panel.stacking(common_builders.StackingConfig().mode(common.StackingMode.NORMAL))
    if at_most is not None:
        panel.max(at_most)
    if limit is not None:
        panel.thresholds(_steps((0.0, GOOD), (limit, BAD)))
        panel.thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(
                common.GraphThresholdsStyleMode.DASHED
            )
        )
    for name, expr in queries.items():
        query = prometheus.Dataquery().expr(expr).legend_format(name).range().datasource(SOURCE)
        panel.with_target(query.exemplar("_bucket" in expr))
    return panel


def number(
    title: str,
    said: str,
    unit: str,
    queries: Queries,
    *,
    steps: Sequence[tuple[float, str]] = ((0.0, GOOD),),
    span: int = 6,
    decimals: int | None = None,
) -> stat.Panel:
    """Make numbers, as they are now.

    Args:
        title: What is shown.
        said: What it means.
        unit: Grafana's name of the unit.
        queries: What is asked, by what each number is called.
        steps: The colour from each value on, lowest first.
        span: Columns that it is wide.
        decimals: Digits behind the point; None: as many as are worth it.
    """
    panel = (
        stat.Panel()
        .title(title)
        .description(said)
        .datasource(SOURCE)
        .unit(unit)
        .height(5)
        .span(span)
        .thresholds(_steps(*steps))
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .text_mode(
            common.BigValueTextMode.VALUE_AND_NAME
            if any("{{" in name for name in queries)
            else common.BigValueTextMode.VALUE
        )
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    if decimals is not None:
        panel.decimals(decimals)
    for name, expr in queries.items():
        query = prometheus.Dataquery().expr(expr).legend_format(name).instant()
        panel.with_target(query.datasource(SOURCE))
    return panel


def rows(
    title: str, said: str, query: str, columns: Mapping[str, str], *, span: int = 8
) -> table.Panel:
    """Make a table of what a query gives now.

    Args:
        title: What is shown.
        said: What it means.
        query: What is asked.
        columns: Labels, and ``Value``, by what they are called; others are left out.
        span: Columns of the dashboard that it is wide.
    """
    chosen = {
        "include": {"names": list(columns)},
    }
    renamed = {"renameByName": dict(columns), "indexByName": {n: i for i, n in enumerate(columns)}}
    return (
        table.Panel()
        .title(title)
        .description(said)
        .datasource(SOURCE)
        .height(8)
        .span(span)
        .with_target(
            prometheus.Dataquery()
            .expr(query)
            .instant()
            .format(PromQueryFormat.TABLE)
            .datasource(SOURCE)
        )
        .with_transformation(DataTransformerConfig(id_val="filterFieldsByName", options=chosen))
        .with_transformation(DataTransformerConfig(id_val="organize", options=renamed))
    )


def _steps(*steps: tuple[float, str]) -> builders.ThresholdsConfig:
    (_, lowest), *others = steps
    first = Threshold(value=None, color=lowest)
    return (
        builders.ThresholdsConfig()
        .mode(ThresholdsMode.ABSOLUTE)
        .steps([first, *(Threshold(value=value, color=color) for value, color in others)])
    )
