"""What is not used is not imported."""

import subprocess
import sys

HEAVY = ("pydantic", "ruamel", "jsonschema", "numpy", "transformers", "torch", "trl", "rich")


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = (
        "import sys, ftcheck.policy, ftcheck.policy.plan, ftcheck.policy.presets, ftcheck.tables\n"
        "import ftcheck_trainers.arguments_table\n"
        f"print(sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def test_reading_a_policy_imports_no_tokenizer_and_no_trainer() -> None:
    program = (
        "import sys\nfrom ftcheck.policy import draft\ndraft('nowhere.yaml')\n"
        "print(sorted(set(sys.modules) & {'numpy', 'transformers', 'torch', 'trl', 'rich'}))"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"
