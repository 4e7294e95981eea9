"""What the reports of several commands have in common: ranks, statistics, tables, figures, the page."""
