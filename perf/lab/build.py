"""Builds the tools and sluice, and installs peers that registries have."""

import json
import shutil
import subprocess
import sys

from . import peers, process
from .process import ROOT, TARGET


def tools():
    words = ["cargo", "build", "--release", "--quiet", "--manifest-path", str(ROOT / "perf/tools/Cargo.toml")]
    subprocess.run([*words, "--target-dir", str(TARGET / "perf")], check=True)


def profile(args):
    # The figures of a quick run mean nothing, so it does without the release build's minutes of optimising.
    return "quick" if args.quick else "release"


def sluice(args):
    """The binary to measure."""
    tools()
    if args.bin:
        return args.bin.resolve()
    subprocess.run(["cargo", "build", "--profile", profile(args), "--quiet"], cwd=ROOT, check=True)
    return (TARGET / profile(args) / "sluice").resolve()


def _python():
    """The system's Python where it can make environments: distributions build theirs with more optimisation than most."""
    system = shutil.which("python3", path="/usr/bin")
    whole = system and subprocess.run([system, "-c", "import venv, ensurepip"], capture_output=True).returncode == 0
    return system if whole else sys.executable


def install(names):
    for name in names:
        if name == "portkey":
            folder = process.PEERS / "portkey"
            folder.mkdir(parents=True, exist_ok=True)
            # Newer versions of this dependency answer every stream with a 500.
            package = {"private": True, "dependencies": {"@portkey-ai/gateway": "1.15.2"}, "overrides": {"@hono/node-server": "1.8.2"}}
            (folder / "package.json").write_text(json.dumps(package))
            subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund"], cwd=folder, check=True)
        elif name in peers.PACKAGES:
            packages = peers.PACKAGES[name]
            folder = process.PEERS / name
            subprocess.run([_python(), "-m", "venv", str(folder)], check=True)
            subprocess.run([folder / "bin/pip", "install", "--quiet", *packages], check=True)
        else:
            raise SystemExit(f"{name} is not among {', '.join([*peers.PACKAGES, 'portkey'])}; nginx and haproxy come with the system")
