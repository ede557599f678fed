"""One way out: nothing that depends on data is charged or sealed anywhere else."""

import ast
from pathlib import Path

import clients


def calls(path: Path) -> set[str]:
    """Names of the methods that a module calls."""
    tree = ast.parse(path.read_text())
    found = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {function.attr for function in found if isinstance(function, ast.Attribute)}


def test_there_is_one_way_out() -> None:
    rooms = {path: calls(path) for path in Path(clients.__file__).parent.rglob("*.py")}
    for call in ("reserve", "seal", "discrete_gaussian", "noised", "quantised"):
        places = {path.name for path, made in rooms.items() if call in made}
        expected = {
            "reserve": {"release.py"},
            "seal": {"release.py"},
            "discrete_gaussian": {"asking.py", "validation.py"},
            "noised": {"training.py"},
            "quantised": {"training.py"},
        }[call]
        assert places == expected, call
