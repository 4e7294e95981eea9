"""Configuration: layers of yaml files, checked, as RecBole's Config."""


def __getattr__(name):
    """Provide ``RunConfig``, which checkpoints of RecBole's trainer expect here."""
    if name == "RunConfig":
        from recbole_mm.config.load import RunConfig

        return RunConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
