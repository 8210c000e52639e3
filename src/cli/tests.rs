//! Commands as a user types them, without a process.

use std::cell::RefCell;

use super::*;
use crate::config::{DriverChoice, PlanSource};
use crate::rehearsal::gameday::{Figures, Verdict};

pub struct Ran {
    pub exit: Exit,
    pub out: String,
    pub err: String,
    served: Option<(Plan, Loader)>,
    mocked: Option<MockArgs>,
    played: Option<GamedayArgs>,
}

/// Runs `line` in `directory` with `variables`; started rooms end at once, with an error when `busy`.
pub fn ran(line: &[&str], directory: &std::path::Path, variables: &[(&str, &str)], busy: bool) -> Ran {
    let (served, mocked, played) = (RefCell::new(None), RefCell::new(None), RefCell::new(None));
    let ended = || if busy { Err(StartError::Start("the address is in use".to_owned())) } else { Ok(()) };
    let serve = |plan: Plan, loader: Loader| {
        *served.borrow_mut() = Some((plan, loader));
        ended()
    };
    let mock = |args: &MockArgs| {
        *mocked.borrow_mut() = Some(args.clone());
        if args.faults == ["nonsense"] {
            return Err(StartError::Arguments("no such fault".to_owned()));
        }
        ended()
    };
    let gameday = |args: &GamedayArgs| {
        *played.borrow_mut() = Some(args.clone());
        ended().map(|()| report(args))
    };
    let rooms =
        Rooms { serve: &serve, mock: &mock, gameday: &gameday, list_faults: &|| "brownout\n".to_owned() };
    let env =
        |name: &str| variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut around =
        Surroundings { env: &env, directory: directory.to_owned(), out: &mut out, err: &mut err };
    let line = std::iter::once("sluice").chain(line.iter().copied()).map(OsString::from);
    let exit = run_with(line, &rooms, &mut around);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ran {
        exit,
        out: text(out),
        err: text(err),
        served: served.into_inner(),
        mocked: mocked.into_inner(),
        played: played.into_inner(),
    }
}

/// What a run of the named days comes back with: `hang` misses its bar, `refused` cannot be played.
fn report(args: &GamedayArgs) -> Report {
    let verdict = |day: &String| Verdict {
        id: day.clone(),
        title: String::new(),
        passed: day != "hang" && day != "refused",
        problem: (day == "refused").then(|| "a port is taken".to_owned()),
        checks: Vec::new(),
        figures: Figures::default(),
    };
    let verdicts = args.days.iter().map(verdict).collect();
    Report { scale: args.scale, seed: args.seed, interrupted: false, verdicts }
}

fn run_line(line: &[&str]) -> Ran {
    ran(line, std::path::Path::new("/nonexistent"), &[("OPENAI_API_KEY", "canary")], false)
}

pub fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

const GOOD: &str = "providers: {openai: {keys: [env.K]}}\n";

#[test]
fn without_a_subcommand_it_serves() {
    for line in [&[][..], &["serve"]] {
        let ran = run_line(line);
        assert_eq!((ran.exit, ran.out.as_str(), ran.err.as_str()), (Exit::Ok, "", ""));
        let (plan, _) = ran.served.unwrap();
        assert_eq!(plan.source, PlanSource::Environment(vec!["OPENAI_API_KEY".into()]));
    }
}

#[test]
fn serve_takes_its_flags_with_and_without_the_word() {
    let flags = ["--listen", "127.0.0.1:9", "-w", "2", "--driver", "epoll", "--set", "timeouts.connect=1s"];
    for line in [flags.to_vec(), [&["serve"][..], &flags].concat()] {
        let (plan, loader) = run_line(&line).served.unwrap();
        assert_eq!((plan.listen.port(), plan.workers, plan.driver), (9, Some(2), DriverChoice::Epoll));
        assert_eq!(plan.timeouts.connect_ms, 1_000);
        // A reload gives the same.
        let again = loader.load(&|_| Some("k".to_owned())).unwrap();
        assert_eq!((again.listen, again.workers, again.driver), (plan.listen, plan.workers, plan.driver));
    }
}

#[test]
fn wrong_arguments_exit_with_two() {
    for line in [
        &["--listen", "nonsense"][..],
        &["--workers", "0"],
        &["--driver", "magic"],
        &["--nope"],
        &["chek", "x"],
        &["check"],
        &["explain", "x"],
        &["completions", "tcsh"],
        &["mock", "--scale", "0"],
        &["mock", "--first-token", "3"],
        &["--workers", "2", "check", "x"],
        &["gameday", "--scale", "0"],
        &["gameday", "--driver", "magic"],
        &["gameday", "--story", "tragedy"],
        &["gameday", "--against", "http://127.0.0.1:1", "--workers", "2"],
    ] {
        let ran = run_line(line);
        assert_eq!(ran.exit, Exit::Usage, "{line:?}");
        assert!(ran.out.is_empty() && ran.err.contains("error: "), "{line:?}: {}", ran.err);
    }
}

#[test]
fn help_and_version_are_answers() {
    for line in ["--help", "-h", "--version", "help"] {
        let ran = run_line(&[line]);
        assert_eq!(ran.exit, Exit::Ok);
        assert!(ran.out.contains("sluice") && ran.err.is_empty());
    }
    let help = run_line(&["--help"]).out;
    for part in ["Examples:", "Environment:", "Exit codes:", "SLUICE_CONFIG", "sluice check sluice.yaml"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    assert!(run_line(&["--version"]).out.starts_with(concat!("sluice ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn a_config_is_found_in_a_fixed_order_and_named() {
    let here = directory(&[("sluice.json", GOOD), ("sluice.yml", GOOD), ("other.yaml", GOOD)]);
    let other = here.path().join("other.yaml").display().to_string();
    let start = |line: &[&str], variables: &[(&str, &str)]| {
        let variables = [&[("K", "canary")], variables].concat();
        let ran = ran(line, here.path(), &variables, false);
        assert_eq!(ran.exit, Exit::Ok, "{}", ran.err);
        let file = ran.served.unwrap().1.file.unwrap();
        (file.file_name().unwrap().to_str().unwrap().to_owned(), ran.err)
    };
    let said = "sluice: using the config sluice.yml; sluice.json is here too and is not read\n";
    assert_eq!(start(&[], &[]), ("sluice.yml".to_owned(), said.to_owned()));
    assert_eq!(start(&[], &[("SLUICE_CONFIG", "")]).0, "sluice.yml");
    let (file, said) = start(&[], &[("SLUICE_CONFIG", &other)]);
    assert_eq!(file, "other.yaml");
    assert!(said.contains("named by SLUICE_CONFIG"), "{said}");
    assert_eq!(start(&["-c", &other], &[("SLUICE_CONFIG", "/x")]), ("other.yaml".to_owned(), String::new()));
    let only = directory(&[("sluice.yaml", GOOD)]);
    let ran = ran(&[], only.path(), &[("K", "canary")], false);
    assert_eq!(ran.err, "sluice: using the config sluice.yaml, found in the working directory\n");
}

#[test]
fn a_refused_config_does_not_start() {
    let here = directory(&[("sluice.yaml", "provders: {}\n")]);
    let ran = ran(&["serve"], here.path(), &[], false);
    assert_eq!(ran.exit, Exit::Refused);
    assert!(ran.served.is_none());
    assert!(ran.err.contains("sluice.yaml:1:1: error: unknown key `provders`"), "{}", ran.err);
    assert!(ran.err.ends_with("sluice: not started, because of the config\n"), "{}", ran.err);
}

#[test]
fn what_cannot_start_exits_with_three() {
    for line in [["serve"], ["mock"]] {
        let ran = ran(&line, std::path::Path::new("/nonexistent"), &[], true);
        assert_eq!(ran.exit, Exit::NotStarted);
        assert_eq!(ran.err, "sluice: error: the address is in use\n");
    }
}

#[test]
fn warnings_are_shown_and_do_not_stop_the_start() {
    let ran = run_line(&["--listen", "0.0.0.0:80"]);
    assert_eq!(ran.exit, Exit::Ok);
    // The gateway says them with its start message.
    let (plan, _) = ran.served.unwrap();
    assert!(plan.warnings[0].to_string().starts_with("--listen: warning: anyone who can reach"));
}

#[test]
fn check_prints_every_problem_and_exits_with_one() {
    let here = directory(&[
        ("good.yaml", GOOD),
        ("bad.yaml", "provders: {}\nworkers: x\n"),
        (
            "money.yaml",
            "providers: {x: {base_url: 'http://h'}, openai: {keys: [env.K]}}\nretry_budget: {max_cost_usd_per_minute: 5}\nfallbacks: [{model: openai/gpt-4o, targets: [x/small], checks: [json]}]\n",
        ),
        ("odd.yaml", "{listen: '0.0.0.0:1', providers: {openai: {keys: [sk-canary]}}}"),
    ]);
    let check = |name: &str, more: &[&str]| {
        let file = here.path().join(name).display().to_string();
        let ran = ran(&[&["check", &file][..], more].concat(), here.path(), &[("K", "canary")], false);
        assert!(ran.err.is_empty() && !ran.out.contains("canary"), "{}", ran.out);
        (ran.exit, ran.out.replace(&file, name))
    };
    assert_eq!(check("good.yaml", &[]), (Exit::Ok, "good.yaml: fine: 1 provider, 0 chains\n".to_owned()));
    let (exit, out) = check("bad.yaml", &[]);
    assert_eq!(exit, Exit::Refused);
    assert!(
        out.starts_with("bad.yaml:1:1: error: unknown key `provders` at the top level\n  help: "),
        "{out}"
    );
    assert!(out.contains("bad.yaml:2:10: error: `workers` must be a number"), "{out}");
    assert!(out.ends_with("bad.yaml: refused, 2 errors\n"), "{out}");
    let (exit, out) = check("odd.yaml", &[]);
    assert_eq!(exit, Exit::Ok);
    assert!(out.ends_with("odd.yaml: fine: 1 provider, 0 chains, 2 warnings\n"), "{out}");
    let (exit, out) = check("money.yaml", &[]);
    assert_eq!(exit, Exit::Ok);
    assert!(
        out.starts_with("money.yaml:2:41: warning: no price is known of x/small: under this limit"),
        "{out}"
    );
    assert!(out.contains("money.yaml:3:64: note: streams are held back"), "{out}");
    assert!(
        out.ends_with("money.yaml: fine: 2 providers, 1 chain, 1 warning\n"),
        "notes are not counted: {out}"
    );
    let priced = check("money.yaml", &["--set", "models.\"x/small\".price={input: 0, output: 0}"]).1;
    assert!(!priced.contains("no price"), "{priced}");
    let (exit, out) = check("good.yaml", &["--set", "workers=none"]);
    assert_eq!(exit, Exit::Refused);
    assert!(out.starts_with("--set workers: error: "), "{out}");

    let (exit, out) = check("bad.yaml", &["--format", "json"]);
    assert_eq!(exit, Exit::Refused);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["ok"], &json["errors"]), (&serde_json::json!(false), &serde_json::json!(2)));
    let second = &json["diagnostics"][1];
    assert_eq!((&second["line"], &second["column"]), (&serde_json::json!(2), &serde_json::json!(10)));
    assert_eq!(second["path"], "workers");
}

#[test]
fn serve_can_check_with_its_own_flags() {
    let ran = run_line(&["serve", "--check", "--set", "drivr=auto"]);
    assert_eq!(ran.exit, Exit::Refused);
    assert!(ran.served.is_none());
    assert!(ran.out.contains("--set drivr: error: unknown key `drivr`"), "{}", ran.out);
    assert_eq!(run_line(&["--check"]).out, "(environment): fine: 1 provider, 0 chains\n");
}

#[test]
fn explain_shows_a_chain_or_what_would_work() {
    let here = directory(&[("c.yaml", GOOD)]);
    let file = here.path().join("c.yaml").display().to_string();
    let explain = |model: &str| ran(&["explain", &file, model], here.path(), &[("K", "canary")], false);
    let good = explain("gpt-4o");
    assert_eq!(good.exit, Exit::Ok);
    assert!(
        good.out.contains("1. openai/gpt-4o\n")
            && good.out.contains("keys      K 100 %")
            && good.out.contains("$2.50 a million input tokens, $10.00 output (price list)"),
        "{}",
        good.out
    );
    let bad = explain("claude");
    assert_eq!(bad.exit, Exit::Refused);
    assert_eq!(bad.err, "sluice: error: the model `claude` is unknown; these would work: openai/claude\n");
    assert_eq!(run_line(&["explain", "/no/such/file", "m"]).exit, Exit::Refused);
    assert!(!format!("{}{}", good.out, bad.err).contains("canary"));
}

#[test]
fn mock_passes_its_arguments_on() {
    let ran = run_line(&[
        "mock",
        "-l",
        ":0",
        "-f",
        "brownout",
        "--fault",
        "slow:15s",
        "--first-token",
        "50ms",
        "--scale",
        "0.05",
    ]);
    let args = ran.mocked.unwrap();
    assert_eq!(args.listen.to_string(), "127.0.0.1:0");
    assert_eq!(args.faults, ["brownout", "slow:15s"]);
    assert_eq!((args.first_token, args.token_gap, args.scale), (Some(50), None, 0.05));
    assert_eq!(run_line(&["mock"]).mocked.unwrap().listen.port(), 9101);
    let ran = run_line(&["mock", "-f", "nonsense"]);
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Usage, "sluice: error: no such fault\n"));
    assert_eq!(run_line(&["mock", "--list-faults"]).out, "brownout\n");
}

#[test]
fn gameday_passes_its_arguments_on_and_prints_a_table_or_json() {
    let ran = run_line(&[
        "gameday", "brownout", "down", "--scale", "0.05", "--seed", "7", "-w", "2", "-d", "epoll",
    ]);
    let args = ran.played.unwrap();
    assert_eq!((args.scale, args.seed, args.workers, args.driver()), (0.05, 7, Some(2), DriverChoice::Epoll));
    assert!(args.ports().is_empty(), "without --against the kernel picks");
    assert!(ran.out.contains("ok   brownout") && ran.out.contains("2 of 2 scenarios"), "{}", ran.out);
    assert!(ran.err.starts_with("sluice gameday: 2 days, about "), "{}", ran.err);
    let json = run_line(&["gameday", "--json", "brownout"]).out;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["verdicts"][0]["id"], "brownout");
    let ran = run_line(&["gameday", "--against", "http://127.0.0.1:8080/v1", "hang"]);
    assert_eq!(ran.played.unwrap().ports(), [9101, 9102]);
}

#[test]
fn gameday_exits_with_four_when_a_bar_is_missed_and_three_when_a_day_could_not_be_played() {
    assert_eq!(run_line(&["gameday", "healthy"]).exit, Exit::Ok);
    assert_eq!(run_line(&["gameday", "healthy", "hang"]).exit, Exit::BarMissed);
    assert_eq!(run_line(&["gameday", "refused", "healthy"]).exit, Exit::NotStarted);
    assert_eq!(run_line(&["gameday", "refused", "hang"]).exit, Exit::BarMissed);
    let ran = ran(&["gameday", "healthy"], std::path::Path::new("/nonexistent"), &[], true);
    assert_eq!(ran.exit, Exit::NotStarted);
    let ran = run_line(&["gameday", "brownuot"]);
    assert_eq!(ran.exit, Exit::Usage);
    assert!(ran.played.is_none() && ran.err.contains("no scenario is called `brownuot`"), "{}", ran.err);
}

#[test]
fn gameday_lists_tells_stories_and_prints_configurations_without_playing() {
    let list = run_line(&["gameday", "--list"]);
    assert!(list.played.is_none() && list.out.contains("brownout-alone"), "{}", list.out);
    let story = run_line(&["gameday", "--story", "queue"]);
    assert!(story.played.is_none() && story.out.contains("jobs whose triage failed"), "{}", story.out);
    let json = run_line(&["gameday", "--story", "bill", "--json"]).out;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap()["story"], "bill");
    let config = run_line(&["gameday", "slowdown", "--print-config", "--provider-port", "9301"]);
    assert!(config.out.contains("base_url: http://127.0.0.1:9302/v1"), "{}", config.out);
    let here = directory(&[("sluice.yaml", &config.out)]);
    let file = here.path().join("sluice.yaml").display().to_string();
    assert_eq!(run_line(&["check", &file]).exit, Exit::Ok, "what it prints can be served");
    assert_eq!(run_line(&["gameday", "--print-config"]).exit, Exit::Usage);
}

#[test]
fn completions_are_scripts_for_each_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let ran = run_line(&["completions", shell]);
        assert_eq!(ran.exit, Exit::Ok);
        assert!(ran.out.contains("explain"), "{shell}");
    }
}

#[test]
fn a_closed_pipe_is_no_panic() {
    struct Closed;
    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let rooms = Rooms {
        serve: &|_, _| Ok(()),
        mock: &|_| Ok(()),
        gameday: &|args| Ok(report(args)),
        list_faults: &String::new,
    };
    let mut around =
        Surroundings { env: &|_| None, directory: PathBuf::new(), out: &mut Closed, err: &mut Vec::new() };
    let line = ["sluice", "completions", "bash"].map(OsString::from);
    assert_eq!(run_with(line, &rooms, &mut around), Exit::Refused);
}
