"""What of a header programs are compiled into: declarations, values, and where the compiler puts fields.

    python tests/native/abi/describe.py        adds what is new in the header to interface.json

It only ever adds: what is in interface.json is in programs out there.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
HEADER = HERE.parents[2] / "runtime" / "engine" / "include" / "mindir_llm.h"
INTERFACE = HERE / "interface.json"

Description = dict[str, dict[str, Any]]


def describe(header: Path) -> Description:
    """{"functions", "callbacks": {name: declaration}, "enums": {constant: value}, "structs": {name: {"size",
    "fields": [[name, type, offset, size], …]}}}."""
    code = re.sub(r"/\*.*?\*/", " ", header.read_text(), flags=re.DOTALL)
    functions = {
        name: _plain(f"{result} {name}({arguments})")
        for result, name, arguments in re.findall(r"MLLM_API ([\w\s*]+?)(\w+)\(([^)]*)\);", code)
    }
    callbacks = {
        name: _plain(f"{result} (*{name})({arguments})")
        for result, name, arguments in re.findall(r"typedef ([\w\s*]+?)\(\*(\w+)\)\(([^)]*)\);", code)
    }
    constants = [
        name
        for body in re.findall(r"typedef enum \w+ \{(.*?)\}", code, re.DOTALL)
        for name in re.findall(r"(\w+) =", body)
    ]
    structs = {
        name: [_field(one) for one in body.split(";") if one.strip()]
        for body, name in re.findall(r"typedef struct \w+ \{(.*?)\} (\w+);", code, re.DOTALL)
    }
    numbers = iter(_measure(header, constants, structs))
    return {
        "functions": functions,
        "callbacks": callbacks,
        "enums": {name: next(numbers) for name in constants},
        "structs": {
            name: {
                "size": next(numbers),
                "fields": [[field, kind, next(numbers), next(numbers)] for kind, field in fields],
            }
            for name, fields in structs.items()
        },
    }


def changes(old: Description, new: Description) -> list[str]:
    """Why a program that was compiled against `old` may fail with `new`; empty where it does not."""
    found = []
    for group in ("functions", "callbacks", "enums"):
        for name, value in old[group].items():
            if new[group].get(name) != value:
                found.append(f"{name}: was {value}, is {new[group].get(name)}")
    for name, was in old["structs"].items():
        now = new["structs"].get(name)
        if now is None:
            found.append(f"{name}: is gone")
            continue
        if now["fields"][: len(was["fields"])] != was["fields"]:
            found.append(f"{name}: a field has another name, type or place")
        # A structure that says its size may grow at its end; others are as large as they are.
        grows = was["fields"][0][0] == "struct_size"
        if now["size"] < was["size"] or (now["size"] > was["size"] and not grows):
            found.append(f"{name}: had {was['size']} bytes, has {now['size']}")
    return found


def _plain(text: str) -> str:
    return re.sub(r" ?(\*) ?", r"\1 ", " ".join(text.split())).replace("* *", "**").strip()


def _field(declaration: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.*?)(\w+)", declaration.strip(), re.DOTALL)
    assert match is not None, declaration
    return _plain(match[1]), match[2]


def _measure(header: Path, constants: list[str], structs: dict[str, list[tuple[str, str]]]) -> list[int]:
    wanted = [f"(long)({name})" for name in constants]
    for name, fields in structs.items():
        wanted.append(f"(long)sizeof({name})")
        for _, field in fields:
            wanted += [f"(long)offsetof({name}, {field})", f"(long)sizeof((({name}*)0)->{field})"]
    prints = "\n".join(f'  printf("%ld\\n", {one});' for one in wanted)
    source = f'#include <stdio.h>\n#include "{header}"\nint main(void) {{\n{prints}\n  return 0;\n}}\n'
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "measure.c").write_text(source)
        program = Path(folder) / "measure"
        command = ["cc", "-std=c99", "-Wall", "-Werror", str(program) + ".c", "-o", str(program)]
        subprocess.run(command, check=True)
        printed = subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout
    return [int(line) for line in printed.split()]


def main() -> int:
    described = describe(HEADER)
    if INTERFACE.exists():
        found = changes(json.loads(INTERFACE.read_text()), described)
        if found:
            print("\n".join(["programs that exist would break:", *found]))
            return 1
    INTERFACE.write_text(json.dumps(described, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
