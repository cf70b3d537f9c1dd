"""Programs built against an installed tree, as embedders build them: find_package and pkg-config."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "runtime" / "engine" / "examples"
TEMPLATE = "{% for m in messages %}{{ m.content }}\n{% endfor %}"

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def compile_with_cmake(prefix: Path, build: Path) -> None:
    cmake = Path(sys.executable).with_name("cmake")
    program = str(cmake) if cmake.exists() else "cmake"
    configure = [program, "-S", str(EXAMPLES), "-B", str(build), f"-DCMAKE_PREFIX_PATH={prefix}"]
    for command in (configure, [program, "--build", str(build)]):
        subprocess.run(command, check=True, capture_output=True)


def compile_with_pkg_config(prefix: Path, build: Path) -> None:
    (folder,) = prefix.glob("lib*/**/pkgconfig")
    environment = {**os.environ, "PKG_CONFIG_PATH": str(folder)}

    def flags(*words: str) -> list[str]:
        command = ["pkg-config", *words, "mindir_llm"]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment
        ).stdout.split()

    build.mkdir()
    strict = ["-Wall", "-Wextra", "-Werror"]
    shared = [*flags("--cflags", "--libs"), f"-Wl,-rpath,{folder.parent}"]
    subprocess.run(
        [
            "cc",
            "-std=c99",
            "-D_POSIX_C_SOURCE=200809L",
            *strict,
            EXAMPLES / "chat.c",
            "-o",
            build / "chat",
            *shared,
        ],
        check=True,
    )
    static = [
        f"{folder.parent}/libmindir_llm.a" if word == "-lmindir_llm" else word
        for word in flags("--static", "--cflags", "--libs")
    ]
    subprocess.run(
        ["c++", "-std=c++20", *strict, EXAMPLES / "generate.cpp", "-o", build / "generate", *static],
        check=True,
    )


@pytest.mark.parametrize("how", ["cmake", "pkg-config"])
def test_examples(how: str, installed: Path, bundle: Path, tmp_path: Path) -> None:
    if how == "pkg-config" and shutil.which("pkg-config") is None:
        pytest.skip("needs pkg-config")
    # The tree may be moved after it was installed.
    prefix = tmp_path / "moved"
    shutil.copytree(installed, prefix, symlinks=True)
    build = tmp_path / "build"
    (compile_with_cmake if how == "cmake" else compile_with_pkg_config)(prefix, build)

    (tmp_path / "template").write_text(TEMPLATE)
    done = subprocess.run(
        [build / "chat", bundle, tmp_path / "template"],
        input="Once upon a time\nAnd then\n",
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.count("\n(") == 2 and "were still in the cache" in done.stdout
    (library,) = prefix.glob("lib*/**/libmindir_llm.so")
    library.unlink()
    for other in library.parent.glob("libmindir_llm.so.*"):
        other.unlink()
    told = subprocess.run(
        [build / "generate", bundle, "Once upon a time"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert len(told) == 2 and told[0] != told[1] and all(line.startswith("Once upon a time") for line in told)
    assert "failed" not in "".join(told)
    assert subprocess.run([build / "generate", "/nowhere", "x"], capture_output=True).returncode == 1


def test_the_example_is_short() -> None:
    assert len((EXAMPLES / "chat.c").read_text().splitlines()) < 100


def test_the_program_of_the_manual(installed: Path, bundle: Path, tmp_path: Path) -> None:
    manual = (ROOT / "docs" / "c_api.md").read_text()
    (source,) = re.findall(r"```c\n(.*?)```", manual, re.DOTALL)
    (tmp_path / "program.c").write_text(source)
    (library,) = installed.glob("lib*/**/libmindir_llm.so")
    command = [
        "cc",
        "-std=c99",
        "-Wall",
        "-Werror",
        f"-I{installed / 'include'}",
        tmp_path / "program.c",
        library,
    ]
    subprocess.run([*command, "-o", tmp_path / "program", f"-Wl,-rpath,{library.parent}"], check=True)
    done = subprocess.run([tmp_path / "program", bundle, "Once"], check=True, capture_output=True, text=True)
    assert re.search(r"\n\d+ tokens in [\d.]+ s\n$", done.stdout)
