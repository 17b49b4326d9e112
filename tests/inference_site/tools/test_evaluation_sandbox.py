import pytest

from inference_site.tools.evaluation.sandbox import code_of, passes


def test_sandbox_runs_code_with_the_usual_modules():
    code = "from typing import List\nimport math\ndef f(x: List[int]):\n    return math.prod(x)"
    assert passes(code, ("f([2, 3]) == 6", "f([]) == 1"))
    assert not passes(code, ("f([2, 3]) == 5",))


@pytest.mark.parametrize(
    "code",
    [
        "import socket\nsocket.socket()",
        "open('/etc/hostname')",
        "import os\nos.system('true')",
        "import os\nos.fork()",
        "import os\nos.kill(os.getppid(), 0)",
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))",
        "import subprocess",
        "x = [0] * 10**9",
        "raise SystemExit(0)",
        "import os\nos._exit(0)",
        "print('all asserts passed')\nimport os\nos._exit(0)",
        "def f(:",
    ],
)
def test_sandbox_refuses(code):
    assert not passes(code, ())


def test_sandbox_ends_code_that_does_not_end():
    assert not passes("while True: pass", ())


def test_sandbox_finds_the_code_of_an_answer():
    assert code_of("Sure:\n```python\na = 1\n```\nand\n```\nb = 2\n```") == "a = 1"
    assert code_of("```py\na = 1") == "a = 1"
    assert code_of(" a = 1\n") == "a = 1"
