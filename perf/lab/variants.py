"""Starts what a board measures: the provider, the variants of sluice and its peers, each with one worker on core 0."""

import subprocess

from . import peers, process
from .process import say


def certificate(folder):
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj",
         "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
         # rustls takes no authority's certificate for a server's own.
         "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )


def provider(folder, *tls, core=process.LOAD_CORE):
    port = process.free_port()
    child = process.start(core, [process.TOOLS / "upstream", f"127.0.0.1:{port}", *tls], folder / f"provider-{port}.log")
    if process.wait_for_port(port, child, 10) is None:
        raise SystemExit("the provider does not start: " + (folder / f"provider-{port}.log").read_text()[-300:])
    return port


def start(name, title, folder, upstream, make, core=process.GATEWAY_CORE, before=()):
    """Starts a variant; `before` are words in front of its own, of a tool that runs it."""
    port = process.free_port()
    peer = make(folder, port, upstream)
    child = process.start(core, [*before, *peer.words], folder / f"{name}.log", peer.env, peer.cwd)
    if peer.tells_port:
        port = process.told_port(folder / f"{name}.log", child, peer.ready_s) or port
    ready = process.wait_for_port(port, child, peer.ready_s * (10 if before else 1))
    if ready is None:
        process.stop(child)
        last = (folder / f"{name}.log").read_text().strip().splitlines()[-1:]
        raise peers.Missing(f"it does not start: {' '.join(last)[:200]}")
    return {"name": name, "title": title, "port": port, "stream_port": peer.stream_port, "path": peer.path, "model": peer.model,
            "headers": list(peer.headers), "pid": child.pid, "ready_ms": ready * 1e3, "child": child}


def direct(upstream):
    return {"name": "direct", "title": "no gateway", "port": upstream, "stream_port": 0, "path": "/v1/chat/completions",
            "model": "gpt-4o-mini", "headers": [], "pid": None, "ready_ms": 0, "child": None}


def start_all(names, binary, also, folder, missing):
    """The provider asked directly, the blind relay, the peers by name, and sluice in its variants."""
    certificate(folder)
    upstream, secure = provider(folder), provider(folder, folder / "cert.pem", folder / "key.pem")
    one = peers.sluice
    wanted = [("relay", "blind relay", upstream, peers.relay)]
    wanted += [(name, name, upstream, peers.ALL[name]) for name in names]
    wanted += [
        ("sluice-io_uring", "sluice, io_uring", upstream, one(binary, "io_uring")),
        ("sluice-epoll", "sluice, epoll", upstream, one(binary, "epoll")),
        ("sluice-again", "sluice, io_uring (A/A)", upstream, one(binary, "io_uring")),
        ("sluice-busy", "sluice, `busy_poll: 20ms`", upstream, one(binary, "io_uring", more="busy_poll: 20ms\n")),
        ("sluice-2-workers", "sluice, two workers", upstream, one(binary, "io_uring", workers=2)),
        ("sluice-tls", "sluice, TLS", secure, one(binary, "io_uring", tls=folder / "cert.pem")),
        ("sluice-translate", "sluice, translating", upstream, one(binary, "io_uring", anthropic=True)),
    ]
    if also:
        wanted.append(("also", str(also), upstream, one(also.resolve(), "io_uring")))
    started = [direct(upstream)]
    for name, title, where, make in wanted:
        try:
            started.append(start(name, title, folder, where, make))
        except peers.Missing as why:
            say(f"MISSING {title}: {why}")
            missing[title] = str(why)
    return started
