"""Compares which crate depends on which with the picture in pkg/README.md.

The picture is the fenced block `arrows`: one line a crate, `pull -> oci spool`, each arrow written out. It and the
Cargo.toml files must say the same, in both directions; a crate marked `(dev)` may be nobody's dependency outside tests.
"""

import json
import re
import subprocess
import sys

README = "pkg/README.md"
LINE = re.compile(r"^(?P<name>[\w-]+)(?P<dev> \(dev\))? ->(?P<on>( [\w-]+)*)$")


def picture(text):
    """The arrows as drawn, and the names of the crates that are for tests only."""
    block = re.search(r"^```arrows\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    if block is None:
        sys.exit(f"{README}: no block ```arrows")
    arrows, dev = {}, set()
    for line in block[1].splitlines():
        parsed = LINE.match(re.sub(r" +", " ", line.rstrip()))
        if parsed is None:
            sys.exit(f"{README}: not an arrows line: {line}")
        arrows[parsed["name"]] = set(parsed["on"].split())
        if parsed["dev"]:
            dev.add(parsed["name"])
    return arrows, dev


def manifests():
    """The arrows as Cargo knows them: normal and build dependencies between crates of the workspace, optional ones too."""
    command = ["cargo", "metadata", "--locked", "--no-deps", "--format-version", "1"]
    packages = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)["packages"]
    names = {package["name"] for package in packages}
    return {
        package["name"]: {
            dependency["name"]
            for dependency in package["dependencies"]
            if dependency["kind"] != "dev" and dependency.get("path") and dependency["name"] in names
        }
        for package in packages
    }


def differences(drawn, real, dev, text):
    """One sentence for each place where picture, Cargo.toml and table disagree."""
    for name in sorted(drawn.keys() | real.keys()):
        if name not in real:
            yield f"{name} is drawn and is no crate of the workspace"
            continue
        if name not in drawn:
            yield f"{name} is a crate and is not drawn"
            continue
        for other in sorted(real[name] - drawn[name]):
            yield f"{name} -> {other} is in Cargo.toml and not in the picture"
        for other in sorted(drawn[name] - real[name]):
            yield f"{name} -> {other} is in the picture and not in Cargo.toml"
        for other in sorted(real[name] & dev):
            yield f"{name} -> {other}: {other} is for tests only, it belongs into [dev-dependencies]"
        if not re.search(rf"^\| `{re.escape(name)}`", text, re.MULTILINE):
            yield f"{name} has no sentence in the table"


def main():
    with open(README, encoding="utf-8") as file:
        text = file.read()
    drawn, dev = picture(text)
    found = list(differences(drawn, manifests(), dev, text))
    for sentence in found:
        print(f"{README}: {sentence}")
    if found:
        sys.exit(1)
    print(f"{sum(map(len, drawn.values()))} arrows between {len(drawn)} crates, as drawn")


main()
