//! The `sluice` binary as a process: start message, signals, exit codes.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use sluice::rehearsal::Mock;

use crate::support::*;

/// A running `sluice serve`; killed when a test fails before it ends it.
pub struct Process {
    pub child: Child,
    lines: std::io::Lines<BufReader<ChildStderr>>,
    pub said: String,
    pub addr: SocketAddr,
}

impl Process {
    /// Starts in `directory` with these arguments and nothing in the environment but `vars`.
    pub fn serve(directory: &Path, args: &[&str], vars: &[(&str, &str)]) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .arg("serve")
            .args(args)
            .current_dir(directory)
            .env_clear()
            .envs(vars.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Process { child, lines, said: String::new(), addr };
        process.hear("curl ");
        let at = process.said.find("http://").unwrap() + "http://".len();
        let address = process.said[at..].split('/').next().unwrap();
        process.addr = address.parse().unwrap();
        process
    }

    /// Reads what it says until `word` comes.
    pub fn hear(&mut self, word: &str) {
        loop {
            let Some(Ok(line)) = self.lines.next() else { panic!("`{word}` was never said:\n{}", self.said) };
            self.said.push_str(&line);
            self.said.push('\n');
            if line.contains(word) {
                return;
            }
        }
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().unwrap().success());
    }

    /// Waits for its end, at most ten seconds.
    pub fn end(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(begun.elapsed() < Duration::from_secs(10), "does not end:\n{}", self.said);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Path and body of the curl line in a start message.
fn curl_line(said: &str) -> (String, String) {
    let line = said.lines().find(|line| line.contains("curl ")).unwrap();
    let url = line.split_once("http://").unwrap().1.split(' ').next().unwrap();
    let path = url[url.find('/').unwrap()..].to_owned();
    let body = line.split_once("-d '").unwrap().1.trim_end_matches('\'').to_owned();
    (path, body)
}

#[test]
fn without_any_key_the_mock_answers_the_line_that_the_start_message_shows() {
    let directory = tempfile::tempdir().unwrap();
    for driver in ["auto", "epoll"] {
        let args = ["--listen", "127.0.0.1:0", "--driver", driver];
        let mut process = Process::serve(directory.path(), &args, &[]);
        assert!(process.said.contains("mock"), "{}", process.said);
        let (path, body) = curl_line(&process.said);
        let mut client = Client::to(process.addr);
        let got = client.post(&path, &body);
        assert_eq!(got.status, 200, "{}", got.text());
        assert!(got.json()["choices"][0]["message"]["content"].is_string());
        let stream = body.replacen('{', "{\"stream\":true,", 1);
        let got = client.post(&path, &stream);
        assert!(got.whole && !stream_text(&got.body).is_empty());
        process.signal("TERM");
        assert_eq!(process.end().code(), Some(0), "{}", process.said);
    }
}

#[test]
fn a_key_in_the_environment_is_a_provider_and_is_never_printed() {
    let directory = tempfile::tempdir().unwrap();
    let mock = provider("ok");
    let set = format!("providers.openai.network_config.base_url=http://{}", mock.addr());
    let args = ["--listen", "127.0.0.1:0", "--workers", "1", "--set", &set];
    let mut process = Process::serve(directory.path(), &args, &[("OPENAI_API_KEY", "sk-very-secret")]);
    let (path, body) = curl_line(&process.said);
    let got = Client::to(process.addr).post(&path, &body);
    assert_eq!(got.header("x-sluice-provider"), Some("openai"), "{}", got.text());
    assert_eq!(mock.requests()[0].key, "y-secret");
    assert!(!process.said.contains("secret"), "{}", process.said);
    process.signal("INT");
    assert_eq!(process.end().code(), Some(0));
}

/// A file with one provider, whose key is in the environment.
fn config(mock: &Mock) -> String {
    let provider = format!("{{keys: [env.KEY], base_url: \"http://{}\"}}", mock.addr());
    format!("listen: 127.0.0.1:0\nproviders: {{openai: {provider}}}\n")
}

#[test]
fn a_hangup_loads_the_file_again_and_a_broken_file_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sluice.yaml");
    let (one, two) = (provider("ok"), provider("ok"));
    std::fs::write(&file, config(&one)).unwrap();
    let mut process = Process::serve(directory.path(), &[], &[("KEY", "sk-1")]);
    let mut client = Client::to(process.addr);
    assert_eq!(client.post("/v1/chat/completions", CHAT).status, 200);
    std::fs::write(&file, "providers: {openai: {kyes: []}}\n").unwrap();
    process.signal("HUP");
    process.hear("not reloaded");
    assert_eq!(client.post("/v1/chat/completions", CHAT).status, 200);
    assert_eq!((one.counts().requests, two.counts().requests), (2, 0));
    std::fs::write(&file, config(&two)).unwrap();
    process.signal("HUP");
    process.hear("plan 2 serves");
    assert_eq!(client.post("/v1/chat/completions", CHAT).status, 200);
    assert_eq!((one.counts().requests, two.counts().requests), (2, 1));
    // What only a restart can change is said, each time, and the rest of the file counts.
    for plan in ["plan 3 serves", "plan 4 serves"] {
        std::fs::write(&file, config(&two).replace("127.0.0.1:0", "127.0.0.1:1") + "workers: 7\n").unwrap();
        process.signal("HUP");
        process.hear(plan);
        process.hear("`listen` is another");
        process.hear("`workers` is another");
    }
    std::fs::remove_file(&file).unwrap();
    process.signal("HUP");
    process.hear("does not exist");
    assert_eq!(client.post("/v1/chat/completions", CHAT).status, 200);
    process.signal("TERM");
    assert_eq!(process.end().code(), Some(0), "{}", process.said);
}

#[test]
fn the_admin_api_loads_the_file_again_as_a_hangup_does() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sluice.yaml");
    let (one, two) = (provider("ok"), provider("ok"));
    let config = |mock: &Mock| config(mock) + "admin: {token: env.TOKEN}\n";
    std::fs::write(&file, config(&one)).unwrap();
    let vars = [("KEY", "sk-1"), ("TOKEN", "a-token-of-some-length")];
    let mut process = Process::serve(directory.path(), &[], &vars);
    let addr = process.addr;
    let reload = |token: &str| {
        let fields = format!("Authorization: Bearer {token}\r\n");
        Client::to(addr).post_with("/admin/api/v1/reload", &fields, "{}")
    };
    let chat = || assert_eq!(Client::to(addr).post("/v1/chat/completions", CHAT).status, 200);
    std::fs::write(&file, "providers: {openai: {kyes: []}}\n").unwrap();
    let got = reload(vars[1].1);
    assert_eq!((got.status, &got.json()["ok"]), (409, &false.into()), "{}", got.text());
    assert!(got.text().contains("`keys`"), "the finding with the nearest right name: {}", got.text());
    chat();
    std::fs::write(&file, config(&two)).unwrap();
    assert_eq!(reload("another-token-of-some-length").status, 401);
    chat();
    assert_eq!((one.counts().requests, two.counts().requests), (2, 0));
    let got = reload(vars[1].1);
    assert_eq!((got.status, &got.json()["ok"]), (200, &true.into()), "{}", got.text());
    assert!(got.text().contains("plan 2 serves"), "{}", got.text());
    chat();
    assert_eq!((one.counts().requests, two.counts().requests), (2, 1));
    process.signal("TERM");
    assert_eq!(process.end().code(), Some(0), "{}", process.said);
}

#[test]
fn a_running_stream_outlives_the_first_signal_and_not_the_second() {
    let directory = tempfile::tempdir().unwrap();
    let mock = provider("hang:after=3");
    let set = format!("providers.openai.base_url=http://{}", mock.addr());
    for second in [false, true] {
        let drain = if second { "drain_timeout=20s" } else { "drain_timeout=300ms" };
        let args = ["--listen", "127.0.0.1:0", "--set", &set, "--set", drain];
        let mut process = Process::serve(directory.path(), &args, &[("OPENAI_API_KEY", "sk-1")]);
        let mut client = Client::to(process.addr);
        client.send(&request("/v1/chat/completions", "", CHAT_STREAM));
        assert!(client.read_until(b"content"));
        let begun = Instant::now();
        process.signal("TERM");
        process.hear("stopping");
        if second {
            process.signal("TERM");
            assert_eq!(process.end().code(), Some(130));
        } else {
            assert_eq!(process.end().code(), Some(0));
            assert!(begun.elapsed() >= Duration::from_millis(300));
        }
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert!(!client.read().whole);
    }
}

#[test]
fn a_port_that_is_taken_is_said_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["serve", "--listen", &addr])
        .current_dir(directory.path())
        .env_clear()
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains(&addr) && said.contains("in use"), "{said}");
}

#[test]
fn an_address_that_cannot_be_had_and_a_file_without_its_flag_are_said_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("own.yaml"), "{}").unwrap();
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
            .args(args)
            .current_dir(directory.path())
            .env_clear()
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // TEST-NET-1 (RFC 5737) belongs to no machine.
    let (code, said) = run(&["--listen", "192.0.2.1:1"]);
    assert!(code == Some(3) && said.contains("no such address: use 127.0.0.1"), "{said}");
    let (code, said) = run(&["own.yaml"]);
    assert!(code == Some(2) && said.contains("sluice --config own.yaml"), "{said}");
    let (code, said) = run(&["other.yaml"]);
    assert!(code == Some(2) && !said.contains("--config other.yaml"), "{said}");
}
