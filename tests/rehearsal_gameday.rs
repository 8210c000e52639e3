//! Game days against gateways whose behaviour is known: none at all, and one that asks the next provider.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use sluice::config::{DriverChoice, Loader};
use sluice::net::driver;
use sluice::rehearsal::gameday::{Options, Report, RunningGateway, Scenario, Setup, Silent, run, scenarios};
use socket2::{Domain, Socket, Type};

/// The providers' addresses, as the configuration names them.
fn providers(config: &str) -> Vec<SocketAddr> {
    let urls = config.lines().filter_map(|line| line.trim().strip_prefix("base_url: http://"));
    urls.filter_map(|url| url.strip_suffix("/v1")).filter_map(|addr| addr.parse().ok()).collect()
}

fn play(ids: &[&str], gateway: impl Fn(Vec<SocketAddr>) -> RunningGateway) -> Report {
    let only = ids.iter().map(|id| (*id).to_owned()).collect();
    let options = Options { only, scale: 0.01, ..Options::default() };
    run(&options, &mut |setup| Ok(gateway(providers(&setup.config))), &mut Silent).expect("known scenarios")
}

/// Clients reach the first provider directly.
fn no_gateway(providers: Vec<SocketAddr>) -> RunningGateway {
    RunningGateway { addr: providers[0], stop: Box::new(|| {}), status: None, scaled: false }
}

/// Reads a whole answer from each provider in turn and passes on the first good one: slow, simple, and it never loses
/// a request that anyone would answer.
fn patient_gateway(providers: Vec<SocketAddr>) -> RunningGateway {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let providers = providers.clone();
            std::thread::spawn(move || serve(client, &providers));
        }
    });
    RunningGateway { addr, stop: Box::new(|| {}), status: None, scaled: false }
}

fn serve(mut client: TcpStream, providers: &[SocketAddr]) -> Option<()> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    let length = loop {
        let count = client.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?;
        break end + 4 + length.parse::<usize>().ok()?;
    };
    while bytes.len() < length {
        let count = client.read(&mut buffer).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
    }
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    bytes.splice(end..end, b"\r\nConnection: close".iter().copied());
    let mut answer = Vec::new();
    for provider in providers {
        answer.clear();
        let Ok(mut upstream) = TcpStream::connect_timeout(provider, Duration::from_secs(2)) else { continue };
        upstream.set_read_timeout(Some(Duration::from_millis(200))).ok()?;
        let read = upstream.write_all(&bytes).and_then(|()| upstream.read_to_end(&mut answer));
        let text = String::from_utf8_lossy(&answer);
        let whole = text.ends_with("0\r\n\r\n") || text.ends_with('}');
        let ends = text.contains("[DONE]") || text.contains("\"chat.completion\"");
        if read.is_ok() && text.starts_with("HTTP/1.1 200") && whole && ends && !text.contains("\"error\"") {
            break;
        }
    }
    client.write_all(&answer).ok()
}

fn verdict<'r>(report: &'r Report, id: &str) -> &'r sluice::rehearsal::gameday::Verdict {
    report.verdicts.iter().find(|verdict| verdict.id == id).expect("it was run")
}

#[test]
fn without_a_gateway_only_the_healthy_day_is_good() {
    let report = play(&["healthy", "brownout", "refused", "reset"], no_gateway);
    assert!(verdict(&report, "healthy").passed, "{report}");
    for id in ["brownout", "refused"] {
        let verdict = verdict(&report, id);
        assert!(!verdict.passed, "{report}");
        assert!(
            verdict.checks.iter().any(|check| check.bar.starts_with("lost") && !check.passed),
            "{report}"
        );
    }
    // Half of the streams are lost, and every client can tell: nothing better is promised without a gateway.
    assert!(verdict(&report, "reset").passed, "{report}");
    let inside = verdict(&report, "brownout").checks.iter().find(|check| check.bar.contains("Retry-After"));
    assert!(inside.is_some_and(|check| !check.passed), "clients that know no window call inside it");
    assert!(!report.passed());
}

#[test]
fn a_gateway_that_asks_the_next_provider_loses_nothing() {
    let ids = ["refused", "truncated", "error-first-event", "html"];
    let report = play(&ids, patient_gateway);
    for id in ids {
        let lost = verdict(&report, id).checks.iter().find(|check| check.bar.starts_with("lost"));
        assert!(lost.is_some_and(|check| check.passed), "{id}\n{report}");
        assert!(verdict(&report, id).figures.answered > 50, "{id}\n{report}");
    }
    let calls = &verdict(&report, "html").checks;
    assert!(calls.iter().any(|check| check.bar.starts_with("calls for each request") && !check.passed));
}

#[test]
fn reports_are_json_and_unknown_scenarios_are_named() {
    let report = play(&["healthy"], no_gateway);
    let json: serde_json::Value = serde_json::from_str(&report.to_json()).expect("JSON");
    assert_eq!(json["verdicts"][0]["id"], "healthy");
    assert!(json["verdicts"][0]["figures"]["requests"].as_u64().is_some_and(|count| count > 50));
    let options = Options { only: vec!["nonsense".to_owned()], ..Options::default() };
    let error = run(&options, &mut |_| Err(String::new()), &mut Silent).expect_err("unknown");
    assert!(error.contains("nonsense") && error.contains("brownout"));
    let options = Options { only: vec!["healthy".to_owned()], ..Options::default() };
    let report = run(&options, &mut |_| Err("no such key".to_owned()), &mut Silent).expect("a report");
    assert_eq!(report.verdicts[0].problem.as_deref(), Some("no such key"));
    assert!(!report.passed());
}

/// A port that the kernel picked and that stays ours: while a socket is bound to it and does not listen, the kernel
/// gives it to nobody else, and a provider, which sets `SO_REUSEADDR` too, can listen on it.
struct HeldPort(Socket);

impl HeldPort {
    fn pick() -> HeldPort {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_reuse_address(true).expect("an option");
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
        HeldPort(socket)
    }

    fn port(&self) -> u16 {
        let addr = self.0.local_addr().expect("an address");
        addr.as_socket().expect("an IP address").port()
    }
}

fn against_a_running_gateway(ports: Vec<u16>) -> Report {
    let only = vec!["healthy".to_owned()];
    let against = Some(format!("http://127.0.0.1:{}/v1", ports[0]));
    let options = Options { only, scale: 0.02, against, provider_ports: ports, ..Options::default() };
    run(&options, &mut |_| Err("none is started".to_owned()), &mut Silent).expect("a report")
}

#[test]
fn a_running_gateway_can_be_driven_by_its_url() {
    let held = [HeldPort::pick(), HeldPort::pick()];
    let report = against_a_running_gateway(held.iter().map(HeldPort::port).collect());
    assert!(report.passed(), "{report}");
}

#[test]
fn a_port_that_another_process_has_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let report = against_a_running_gateway(vec![port]);
    let problem = report.verdicts[0].problem.as_deref().unwrap_or_default();
    assert!(problem.contains(&format!("127.0.0.1:{port}, which another process has")), "{problem}");
    assert!(!report.passed());
}

/// The real gateway on this driver, its own clocks on the scenario's where it can.
fn real_gateway(setup: &Setup, choice: DriverChoice, workers: usize) -> Result<RunningGateway, String> {
    let load = |clocks: &[String]| {
        let sets = [&["listen=127.0.0.1:0".to_owned()], clocks].concat();
        let file = Some("gameday.yaml".into());
        let loader = Loader { file, sets, workers: Some(workers), driver: Some(choice), ..Loader::default() };
        loader.load_text(&setup.config, &|_| None)
    };
    let (plan, scaled) = match load(&setup.clocks) {
        Ok(plan) => (plan, true),
        Err(_) => (load(&[]).map_err(|error| error.to_string())?, false),
    };
    let gateway = sluice::gateway::start(plan).map_err(|error| error.to_string())?;
    let addr = gateway.addr();
    let stop = move || {
        assert_eq!(gateway.panics(), 0);
        gateway.stop(Duration::from_secs(2)).expect("a clean stop");
    };
    Ok(RunningGateway { addr, stop: Box::new(stop), status: None, scaled })
}

/// Fifty times as fast as the days are.
const SCALE: f64 = 0.02;
/// Days played at a time. Each keeps a hundredth of a core busy, so that eight leave time to be on time.
const LANES: usize = 8;

fn play_one(id: &str, choice: DriverChoice) -> Report {
    let options = Options { only: vec![id.to_owned()], scale: SCALE, ..Options::default() };
    run(&options, &mut |setup: &Setup| real_gateway(setup, choice, 2), &mut Silent).expect("a known scenario")
}

/// Plays every day on both drivers with two workers, eight at a time, longest first. A day that missed a bar in that crowd
/// is played again alone: a bar of 5 ms is about the gateway and not about how many gateways share the machine.
#[test]
fn every_day_meets_its_bars_on_both_drivers() {
    let drivers = [DriverChoice::IoUring, DriverChoice::Epoll]
        .into_iter()
        .filter(|choice| driver::choose(*choice).inspect_err(|why| eprintln!("skipped: {why}")).is_ok());
    let mut days: Vec<(Scenario, DriverChoice)> =
        drivers.flat_map(|choice| scenarios().into_iter().map(move |day| (day, choice))).collect();
    assert!(days.len() >= scenarios().len(), "one driver works everywhere");
    days.sort_by_key(|(day, _)| day.lasts(SCALE, day.own_scale(SCALE)));
    let days = Mutex::new(days);
    let missed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                // One statement, so that the lock is free while the day is played.
                while let Some((day, choice)) = { days.lock().expect("no panic").pop() } {
                    let report = play_one(day.id, choice);
                    if !report.passed() {
                        eprintln!("in the crowd on {choice:?}:\n{report}");
                        missed.lock().expect("no panic").push((day.id, choice));
                    }
                }
            });
        }
    });
    for (id, choice) in missed.into_inner().expect("no panic") {
        let report = play_one(id, choice);
        assert!(report.passed(), "on {choice:?}\n{report}");
    }
}

#[test]
fn ctrl_c_ends_a_run_with_the_verdicts_so_far() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(["gameday", "healthy", "down", "--scale", "0.02", "--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("[2/2] down: ")), "the second day begins");
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.is_ok_and(|status| status.success()));
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "no bar was missed so far");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["interrupted"], true);
    assert_eq!(json["verdicts"].as_array().map(Vec::len), Some(1), "{json}");
}
