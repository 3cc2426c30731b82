"""`bikeflow run`: the service."""

from __future__ import annotations

from bikeflow.cli import options


def run(config: options.Config = None, overrides: options.Overrides = None, data_dir: options.DataDir = None) -> None:
    """Run the service until SIGTERM or Ctrl-C. It fetches, stores, processes and publishes."""
    settings = options.start(config, overrides, data_dir)
    from bikeflow.memory import lasting

    with lasting():
        from bikeflow.daemon import serve

    options.complete(serve(settings, lambda: options.load(config, overrides, data_dir)))
