"""Runs the tests of the official SDKs against a `sluice` binary.

Starts a scripted provider (`sluice mock`), two fakes that other people wrote (llm-katan, aimock), and a gateway in
front of them; then runs pytest and node's test runner. Only the standard library is needed to start it.

    python3 -m venv tests/sdk/.venv && tests/sdk/.venv/bin/pip install -r tests/sdk/requirements.txt
    (cd tests/sdk/node && npm ci)
    tests/sdk/.venv/bin/python tests/sdk/run.py --bin target/release/sluice --driver epoll
"""

import argparse
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
NODE_MODULES = HERE / "node" / "node_modules"

# A fault is for one key, so one mock is every provider at once. The statuses are what both SDK families map to
# exception classes.
FAULTS = [
    "status:400,key=e400",
    "key-revoked:key=e401",
    "status:403,key=e403",
    "model-not-found:key=e404",
    "status:413,key=e413",
    "status:422,key=e422",
    "status:429,key=e429,retry-after=7",
    "status:500,key=e500",
    "status:503,key=e503",
    "status:529,key=e529",
    "cut:after=3,key=-cut",
    "hang:after=3,key=stall",
    "hang:key=hang",
    "brownout:rate=0.3,retry-after=1,key=brown",
    "error-first-event:key=first-event,stream=true",
    "status:500,key=first-event,stream=false",
]


class Process:
    """A child whose output is kept, and shown when something fails."""

    def __init__(self, name, command, env):
        self.name, self.lines = name, []
        self.child = subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, errors="replace", cwd=tempfile.gettempdir(),
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.child.stdout:
            self.lines.append(line.rstrip())

    def wait_for(self, pattern, limit_s=30):
        """The first match of `pattern` in the output."""
        until = time.monotonic() + limit_s
        while time.monotonic() < until:
            for line in list(self.lines):
                if found := re.search(pattern, line):
                    return found
            if self.child.poll() is not None:
                time.sleep(0.1)  # the reader may still be behind
                break
            time.sleep(0.02)
        for line in self.lines:
            if found := re.search(pattern, line):
                return found
        raise SystemExit(f"{self.name} did not say {pattern!r}:\n" + "\n".join(self.lines))

    def stop(self):
        """Ends the child and gives its exit code."""
        if self.child.poll() is None:
            self.child.terminate()
            try:
                self.child.wait(40)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        return self.child.returncode


def free_port():
    """A port that was free a moment ago, for programs that cannot pick one."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for_http(process, url, limit_s=60):
    until = time.monotonic() + limit_s
    while time.monotonic() < until and process.child.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{process.name} does not answer at {url}:\n" + "\n".join(process.lines[-30:]))


def skip(what, why):
    print(f"SKIPPED: {what}: {why}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True, type=pathlib.Path, help="the sluice binary")
    parser.add_argument("--driver", default="auto", choices=["auto", "epoll", "io_uring"])
    parser.add_argument("--only", choices=["python", "node"], help="one of the two families")
    parser.add_argument("rest", nargs="*", help="arguments for pytest, after --")
    args = parser.parse_args()

    # Nothing of the caller's keys, proxies or base URLs may reach a test.
    drop = re.compile(r"(_API_KEY|_BASE_URL|_PROXY|_AUTH_TOKEN)$|^SLUICE_", re.IGNORECASE)
    env = {name: value for name, value in os.environ.items() if not drop.search(name)}
    binary, processes, homes, failed = str(args.bin.resolve()), [], [], []

    def start(name, command, **more):
        processes.append(Process(name, command, {**env, **more}))
        return processes[-1]

    began = time.monotonic()
    try:
        faults = [word for fault in FAULTS for word in ("--fault", fault)]
        for fault in FAULTS:
            key = re.search(r"key=-?([\w-]+)", fault)[1]
            env["SDK_KEY_" + key.upper().replace("-", "_")] = f"sk-{key}"
        env.update(SDK_KEY_WELL="sk-well", SDK_KEY_KATAN="sk-katan", SDK_KEY_AIMOCK="sk-aimock")
        mock = start("mock", [binary, "mock", "--listen", "127.0.0.1:0", "--instant", *faults])
        env["SDK_MOCK"] = "http://" + mock.wait_for(r"on http://([\d.:]+)/v1")[1]

        # A port nobody listens on stands in for a fake that is not installed: its tests skip.
        for fake in ("KATAN", "AIMOCK", "KATAN_BAD", "KATAN_LIMITED", "AIMOCK_BAD"):
            env[f"SDK_{fake}"] = "http://127.0.0.1:9"
        katan = shutil.which("llm-katan", path=str(pathlib.Path(sys.executable).parent))
        if katan:
            homes.append(home := tempfile.mkdtemp(prefix="sluice-katan-"))

            def start_katan(variable, *more):
                port = free_port()
                fake = start(
                    variable,
                    [katan, "--model", "katan", "--backend", "echo", "--providers", "openai,anthropic",
                     "--max-concurrent", "64", "--host", "127.0.0.1", "--port", str(port),
                     "--stats-file", f"{home}/{variable}.json", *more],
                )
                wait_for_http(fake, f"http://127.0.0.1:{port}/health")
                env[variable], env["SDK_HAS_KATAN"] = f"http://127.0.0.1:{port}", "1"

            start_katan("SDK_KATAN", "--validate-keys", "--api-keys", "openai=sk-katan,anthropic=sk-katan")
            start_katan("SDK_KATAN_BAD", "--error-rate", "0.3")
            # One good answer, then 429s.
            start_katan("SDK_KATAN_LIMITED", "--rate-limit-after", "1")
        else:
            skip("llm-katan", "not installed beside this Python")
        aimock = NODE_MODULES / "@copilotkit" / "aimock" / "dist" / "cli.js"
        node = shutil.which("node")
        if node and aimock.is_file():

            def start_aimock(variable, *more):
                port = free_port()
                fake = start(
                    variable, [node, str(aimock), "-p", str(port), "-f", str(HERE / "node" / "aimock.json"), *more]
                )
                wait_for_http(fake, f"http://127.0.0.1:{port}/v1/models")
                env[variable], env["SDK_HAS_AIMOCK"] = f"http://127.0.0.1:{port}", "1"

            start_aimock("SDK_AIMOCK")
            start_aimock("SDK_AIMOCK_BAD", "--chaos-drop", "0.15", "--chaos-malformed", "0.15",
                         "--chaos-disconnect", "0.15", "--chaos-ratelimit", "0.05")
        else:
            skip("aimock", "no node_modules in tests/sdk/node (npm ci)" if node else "no node")

        gateway = start(
            "gateway", [binary, "serve", "--config", str(HERE / "gateway.yaml"), "--driver", args.driver]
        )
        env["SLUICE_URL"] = gateway.wait_for(r"listens on (http://[\d.:]+)/v1")[1]
        driver = gateway.wait_for(r"workers? on (\w+)")[1]
        print(f"gateway on {env['SLUICE_URL']}, driver {driver}, started after {time.monotonic() - began:.1f} s",
              flush=True)
        if args.driver != "auto" and driver != args.driver:
            raise SystemExit(f"asked for {args.driver}, got {driver}")

        if args.only != "node":
            command = [sys.executable, "-m", "pytest", "-q", "--color=no", "-p", "no:cacheprovider", *args.rest,
                       str(HERE / "python")]
            print("$ pytest", *args.rest, flush=True)
            if subprocess.run(command, env=env, stdin=subprocess.DEVNULL, cwd=HERE / "python").returncode:
                failed.append("pytest")
        if args.only != "python":
            if not node or not NODE_MODULES.is_dir():
                skip("node's SDKs", "no node_modules in tests/sdk/node (npm ci)" if node else "no node")
            else:
                files = sorted(str(path) for path in (HERE / "node").glob("*.test.mjs"))
                print("$ node --test", flush=True)
                command = [node, "--test", "--test-reporter=spec", *files]
                if subprocess.run(command, env=env, stdin=subprocess.DEVNULL, cwd=HERE / "node").returncode:
                    failed.append("node --test")

        if gateway.child.poll() is not None:
            failed.append(f"the gateway ended by itself ({gateway.child.returncode})")
        code = gateway.stop()
        if code != 0:
            failed.append(f"the gateway's exit code was {code} after SIGTERM")
    finally:
        for process in reversed(processes):
            process.stop()
        for home in homes:
            shutil.rmtree(home, ignore_errors=True)
    if failed:
        print(f"\nFAILED on {args.driver}: {', '.join(failed)}")
        for process in processes:
            print(f"--- last lines of {process.name}", *process.lines[-20:], sep="\n")
        raise SystemExit(1)
    print(f"SDK tests passed on {args.driver} in {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
