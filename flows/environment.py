"""What Prefect finds in its environment; it reads it once, when it is imported."""

import os
from pathlib import Path


def prepare_environment(home: Path) -> None:
    """Keep all of Prefect's files under `home`, and make it call nobody."""
    os.environ.update(
        {
            "PREFECT_HOME": str(home),
            "PREFECT_MEMO_STORE_PATH": str(home / "memo.toml"),  # does not follow the first
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
            "DO_NOT_TRACK": "1",
        }
    )
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")
