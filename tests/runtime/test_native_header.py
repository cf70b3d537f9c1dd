"""runtime/_native.py says what the C header says: values, struct fields, prototypes."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from mindir_llm.runtime import _native

HEADER = Path(__file__).parents[2] / "runtime" / "engine" / "include" / "mindir_llm.h"
CODE = re.sub(r"/\*.*?\*/", " ", HEADER.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize(
    ("enum", "twin"),
    [
        ("mllm_status", _native.STATUS),
        ("mllm_dtype", _native.DTYPE),
        ("mllm_token_kind", _native.TOKEN_KIND),
        ("mllm_encode_flags", _native.ENCODE_FLAGS),
        ("mllm_grammar_kind", _native.GRAMMAR_KIND),
        ("mllm_log_level", _native.LOG_LEVEL),
        ("mllm_memory_kind", _native.MEMORY_KIND),
        ("mllm_finish_reason", _native.FINISH_REASON),
        ("mllm_context_full", _native.CONTEXT_FULL),
        ("mllm_priority", _native.PRIORITY),
    ],
)
def test_enums(enum: str, twin: dict[str, int]) -> None:
    body = re.search(rf"typedef enum {enum} \{{(.*?)\}} {enum};", CODE, re.DOTALL)
    assert body is not None
    assert {name: int(value) for name, value in re.findall(r"(\w+) = (\d+)", body[1])} == twin


def test_abi_version() -> None:
    assert f"#define MLLM_ABI_VERSION {_native.ABI_VERSION}\n" in CODE


# How a C declaration is written in ctypes.
BASE = {
    "uint32_t": ctypes.c_uint32,
    "int32_t": ctypes.c_int32,
    "int64_t": ctypes.c_int64,
    "uint64_t": ctypes.c_uint64,
    "size_t": ctypes.c_size_t,
    "double": ctypes.c_double,
    "float": ctypes.c_float,
    "mllm_dtype": ctypes.c_int,
    **dict.fromkeys(re.findall(r"typedef enum (\w+)", CODE), ctypes.c_int),
    "mllm_log_callback": _native.LogCallback,
    "mllm_allocate_callback": _native.AllocateCallback,
    "mllm_release_callback": _native.ReleaseCallback,
    "mllm_progress_callback": _native.ProgressCallback,
    "mllm_piece_callback": _native.PieceCallback,
    "mllm_status": _native._CHECK,
}
HANDLES = re.findall(r"typedef struct (\w+) \1;", CODE)


def translate(declaration: str) -> object:
    words = declaration.replace("const", " ").replace("*", " * ").split()
    stars = words.count("*")
    base = next(word for word in words if word != "*")
    if base == "void" and stars == 0:
        return None
    if base in ("void", "char") and stars:
        kind: object = ctypes.c_void_p if base == "void" else ctypes.c_char_p
        stars -= 1
    elif base in HANDLES:
        kind, stars = ctypes.c_void_p, stars - 1
    else:
        kind = _native.STRUCTS[base] if base in _native.STRUCTS else BASE[base]
    for _ in range(stars):
        kind = ctypes.POINTER(kind)  # type: ignore[call-overload]
    return kind


def split_name(declaration: str) -> tuple[str, str]:
    match = re.fullmatch(r"(.*?)(\w+)", declaration.strip(), re.DOTALL)
    assert match is not None
    return match[1], match[2]


def test_structs() -> None:
    found = {name: body for body, name in re.findall(r"typedef struct \w+ \{(.*?)\} (\w+);", CODE, re.DOTALL)}
    assert set(found) == set(_native.STRUCTS)
    for name, body in found.items():
        fields = [split_name(line) for line in body.split(";") if line.strip()]
        assert [(field, translate(kind)) for kind, field in fields] == list(_native.STRUCTS[name]._fields_), (
            name
        )


def test_prototypes() -> None:
    found = re.findall(r"MLLM_API ([\w\s*]+?)(\w+)\(([^)]*)\);", CODE)
    assert {name for _, name, _ in found} == set(_native.PROTOTYPES)
    for result, name, arguments in found:
        kinds = [] if arguments == "void" else [translate(split_name(one)[0]) for one in arguments.split(",")]
        assert (translate(result), tuple(kinds)) == _native.PROTOTYPES[name], name


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_struct_sizes_as_the_compiler_sees_them(tmp_path: Path) -> None:
    source = tmp_path / "sizes.c"
    prints = "".join(f'printf("%zu ", sizeof({name}));' for name in _native.STRUCTS)
    source.write_text(f'#include <stdio.h>\n#include "{HEADER}"\nint main(void) {{ {prints} return 0; }}\n')
    subprocess.run(
        ["cc", "-std=c99", "-Wall", "-Werror", str(source), "-o", str(tmp_path / "sizes")], check=True
    )
    printed = subprocess.run([str(tmp_path / "sizes")], check=True, capture_output=True, text=True).stdout
    assert [int(size) for size in printed.split()] == [ctypes.sizeof(one) for one in _native.STRUCTS.values()]
