"""How a section was made: its parameters, and the command that makes it again."""

import ast
import contextlib
import shlex

# Parameters that the Makefile takes by a name of their own; all others go into PARAMS.
FLAGS = ("seeds", "max_seeds", "epochs", "batch_size", "dataset", "backend", "processes")


def declared_parameters(notebook):
    """name -> default of the parameters that a notebook declares in its cell tagged `parameters`."""
    found = {}
    for cell in notebook.cells:
        if cell.cell_type == "code" and "parameters" in cell.metadata.get("tags", []):
            for node in ast.parse(cell.source).body:
                if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                    target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
                    # What is no literal was computed, and what is no name is no parameter.
                    with contextlib.suppress(ValueError, TypeError):
                        if isinstance(target, ast.Name):
                            found[target.id] = ast.literal_eval(node.value)
    return found


def read_recipe(notebook, defaults):
    """How an executed section notebook was made: {"command": str, "parameters": name -> value}.

    defaults: name -> default of parameters that this or another notebook of the report declares. Those that papermill
    was given are in the notebook's metadata; the command holds those that differ.
    """
    given = notebook.metadata.get("papermill", {}).get("parameters", {})
    values = {**declared_parameters(notebook), **given}
    changed = {name: value for name, value in given.items() if name not in defaults or defaults[name] != value}
    number = notebook.metadata["lrlib"]["section"]  # its file may be called otherwise
    words = [f"make section NAME={number.replace('.', '-') or '0'}"]
    words += [f"{name.upper()}={changed[name]}" for name in FLAGS if name in changed]
    others = " ".join(f"{name}={value}" for name, value in changed.items() if name not in FLAGS)
    words += [f"PARAMS={shlex.quote(others)}"] if others else []
    return {"command": " ".join(words), "parameters": values}


def describe_parameters(parameters):
    """`seeds=1, epochs=30, ...`: parameters as Python has them."""
    return ", ".join(f"{name}={value!r}" for name, value in parameters.items())
