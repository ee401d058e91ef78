"""Libraries that would report to their makers do not."""

import subprocess
import sys
from pathlib import Path

from tests.support.server import ROOT


def test_the_runtime_of_models_writes_no_identifier_and_reports_nothing(tmp_path: Path) -> None:
    code = "import services.kit.config, onnxruntime; print(onnxruntime.__version__)"
    env = {"TMPDIR": str(tmp_path), "HOME": str(tmp_path), "PYTHONPATH": f"{ROOT}:{ROOT}/sdk"}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True)
    assert list(tmp_path.iterdir()) == []
