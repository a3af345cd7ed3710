"""What Prefect finds in its environment; it reads it once, when it is imported."""

import os
from pathlib import Path


def prepare_environment(home: Path) -> None:
    """Keep all of Prefect's files under `home`, and make it call nobody."""
    os.environ.update(
        {
            "PREFECT_HOME": str(home),
            # these two do not follow the first
            "PREFECT_MEMO_STORE_PATH": str(home / "memo.toml"),
            "PREFECT_RESULTS_LOCAL_STORAGE_PATH": str(home / "storage"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
            "DO_NOT_TRACK": "1",
        }
    )
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO")
