//! A core that looks for work before it sleeps: it does so, times things out all the same, and sleeps in the end.

use std::time::{Duration, Instant};

use sluice::config::DriverChoice;

use crate::binary::Process;
use crate::support::*;

const CHATS: &str = "/v1/chat/completions";
/// The kernel counts time in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// How long the worker has run, by the kernel's count.
fn worker_time(process: &Process) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", process.child.id())).unwrap();
    let of = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (name, fields) = stat.split_once('(')?.1.split_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        (name == "sluice-0").then(|| fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap())
    };
    TICK * tasks.filter_map(|task| of(task.unwrap())).next().unwrap()
}

/// How long the worker runs while `wait` lasts.
fn used(process: &Process, wait: impl FnOnce()) -> Duration {
    let before = worker_time(process);
    wait();
    worker_time(process) - before
}

#[test]
fn a_core_looks_for_work_times_out_and_sleeps_in_the_end() {
    each_driver(|driver| {
        let directory = tempfile::tempdir().unwrap();
        let (good, hanging) = (provider("ok"), provider("hang"));
        let text = format!(
            "busy_poll: 300ms\nworkers: 1\nledger: off\nretry: {{max_retries: 0}}\nproviders:\n  \
             good: {{base_url: 'http://{}'}}\n  hanging: {{base_url: 'http://{}', timeouts: {{attempt: 700ms}}}}\n",
            good.addr(),
            hanging.addr()
        );
        std::fs::write(directory.path().join("s.yaml"), text).unwrap();
        let driver = if driver == DriverChoice::Epoll { "epoll" } else { "io_uring" };
        let args = ["--config", "s.yaml", "--listen", "127.0.0.1:0", "--driver", driver];
        let mut process = Process::serve(directory.path(), &args, &[]);
        let ask = |client: &mut Client, provider: &str| {
            let body = CHAT.replace("openai/gpt-4o-mini", &format!("{provider}/m"));
            client.post(CHATS, &body).status
        };
        let addr = process.addr;

        // One request in 20 ms would take it a hundredth of that.
        let begun = Instant::now();
        let waiting = std::thread::spawn(move || ask(&mut Client::to(addr), "hanging"));
        let mut answers = 0;
        let busy = used(&process, || {
            let mut client = Client::to(addr);
            while begun.elapsed() < Duration::from_millis(500) || !waiting.is_finished() {
                assert!(
                    begun.elapsed() < Duration::from_secs(10),
                    "a core that looks for work forgets its timers"
                );
                assert_eq!(ask(&mut client, "good"), 200);
                answers += 1;
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let took = begun.elapsed();
        assert_eq!(waiting.join().unwrap(), 504);
        assert!(busy * 5 > took, "{busy:?} of {took:?}: it sleeps between requests");
        // One that looked at nothing but its own task would find each only when it sleeps.
        assert!(answers > 5, "{answers} answers in {took:?}");

        std::thread::sleep(Duration::from_millis(600));
        let idle = used(&process, || std::thread::sleep(Duration::from_millis(500)));
        assert!(idle < Duration::from_millis(100), "{idle:?}: it never sleeps");
        // What wakes a core that sleeps is work as before.
        assert_eq!(ask(&mut Client::to(addr), "good"), 200);
        process.signal("TERM");
        assert_eq!(process.end().code(), Some(0), "{}", process.said);
    });
}
