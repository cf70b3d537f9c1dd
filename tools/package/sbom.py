"""The bill of materials of a package, as SPDX 2.3 JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path

from mindir_llm.tools.package.archive import epoch

__all__ = ["RUNTIMES", "sbom", "write_sbom"]

# Parts of the static executable that are not ours, by name and licence.
RUNTIMES = (
    ("glibc", "LGPL-2.1-or-later"),
    ("libstdc++", "GPL-3.0-or-later WITH GCC-exception-3.1"),
)


def sbom(root: Path, version: str, linked_in: Sequence[tuple[str, str]]) -> dict[str, object]:
    """A document about the files below a folder. linked_in: what in them is not ours, by name and licence."""
    files = sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink() and path.name not in ("SHA256SUMS", "sbom.spdx.json")
    )
    entries: list[dict[str, object]] = []
    relations = [_relation("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-Package")]
    sha1s = []
    for number, path in enumerate(files):
        content = path.read_bytes()
        sha1s.append(hashlib.sha1(content).hexdigest())
        name = f"SPDXRef-File-{number}"
        entries.append(
            {
                "SPDXID": name,
                "fileName": "./" + path.relative_to(root).as_posix(),
                "checksums": [
                    {"algorithm": "SHA1", "checksumValue": sha1s[-1]},
                    {"algorithm": "SHA256", "checksumValue": hashlib.sha256(content).hexdigest()},
                ],
                "licenseConcluded": "NOASSERTION",
                "licenseInfoInFiles": ["NOASSERTION"],
                "copyrightText": "NOASSERTION",
            }
        )
        relations.append(_relation("SPDXRef-Package", "CONTAINS", name))
    code = hashlib.sha1("".join(sorted(sha1s)).encode()).hexdigest()
    packages: list[dict[str, object]] = [
        {
            **_package("SPDXRef-Package", "mindir-llm", version, "Apache-2.0"),
            "filesAnalyzed": True,
            "packageVerificationCode": {"packageVerificationCodeValue": code},
            "licenseInfoFromFiles": ["NOASSERTION"],
        }
    ]
    for name, licence in linked_in:
        identifier = f"SPDXRef-Runtime-{name.replace('+', 'p')}"
        packages.append({**_package(identifier, name, None, licence), "filesAnalyzed": False})
        relations.append(_relation("SPDXRef-Package", "STATIC_LINK", identifier))
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": root.name,
        "documentNamespace": f"https://spdx.org/spdxdocs/{root.name}-{code}",
        "creationInfo": {
            "created": datetime.fromtimestamp(epoch(), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "creators": [f"Tool: mindir-llm-package-{version}"],
        },
        "packages": packages,
        "files": entries,
        "relationships": relations,
    }


def write_sbom(root: Path, version: str, linked_in: Sequence[tuple[str, str]]) -> None:
    text = json.dumps(sbom(root, version, linked_in), indent=1) + "\n"
    (root / "sbom.spdx.json").write_text(text)


def _package(identifier: str, name: str, version: str | None, licence: str) -> dict[str, object]:
    return {
        "SPDXID": identifier,
        "name": name,
        **({"versionInfo": version} if version else {}),
        "downloadLocation": "NOASSERTION",
        "licenseConcluded": licence,
        "licenseDeclared": licence,
        "copyrightText": "NOASSERTION",
    }


def _relation(subject: str, kind: str, related: str) -> dict[str, str]:
    return {"spdxElementId": subject, "relationshipType": kind, "relatedSpdxElement": related}
