"""Flows and tasks stay light, since a scheduler imports them for every run."""

import subprocess
import sys


def test_flows_and_tasks_import_without_torch() -> None:
    code = (
        "import importlib, pkgutil, sys, flows, tasks\n"
        "for package in (flows, tasks):\n"
        "    for module in pkgutil.iter_modules(package.__path__, package.__name__ + '.'):\n"
        "        importlib.import_module(module.name)\n"
        "sys.exit(str(heavy) if (heavy := {'torch', 'transformers', 'vllm', 'deepspeed'} & sys.modules.keys()) else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
