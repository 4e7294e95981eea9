"""Shared parts of the reports of several commands: ranks, statistics, tables, figures, the page."""
