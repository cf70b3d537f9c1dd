"""The work folder of a comparison: virtual environments, converted models and logs, each made once."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindir_llm.tools.compare_peers.errors import CompareError

__all__ = ["Environment", "Site", "folder_bytes", "run_json"]

# Converters look for updates of what they are given by path; there is nothing to be found for random weights.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
_NICENESS = 10


@dataclass(frozen=True)
class Environment:
    """A virtual environment. requirements: as pip takes them, pinned. remove: packages that come along but
    break it. options: of pip's install. variables: for building from source."""

    name: str
    requirements: tuple[str, ...]
    remove: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Site:
    """A work folder. threads: for converters that take a number. say: is told what starts."""

    workdir: Path
    threads: int
    say: Callable[[str], None] = lambda _: None

    def python(self, environment: Environment) -> Path:
        """The environment's interpreter."""
        return self.workdir / "environments" / environment.name / "bin" / "python"

    def program(self, environment: Environment, name: str) -> str:
        """A console script of the environment."""
        return str(self.python(environment).with_name(name))

    def ensure(self, environment: Environment) -> None:
        """Create the environment and install into it, unless that is done. CompareError: pip's reason."""
        python = self.python(environment)
        folder = python.parent.parent
        marker = folder / "requirements.json"
        wanted = json.dumps([environment.requirements, environment.remove])
        if marker.exists() and marker.read_text() == wanted:
            return
        self.say(f"environment {environment.name}: {' '.join(environment.requirements)}")
        log = f"pip-{environment.name}"
        # A pip from outside can install into an environment that has none; without it, venv brings one.
        outside = importlib.util.find_spec("pip") is not None
        if not python.exists():
            self.run(
                [sys.executable, "-m", "venv", *(["--without-pip"] if outside else []), str(folder)], log
            )
        pip = (
            [sys.executable, "-m", "pip", "--python", str(python)] if outside else [str(python), "-m", "pip"]
        )
        variables = dict(environment.variables)
        self.run([*pip, "install", *environment.options, *environment.requirements], log, variables)
        if environment.remove:
            self.run([*pip, "uninstall", "--yes", *environment.remove], log)
        marker.write_text(wanted)

    def convert(self, target: Path, make: Callable[[Path], None]) -> Path:
        """target, a folder; if it is absent, make fills another one, which gets its name when it is whole."""
        if target.exists():
            return target
        self.say(f"converting {target.relative_to(self.workdir)}")
        part = target.with_name(target.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        make(part)
        part.rename(target)
        return target

    def run(self, command: Sequence[str], log: str, variables: Mapping[str, str] | None = None) -> None:
        """Run a command, politely; its output is appended to logs/LOG.log. CompareError: its last words."""
        path = self.workdir / "logs" / f"{log}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            start = file.tell()
            file.write(f"$ {' '.join(command)}\n".encode())
            file.flush()
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**_clean_environment(), **(variables or {})},
                preexec_fn=lambda: os.nice(_NICENESS) and None,
            )
        if done.returncode:
            with path.open("rb") as file:
                file.seek(start)
                words = file.read().decode("utf-8", "replace").split("\n")
            said = [line.strip() for line in words if line.strip()]
            raise CompareError(f"{Path(command[0]).name} {status_text(done.returncode)}: {said[-1]} ({path})")

    def ask(self, environment: Environment, code: str, *arguments: str) -> Any:
        """Run a piece of Python in an environment; what it prints is JSON."""
        command = [str(self.python(environment)), "-c", code, *arguments]
        return run_json(command, None, _clean_environment())


def run_json(
    command: Sequence[str], request: Any, variables: Mapping[str, str] | None, timeout: float | None = None
) -> Any:
    """Run a program that reads a JSON request and prints JSON as its last line. CompareError: why not.

    variables: the whole environment; None inherits. timeout in seconds.
    """
    program = next((Path(word).name for word in command if word.endswith(".py")), Path(command[0]).name)
    try:
        done = subprocess.run(
            command, input=json.dumps(request), capture_output=True, text=True, env=variables, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        raise CompareError(f"{program} did not end within {timeout:.0f} s") from None
    except OSError as error:
        raise CompareError(f"{command[0]}: {error.strerror}") from None
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = done.stderr.strip().splitlines() or ["it said nothing"]
        raise CompareError(f"{program} {status_text(done.returncode)}: {said[-1]}")
    return json.loads(lines[-1])


def status_text(status: int) -> str:
    """An exit status in words."""
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def folder_bytes(folder: Path) -> int:
    """Size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def worker_environment(threads: int, *, ours: bool) -> dict[str, str]:
    """Variables for a measured process; ours sees this process's Python path, the others do not."""
    variables = dict(os.environ) if ours else _clean_environment()
    return {**variables, "OMP_NUM_THREADS": str(threads)}


def _clean_environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, **_OFFLINE}
