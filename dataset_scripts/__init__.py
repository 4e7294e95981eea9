"""Stand-alone scripts: raw data to a data set that the loader reads."""
