"""Count what the layout of the source promises: `python dev/house.py [--names]`, from the root of the repository.

Prints lines; files but for those of packages (`__init__.py`), their median and how many are short; files that one other
file imports; what opens data; classes that write a format; class names that stand twice. `--names` lists them.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections import defaultdict
from pathlib import Path

SOURCE = Path("src")
SHORT = 60
"""Lines below which a file is a fragment rather than a chapter."""
OPENERS = (
    *("open_data", "open_unlabelled", "open_labelled", "open_set", "open_sets", "open_truths", "read_source"),
    *("load_photographs", "load_cutouts", "Truth", "Photographs", "FolderImages"),
)
"""Functions and classes that open a data set by where it lies, today or once; one door is the aim."""


def module_of(path: Path) -> str:
    """Return a file's dotted name."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(tree: ast.Module, modules: set[str]) -> set[str]:
    """Return the modules of the package that a file imports, wherever in it; packages only where a name is theirs."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules else node.module)
    return found & modules


def definitions(trees: dict[str, ast.Module], kind: type) -> dict[str, list[str]]:
    """Return the modules that define each public top-level name of a kind of node."""
    found: dict[str, list[str]] = defaultdict(list)
    for module, tree in trees.items():
        for node in tree.body:
            if isinstance(node, kind) and not node.name.startswith("_"):  # type: ignore[attr-defined]
                found[node.name].append(module)  # type: ignore[attr-defined]
    return found


def writers_of(classes: dict[str, list[str]], trees: dict[str, ast.Module]) -> list[str]:
    """Return the classes that write images into a format: those of `Writer`, and others with `add` and `close`."""
    found = []
    for name, modules in classes.items():
        for module in modules:
            node = next(n for n in trees[module].body if isinstance(n, ast.ClassDef) and n.name == name)
            methods = {each.name for each in node.body if isinstance(each, ast.FunctionDef)}
            bases = {base.id for base in node.bases if isinstance(base, ast.Name)}
            if ("Writer" in bases or {"add", "close"} <= methods) and not {"Protocol", "ABC"} & bases:
                found.append(f"{module}.{name}")
    return sorted(found)


def main() -> None:
    """Print the figures."""
    paths = sorted(SOURCE.rglob("*.py"))
    trees = {module_of(path): ast.parse(path.read_text("utf-8")) for path in paths}
    lines = {module_of(path): len(path.read_text("utf-8").splitlines()) for path in paths}
    importers: dict[str, set[str]] = defaultdict(set)
    for module, tree in trees.items():
        for imported in imports_of(tree, set(trees)):
            importers[imported].add(module)
    packages = {module_of(path) for path in paths if path.name == "__init__.py"}
    chapters = {module: count for module, count in lines.items() if module not in packages}
    classes, functions = definitions(trees, ast.ClassDef), definitions(trees, ast.FunctionDef)
    openers = [f"{m}.{n}" for n in OPENERS for m in (*functions.get(n, []), *classes.get(n, []))]
    counted = {
        f"files under {SHORT} lines": sorted(module for module, count in chapters.items() if count < SHORT),
        "files with one importer": sorted(module for module in chapters if len(importers[module]) == 1),
        "openers of data": sorted(openers),
        "classes that write a format": writers_of(classes, trees),
        "class names that stand twice": [f"{n}: {', '.join(ms)}" for n, ms in sorted(classes.items()) if len(ms) > 1],
    }
    print(f"lines of src                  {sum(lines.values()):,}")
    print(f"files                         {len(chapters)}")
    print(f"median of lines per file      {statistics.median(chapters.values()):.0f}")
    for title, names in counted.items():
        print(f"{title:29} {len(names)}")
        if "--names" in sys.argv[1:]:
            print(*(f"    {name}" for name in names), sep="\n")


if __name__ == "__main__":
    main()
