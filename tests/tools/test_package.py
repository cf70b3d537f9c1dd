"""Packages: the same bytes whenever they are made, checksums that fit, tags that say what a library needs."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from mindir_llm.runtime._native import library
from mindir_llm.tools.package import targets, zig
from mindir_llm.tools.package.appliance import write_appliance
from mindir_llm.tools.package.archive import checksums, write_tar
from mindir_llm.tools.package.build import Built, repository
from mindir_llm.tools.package.command import main
from mindir_llm.tools.package.cross import PROCESSORS, emulated_text, emulator, text_here
from mindir_llm.tools.package.deb import write_deb
from mindir_llm.tools.package.elf import Needs, check_needs, read_needs
from mindir_llm.tools.package.errors import PackageError
from mindir_llm.tools.package.layout import write_archive, write_static_archive
from mindir_llm.tools.package.measure import Measurement, measure, read_record, record, run_on_one_core
from mindir_llm.tools.package.readme import package_readme
from mindir_llm.tools.package.sbom import RUNTIMES, sbom
from mindir_llm.tools.package.targets import find_target
from mindir_llm.tools.package.wheel import platform_tag, write_wheel

X86 = find_target("x86_64")
NEEDS = Needs(62, ("libc.so.6", "libstdc++.so.6"), {"GLIBC": "2.34", "GLIBCXX": "3.4.29"})


@pytest.fixture
def built(tmp_path: Path) -> Built:
    """What a build would have left, with text instead of programs."""
    for tree, folder in (("tree", "lib"), ("debian-tree", f"lib/{X86.triple}")):
        root, libraries = tmp_path / tree, tmp_path / tree / folder
        for path in (
            root / "bin/mindir-llm",
            libraries / "libmindir_llm.so.0.1.0",
            libraries / "libmindir_llm.a",
            root / "include/mindir_llm.h",
            root / "share/man/man1/mindir-llm.1",
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"this is {path.name}\n" * 100)
        (root / "bin" / "mindir-llm").chmod(0o755)
        (libraries / "libmindir_llm.so.1").symlink_to("libmindir_llm.so.0.1.0")
        (libraries / "libmindir_llm.so").symlink_to("libmindir_llm.so.1")
    static = tmp_path / "mindir-llm-static"
    static.write_text("this is static\n")
    return Built(X86, tmp_path / "tree", tmp_path / "debian-tree", static, NEEDS, NEEDS)


def unpacked(archive: Path, to: Path) -> Path:
    with tarfile.open(archive) as tar:
        tar.extractall(to, filter="data")
    (root,) = to.iterdir()
    return root


def test_tar_depends_on_names_content_and_the_executable_bit_only(tmp_path: Path) -> None:
    contents = {"b/two": b"2", "a": b"1" * 70_000, "b/one": b""}
    made = []
    for order in (list(contents), sorted(contents)):
        root = tmp_path / f"{len(made)}" / "root"
        for name in order:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(contents[name])
            (root / name).chmod(0o755 if name == "a" else (0o600, 0o664)[len(made)])
            os.utime(root / name, (len(made) * 1e6, len(made) * 1e6))
        archive = tmp_path / f"{len(made)}.tar.gz"
        write_tar(root, archive)
        made.append(archive.read_bytes())
    assert made[0] == made[1]
    with tarfile.open(tmp_path / "0.tar.gz") as tar:
        members = {m.name: m for m in tar.getmembers()}
    assert list(members) == ["root", "root/a", "root/b", "root/b/one", "root/b/two"]
    assert {(m.uid, m.gid, m.uname) for m in members.values()} == {(0, 0, "")}
    assert (members["root/a"].mode, members["root/b/two"].mode) == (0o755, 0o644)


def test_archives_hold_what_their_checksums_say(built: Built, tmp_path: Path) -> None:
    for write in (write_archive, write_static_archive):
        archive = write(built, "0.1.0", tmp_path / "work", tmp_path)
        root = unpacked(archive, tmp_path / write.__name__)
        listed = dict(reversed(line.split("  ")) for line in (root / "SHA256SUMS").read_text().splitlines())
        files = [p for p in root.rglob("*") if p.is_file() and not p.is_symlink() and p.name != "SHA256SUMS"]
        assert listed == {
            p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
        }
        assert {"LICENSE", "README.md", "sbom.spdx.json", "bin/mindir-llm"} <= set(listed)
        assert os.access(root / "bin" / "mindir-llm", os.X_OK)
        again = write(built, "0.1.0", tmp_path / "elsewhere", tmp_path / "work")
        assert again.read_bytes() == archive.read_bytes()


def test_sbom_names_every_file_and_what_is_linked_in(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "x").write_text("x")
    (tmp_path / "y").write_text("y")
    document = json.loads(json.dumps(sbom(tmp_path, "0.1.0", RUNTIMES)))
    assert document["spdxVersion"] == "SPDX-2.3" and document["dataLicense"] == "CC0-1.0"
    assert [f["fileName"] for f in document["files"]] == ["./bin/x", "./y"]
    # SPDX's verification code: SHA-1 over the files' SHA-1s in order.
    sha1s = sorted(hashlib.sha1(text).hexdigest() for text in (b"x", b"y"))
    code = hashlib.sha1("".join(sha1s).encode()).hexdigest()
    package = document["packages"][0]
    assert package["packageVerificationCode"]["packageVerificationCodeValue"] == code
    identifiers = {e["SPDXID"] for part in ("packages", "files") for e in document[part]} | {
        "SPDXRef-DOCUMENT"
    }
    for relation in document["relationships"]:
        assert {relation["spdxElementId"], relation["relatedSpdxElement"]} <= identifiers
    linked = [r for r in document["relationships"] if r["relationshipType"] == "STATIC_LINK"]
    assert len(linked) == 2


@pytest.mark.parametrize(
    ("versions", "tag"),
    [
        ({"GLIBC": "2.17", "GLIBCXX": "3.4.19"}, "manylinux_2_28_x86_64"),
        ({"GLIBC": "2.18"}, "manylinux_2_28_x86_64"),
        ({"GLIBC": "2.33", "GLIBCXX": "3.4.29"}, "manylinux_2_34_x86_64"),
        ({"GLIBC": "2.36", "GLIBCXX": "3.4.29"}, "manylinux_2_36_x86_64"),
    ],
)
def test_wheel_tag_is_the_oldest_system_that_has_all_symbols(versions: dict[str, str], tag: str) -> None:
    assert platform_tag(Needs(62, (), versions), "x86_64") == tag


def test_wheel_tag_beyond_what_is_known_is_an_error() -> None:
    with pytest.raises(PackageError, match=r"GLIBCXX_3\.4\.99"):
        platform_tag(Needs(62, (), {"GLIBCXX": "3.4.99"}), "x86_64")


def test_wheel_records_its_files_and_leaves_the_engine_out(built: Built, tmp_path: Path) -> None:
    wheel = write_wheel(built, tmp_path)
    assert wheel.name == "mindir_llm-0.1.0-py3-none-manylinux_2_34_x86_64.whl"
    content = wheel.read_bytes()
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        record = archive.read("mindir_llm-0.1.0.dist-info/RECORD").decode().splitlines()
        for line in record:
            name, digest, size = line.rsplit(",", 2)
            if digest:
                data = archive.read(name)
                packed = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                assert (digest, size) == (f"sha256={packed}", str(len(data)))
        assert {line.rsplit(",", 2)[0] for line in record} == names
        metadata = archive.read("mindir_llm-0.1.0.dist-info/METADATA").decode()
    assert "Name: mindir-llm" in metadata and "Requires-Dist: numpy" in metadata
    assert {"mindir_llm/runtime/libmindir_llm.so", "mindir_llm/runtime/cli.py"} <= names
    assert not [name for name in names if "/engine/" in name or name.endswith((".cpp", ".pyc"))]
    assert write_wheel(built, tmp_path).read_bytes() == content


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb (Debian package dpkg)")
def test_deb_has_the_tree_and_asks_for_its_libraries(
    built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEBFULLNAME", "Jo Doe")
    monkeypatch.setenv("DEBEMAIL", "jo@example.org")
    package = write_deb(built, "0.1.0", tmp_path / "work", tmp_path)
    fields = subprocess.run(["dpkg-deb", "-f", package], capture_output=True, text=True, check=True).stdout
    assert "Architecture: amd64" in fields and "Version: 0.1.0-1" in fields
    assert "Depends: libc6 (>= 2.34), libgcc-s1 (>= 3.0), libstdc++6 (>= 11)" in fields
    content = subprocess.run(["dpkg-deb", "-c", package], capture_output=True, text=True, check=True).stdout
    assert "Maintainer: Jo Doe <jo@example.org>" in fields
    assert "./usr/bin/mindir-llm" in content and "./usr/share/man/man1/mindir-llm.1.gz" in content
    assert "./usr/lib/x86_64-linux-gnu/libmindir_llm.so -> libmindir_llm.so.1" in content
    assert content.count("root/root") == len(content.splitlines())
    root = tmp_path / "unpacked"
    subprocess.run(["dpkg-deb", "-R", package, root], check=True)
    assert (root / "DEBIAN" / "shlibs").read_text() == "libmindir_llm 1 mindir-llm (>= 0.1.0)\n"
    changes = gzip.decompress((root / "usr/share/doc/mindir-llm/changelog.Debian.gz").read_bytes())
    assert changes.startswith(b"mindir-llm (0.1.0-1)")
    again = write_deb(built, "0.1.0", tmp_path / "elsewhere", tmp_path / "work")
    assert again.read_bytes() == package.read_bytes()


def test_appliance_brings_model_and_executable(built: Built, tmp_path: Path) -> None:
    bundle = tmp_path / "tales"
    bundle.mkdir()
    with pytest.raises(PackageError, match=r"tales: no bundle: manifest\.json is missing"):
        write_appliance(built, "0.1.0", bundle, tmp_path / "work", tmp_path)
    (bundle / "manifest.json").write_text("{}")
    root = unpacked(write_appliance(built, "0.1.0", bundle, tmp_path / "work", tmp_path), tmp_path / "to")
    assert root.name == "tales-linux-x86_64"
    assert (root / "bundle" / "manifest.json").read_text() == "{}"
    assert (root / "mindir-llm").read_text() == "this is static\n"
    assert os.access(root / "run", os.X_OK) and os.access(root / "mindir-llm", os.X_OK)
    assert checksums(root) == (root / "SHA256SUMS").read_text()


def by_zig(built: Built) -> Built:
    """The same as Zig's compiler would have left it."""
    needs = Needs(62, ("libc.so.6", "libm.so.6"), {"GLIBC": "2.18"})
    return replace(built, executable_needs=needs, library_needs=needs, linked_in=zig.RUNTIMES)


def test_what_zig_links_in_is_in_the_bill_of_materials(built: Built, tmp_path: Path) -> None:
    archives = {
        kind: write_archive(one, "0.1.0", tmp_path / kind, tmp_path / kind)
        for kind, one in (("gcc", built), ("zig", by_zig(built)))
        if (tmp_path / kind).mkdir() is None
    }
    names = {}
    for kind, archive in archives.items():
        document = json.loads((unpacked(archive, tmp_path / f"{kind}-to") / "sbom.spdx.json").read_text())
        names[kind] = [package["name"] for package in document["packages"]]
    assert names == {"gcc": ["mindir-llm"], "zig": ["mindir-llm", *(name for name, _ in zig.RUNTIMES)]}
    assert "libc++" in names["zig"]


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb (Debian package dpkg)")
def test_a_deb_asks_for_no_runtime_that_is_linked_in(built: Built, tmp_path: Path) -> None:
    package = write_deb(by_zig(built), "0.1.0", tmp_path / "work", tmp_path)
    fields = subprocess.run(["dpkg-deb", "-f", package], capture_output=True, text=True, check=True).stdout
    assert "\nDepends: libc6 (>= 2.18)\n" in fields


@pytest.mark.parametrize(
    ("versions", "refused"),
    [
        ({"GLIBC": "2.28"}, None),
        ({"GLIBC": "2.29"}, "GLIBC_2.29, and GLIBC_2.28 is the newest"),
        ({"GLIBC": "2.17", "GLIBCXX": "3.4"}, "GLIBCXX_3.4, and there must be no"),
        ({"GLIBC": "2.17", "CXXABI": "1.3"}, "CXXABI_1.3, and there must be no"),
        ({"GCC": "3.0"}, "GCC_3.0, and there must be no"),
    ],
)
def test_zig_must_need_no_newer_system_and_no_other_runtime(
    versions: dict[str, str], refused: str | None
) -> None:
    needs = Needs(X86.elf_machine, ("libc.so.6",), versions)
    if refused is None:
        check_needs(Path("x"), needs, X86, zig.NEWEST)
    else:
        with pytest.raises(PackageError, match=refused):
            check_needs(Path("x"), needs, X86, zig.NEWEST)


def test_zig_is_used_where_it_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "ziglang").mkdir()
    (tmp_path / "ziglang" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "ziglang", raising=False)
    monkeypatch.setattr(zig.shutil, "which", lambda program: None)
    assert zig.find_zig(None) is None  # a package without the program
    assert main(["--compiler", "zig", "--target", "host"]) == 1
    assert capsys.readouterr().err == "error: zig is missing: pip install ziglang\n"
    (tmp_path / "ziglang" / "zig").touch()
    assert zig.find_zig(None) == zig.find_zig("zig") == tmp_path / "ziglang" / "zig"
    assert zig.find_zig("gcc") is None


PROGRAM = """
#include <charconv>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <sys/stat.h>
extern "C" void say() {
  struct stat status;
  double value = 0;
  const std::string text = "2.5";
  std::from_chars(text.data(), text.data() + text.size(), value);
  try {
    if (::stat("/", &status) == 0) throw std::runtime_error(std::to_string(value));
  } catch (const std::exception& error) {
    std::puts(std::make_shared<std::string>(error.what())->c_str());
  }
}
"""


@pytest.mark.skipif(zig.find_zig(None) is None, reason="needs Zig: pip install ziglang")
@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump (Debian package binutils)")
def test_the_toolchain_file_makes_programs_for_old_systems(tmp_path: Path) -> None:
    """With all that asks for a newer one where Debian's compiler has it."""
    host = find_target("host")
    if host.name not in zig.TARGETS:
        pytest.skip(f"no packages of {host.name} come from Zig")
    (tmp_path / "part.cpp").write_text(PROGRAM)
    (tmp_path / "main.c").write_text("void say(void);\nint main(void) { say(); }\n")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.20)\nproject(old C CXX)\nset(CMAKE_CXX_STANDARD 20)\n"
        "add_library(part STATIC part.cpp)\nadd_executable(old main.c)\ntarget_link_libraries(old part)\n"
    )
    toolchain = repository() / "runtime" / "engine" / "cmake" / "toolchains" / "zig.cmake"
    cmake = Path(sys.executable).with_name("cmake")
    command = [str(cmake) if cmake.exists() else "cmake"]
    settings = [f"-DMLLM_ZIG={zig.find_zig('zig')}", f"-DMLLM_ZIG_MACHINE={host.name}"]
    configure = ["-S", str(tmp_path), "-B", str(tmp_path / "build"), f"-DCMAKE_TOOLCHAIN_FILE={toolchain}"]
    subprocess.run([*command, *configure, *settings], check=True, capture_output=True)
    subprocess.run([*command, "--build", str(tmp_path / "build")], check=True, capture_output=True)
    program = tmp_path / "build" / "old"
    check_needs(program, read_needs(program, "objdump"), host, zig.NEWEST)
    assert subprocess.run([program], capture_output=True, text=True, check=True).stdout == "2.500000\n"


@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump (Debian package binutils)")
def test_needs_are_read_from_the_engine_itself() -> None:
    path = Path(library()._name)
    needs = read_needs(path, "objdump")
    assert "libc.so.6" in needs.libraries and "GLIBC" in needs.versions
    other = find_target("riscv64")
    with pytest.raises(PackageError, match="not for riscv64"):
        check_needs(path, needs, other)
    host = find_target(platform.machine())
    newer = Needs(host.elf_machine, needs.libraries, {**needs.versions, "GLIBC": "2.99"})
    with pytest.raises(PackageError, match=r"needs GLIBC_2\.99, and GLIBC_2\.34 is the newest"):
        check_needs(path, newer, host)
    strange = Needs(host.elf_machine, ("libfoo.so.1",), {})
    with pytest.raises(PackageError, match=r"needs libfoo\.so\.1"):
        check_needs(path, strange, host)


@pytest.fixture(scope="module")
def demo_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `make demo` exports it."""
    from mindir_llm.export import ExportOptions, export_bundle

    checkpoint = Path(__file__).resolve().parents[2] / "tools" / "demo_model" / "checkpoint"
    path = tmp_path_factory.mktemp("demo") / "bundle"
    export_bundle(checkpoint, path, ExportOptions(quant="a16w8"))
    return path


def test_the_record_of_memory_is_true(executable: Path, demo_bundle: Path) -> None:
    """Time is another matter: this machine may be busy, or another one."""
    recorded = read_record(platform.machine(), "dynamic")
    if recorded is None:
        pytest.skip("nothing on record for machines of this kind")
    found = measure(executable, demo_bundle, runs=3)
    assert found.model == recorded.model
    assert 0.7 * recorded.peak_bytes < found.peak_bytes < 1.3 * recorded.peak_bytes
    assert 0 < found.seconds < 60


def test_peaks_are_those_of_the_command_alone() -> None:
    """Not of the Python that starts it, which has more."""
    ballast = bytearray(b"x" * 30_000_000)
    _, nothing = run_on_one_core(["/bin/sh", "-c", "true"])
    program = "ballast = b'x' * int('40000000')"
    _, something = run_on_one_core([sys.executable, "-I", "-S", "-c", program])
    assert len(ballast) == 30_000_000
    assert nothing < 12_000_000 and 40_000_000 < something < 70_000_000


def test_readmes_say_what_was_measured(
    built: Built, executable: Path, demo_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = replace(built, target=find_target("host"), static_executable=executable)
    shutil.copyfile(executable, here.tree / "bin" / "mindir-llm")
    path = tmp_path / "measured.json"
    found = record(here, demo_bundle, path)
    assert found == {kind: read_record(platform.machine(), kind, path) for kind in ("dynamic", "static")}
    with pytest.raises(PackageError, match="only executables of this machine"):
        record(replace(here, target=find_target("riscv64")), demo_bundle, path)
    monkeypatch.setattr(
        "mindir_llm.tools.package.readme.read_record",
        lambda machine, kind: (
            Measurement("a Z80", "int1", 1.5, 2_000_000, 7) if machine == "x86_64" else None
        ),
    )
    ours = " ".join(package_readme("x86_64", "0.1.0", NEEDS).split())
    assert "(int1) on one core of a Z80: from start to the first token 1500.0 ms, with at most 2.0 MB" in ours
    other = " ".join(package_readme("riscv64", "0.1.0", None).split())
    assert "nothing was measured yet. For comparison, on x86_64: The demo model" in other


def test_measuring_needs_an_executable_that_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    other = "riscv64" if platform.machine() != "riscv64" else "x86_64"
    monkey = ["--target", other, "--measure", str(tmp_path)]
    assert main(monkey) == 1
    assert "error: " in capsys.readouterr().err
    with pytest.raises(PackageError, match="failed with status 127"):
        measure(tmp_path / "nothing", tmp_path)


def test_missing_tools_and_targets_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(targets.shutil, "which", lambda program: None)
    assert main(["--target", "riscv64"]) == 1
    expected = "riscv64-linux-gnu-g++ is missing: apt-get install g++-riscv64-linux-gnu"
    if platform.machine() != "riscv64":
        assert capsys.readouterr().err == f"error: {expected}\n"
    assert main(["--target", "vax"]) == 1
    assert "no target 'vax': there are x86_64, aarch64, armv7, riscv64" in capsys.readouterr().err


@pytest.mark.parametrize("target", sorted(PROCESSORS))
def test_emulated_machines_write_the_same_text(target: str) -> None:
    root = Path(__file__).resolve().parents[2]
    executable = root / "build" / f"cross-{target}" / "runtime" / "engine" / "mindir-llm"
    bundle = root / "build" / "test-bundles" / "cpu-a16w8"
    if emulator(target) is None or not executable.is_file() or not bundle.is_dir():
        pytest.skip(f"run make test-cross-{target} once: it builds what is emulated here")
    processor = PROCESSORS[target][0]
    assert emulated_text(target, processor, executable, bundle) == text_here(bundle, processor)
