r"""The report of a comparison: text for the console."""

from recbole_mm.compare.comparison import Summary


def text_table(summary: Summary) -> str:
    """The main table for the console, with the conditions under which its numbers hold."""
    metric, baseline = summary.settings.metric, summary.settings.baseline
    width = max(len(row.label) for row in summary.rows)
    lines = [
        summary.conditions,
        f"{'':{width}}  {metric:>9}  over seeds   over users (95 %)  against {baseline}",
    ]
    for row in summary.rows:
        spread = row.deviations[metric]
        spread = "one seed" if spread is None else f"+- {spread:.4f}"
        span = f"[{row.interval.low:.4f}, {row.interval.high:.4f}]"
        line = f"{row.label:{width}}  {row.means[metric]:9.4f}  {spread:>10}   {span:>17}"
        if row.against_baseline:
            difference, _, p = row.against_baseline
            line += f"  {difference.value:+.4f} [{difference.low:+.4f}, {difference.high:+.4f}]"
            line += f" p {p:.4f}"
        lines.append(line)
    lines += [f"FAILED: {f.run.label}, seed {f.run.seed}: {f.reason}" for f in summary.failures]
    return "\n".join(lines)


def write_report(summary: Summary, command: str) -> list:
    return []
