"""The house: what may lie where, and that documents say what is true."""

import ast
import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import typer

from filestore.cli.main import build

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = ("filestore", "chunker", "gc")
ALLOWED = {
    *("pyproject.toml", "README.md", "Makefile", "LICENSE", "CHANGELOG.md", "docs"),
    *("filestore", "chunker", "gc", "config", "tests", "bench"),
}
SKIPPED = {".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}


def _ignored() -> list[str]:
    return (ROOT / ".gitignore").read_text().split()


def _is_ignored(path: Path) -> bool:
    return any(fnmatch(path.name, pattern.rstrip("/")) for pattern in _ignored())


def _files(folder: Path = ROOT) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in SKIPPED or _is_ignored(path):
            continue
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _texts() -> Iterator[tuple[Path, str]]:
    for path in _files():
        try:
            yield path.relative_to(ROOT), path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue


def _modules(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text(encoding="utf-8"))


def _imports(tree: ast.Module) -> Iterator[str]:
    """Every dotted name that a module imports, also inside functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


# ---- what lies where ---------------------------------------------------------------------


def test_the_top_level_holds_only_what_was_agreed() -> None:
    visible = {
        path.name for path in ROOT.iterdir() if path.name[0] != "." and not _is_ignored(path)
    }
    assert visible <= ALLOWED


def test_every_top_level_folder_says_what_it_is_for() -> None:
    for folder in ROOT.iterdir():
        if folder.is_dir() and folder.name in ALLOWED:
            text = (folder / "README.md").read_text(encoding="utf-8")
            assert "## Invariants" in text, folder.name
            assert "| Decision | Because | Rejected | Would change if |" in text, folder.name


def test_source_roots_hold_one_package_and_config_holds_no_python() -> None:
    assert not list((ROOT / "config").rglob("*.py"))
    for root, package in (("chunker", "filestore_chunker"), ("gc", "filestore_gc")):
        assert not (ROOT / root / "__init__.py").exists()
        folders = [path for path in (ROOT / root).iterdir() if path.is_dir()]
        assert [path.name for path in folders if path.name not in SKIPPED] == [package]


# ---- what no file says -------------------------------------------------------------------

REGISTRIES = "|".join(
    re.escape(".".join(parts))
    for parts in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("proxy", "golang", "org"),
        ("crates", "io"),
        ("docker", "io"),
        ("quay", "io"),
        ("ghcr", "io"),
        ("maven", "org"),
        ("deb", "debian", "org"),
    ]
)
MACHINE_PATHS = r"(?<![\w.)}])/(?:" + "|".join(["work", "root", r"tmp/(?:venv|mk)"]) + r")/\w"


def test_no_file_names_the_host_of_a_registry() -> None:
    found = [str(path) for path, text in _texts() if re.search(rf"\b(?:{REGISTRIES})\b", text)]
    assert not found


def test_no_file_names_a_path_of_somebody_s_machine() -> None:
    found = [str(path) for path, text in _texts() if re.search(MACHINE_PATHS, text)]
    assert not found


# ---- imports -----------------------------------------------------------------------------


def test_only_http_and_the_composition_root_import_the_web_server() -> None:
    for path, tree in _modules(*SOURCE_ROOTS):
        if path.parts[:2] in (("filestore", "http"), ("filestore", "web")):
            continue
        if path == Path("filestore/app.py"):
            continue
        assert not [name for name in _imports(tree) if name.startswith("aiohttp.web")], path


def test_nothing_is_mocked() -> None:
    for path, tree in _modules("tests", *SOURCE_ROOTS):
        names = [name for name in _imports(tree) if re.match(r"unittest\.mock|mock\b", name)]
        assert not names, f"{path}: use the real thing, or a fake that passes its contract"


def test_the_core_reads_no_environment() -> None:
    core = [f"filestore/{part}" for part in ("acts", "blocks", "meta", "quota", "transfer", "http")]
    for path, tree in _modules(*core, "filestore/settings", "chunker", "gc"):
        for node in ast.walk(tree):
            reads = isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
            assert not reads, f"{path}: settings come from filestore.settings"


def test_variables_of_the_environment_are_settings_or_known_not_to_be() -> None:
    known = (ROOT / "config" / "README.md").read_text() + (ROOT / "config/default.toml").read_text()
    for path, _ in _modules("filestore/cli", "filestore/client"):
        for name in re.findall(r"FILESTORE_[A-Z0-9_]*[A-Z0-9]", (ROOT / path).read_text()):
            assert name in known, f"{path}: {name}"


# ---- shape of the code -------------------------------------------------------------------


def test_every_module_says_why_it_exists() -> None:
    for path, tree in _modules(*SOURCE_ROOTS, "tests"):
        if tree.body:
            assert ast.get_docstring(tree), path


def test_nine_of_ten_functions_fit_a_screen_and_none_is_over_80_lines() -> None:
    sizes = {
        f"{path}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path, tree in _modules(*SOURCE_ROOTS)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not [name for name, size in sizes.items() if size > 80]
    assert sum(size <= 35 for size in sizes.values()) >= 0.9 * len(sizes)


# ---- documents ---------------------------------------------------------------------------


def _documents() -> list[Path]:
    readmes = [path for path in _files() if path.name in ("README.md", "CONTRIBUTING.md")]
    assert ROOT / "README.md" in readmes
    return readmes


def _make_targets() -> set[str]:
    makefile = (ROOT / "Makefile").read_text()
    return set(re.findall(r"^([a-z0-9-]+):(?!=)", makefile, re.MULTILINE))


@pytest.mark.parametrize("path", _documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_make_command_of_a_document_exists(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"(?:^\s*|`|&& )make ([a-z0-9-]+)\b", text, re.MULTILINE)
    assert set(named) <= _make_targets()


def test_make_help_names_every_target_for_people() -> None:
    makefile = (ROOT / "Makefile").read_text()
    explained = set(re.findall(r"^([a-z0-9-]+):.*##", makefile, re.MULTILINE))
    phony = " ".join(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE))
    assert explained == set(phony.split()) == _make_targets()


def _commands() -> dict[str, set[str]]:
    """Every command as it is typed (``group create``) with its options."""
    found: dict[str, set[str]] = {}

    def visit(command: Any, name: str) -> None:
        children = getattr(command, "commands", {})
        if not children:
            found[name] = {option for param in command.params for option in param.opts}
        for child, sub in children.items():
            visit(sub, f"{name} {child}".strip())

    visit(typer.main.get_command(build(with_server=True)), "")
    return found


def test_every_filestore_command_of_the_readme_exists_with_its_options() -> None:
    commands = _commands()
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    typed = re.findall(r"^filestore (.*?)(?:\s+#.*)?$", text, re.MULTILINE)
    assert len(typed) >= 8
    for line in typed:
        name = max((c for c in commands if f"{line} ".startswith(f"{c} ")), key=len, default=None)
        assert name is not None, f"filestore {line}"
        options = set(re.findall(r"(?<= )--?[a-z][a-z-]*", f" {line}"))
        assert options <= commands[name], f"filestore {line}"


def test_every_file_that_a_document_links_to_exists() -> None:
    for path in _documents():
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)}: {target}"


def test_pins_satisfy_what_the_package_asks_for() -> None:
    pins = (ROOT / "config" / "constraints.txt").read_text()
    lines = [line for line in pins.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!]+", line) for line in lines)
    pinned = {re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + project["build-system"]["requires"]
    wanted += project["project"]["optional-dependencies"]["dev"]
    names = {re.split(r"[\[><=!~; ]", want)[0] for want in wanted}
    assert {re.sub(r"[-_.]+", "-", name).lower() for name in names} <= pinned
