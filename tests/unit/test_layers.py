"""The layers hold, and the contracts that say so bite.

The contracts are in pyproject.toml. Here: that they are kept, that each is broken by
an import it forbids, and that their list of pure modules is the modules that say
"[P]" of themselves.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

# One forbidden import for each contract: contract id -> (file, line).
OFFENCES = {
    "layers": ("hermes/limits.py", "import hermes.log.record"),
    "log": ("hermes/log/offence.py", "import hermes.broker"),
    "broker": ("hermes/broker/offence.py", "import hermes.log.offence"),
    "client": ("hermes/client/offence.py", "import hermes.broker.offence"),
    "tools": ("tools/hermes_inspect/offence.py", "import hermes.server"),
    "sqlite": ("hermes/server/offence.py", "import apsw"),
    "arrow": ("hermes/log/offence.py", "import pyarrow"),
    "clock": ("hermes/client/offence.py", "from time import monotonic"),
    "pure": ("hermes/errors.py", "import hermes.clock"),
}

# What a pure module may not call, though no import shows it.
IMPURE_BUILTINS = {"input", "open", "print"}
IMPURE_METHODS = {"now", "today", "utcnow"}


@pytest.fixture(scope="module")
def contracts(repository: Path) -> dict[str, dict[str, object]]:
    """Contract id -> contract, from pyproject.toml."""
    settings = tomllib.loads((repository / "pyproject.toml").read_text())
    return {contract["id"]: contract for contract in settings["tool"]["importlinter"]["contracts"]}


def lint_imports(root: Path, bin_dir: Path) -> tuple[int, str]:
    """Exit code and report of lint-imports on the tree below `root`."""
    done = subprocess.run(
        [bin_dir / "lint-imports", "--no-logo", "--no-cache", "--config", "pyproject.toml"],
        cwd=root,
        env={"PYTHONPATH": f"{root}:{root / 'tools'}", "COLUMNS": "1000"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def pure_modules(repository: Path) -> Iterator[tuple[str, ast.Module]]:
    """Dotted name and tree of every module whose docstring begins with [P]."""
    for base in (repository, repository / "tools"):
        for package in ("hermes", "hermes_inspect"):
            for path in sorted((base / package).rglob("*.py")):
                tree = ast.parse(path.read_text())
                if (ast.get_docstring(tree) or "").startswith("[P]"):
                    name = ".".join(path.relative_to(base).with_suffix("").parts)
                    # A package's docstring speaks for everything in the package.
                    yield name.removesuffix(".__init__"), tree


def test_contracts_are_kept(repository: Path, bin_dir: Path) -> None:
    code, report = lint_imports(repository, bin_dir)
    assert code == 0, report


def test_contracts_bite(
    repository: Path, bin_dir: Path, tmp_path: Path, contracts: dict[str, dict[str, object]]
) -> None:
    assert set(OFFENCES) == set(contracts)
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(repository / "hermes", tmp_path / "hermes", ignore=ignore)
    shutil.copytree(
        repository / "tools" / "hermes_inspect",
        tmp_path / "tools" / "hermes_inspect",
        ignore=ignore,
    )
    shutil.copy(repository / "pyproject.toml", tmp_path)
    for file, line in OFFENCES.values():
        with (tmp_path / file).open("a") as source:
            source.write(f"\n{line}\n")
    code, report = lint_imports(tmp_path, bin_dir)
    assert code == 1, report
    kept = [key for key in OFFENCES if f"{contracts[key]['name']} BROKEN" not in report]
    assert kept == [], report


def test_pure_list_is_complete(repository: Path, contracts: dict[str, dict[str, object]]) -> None:
    marked = sorted(name for name, _ in pure_modules(repository))
    paste = "the contract's source_modules are now:\n" + "".join(f'    "{m}",\n' for m in marked)
    assert contracts["pure"]["source_modules"] == marked, paste


def test_pure_modules_call_nothing_impure(repository: Path) -> None:
    impure = [
        f"{name}:{node.lineno}"
        for name, tree in pure_modules(repository)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id in IMPURE_BUILTINS)
            or (isinstance(node.func, ast.Attribute) and node.func.attr in IMPURE_METHODS)
        )
    ]
    assert impure == []
