import platform
import re

from services.kit import machine


def test_a_signature_names_runtime_and_instructions() -> None:
    assert re.fullmatch(r"onnxruntime \d+\.\d+\.\d+, \S+", machine.checked_on())
    assert platform.machine() in machine.instruction_set()
