//! What a run shows while it runs.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use super::verdict::Verdict;

/// Columns of the screen that are written to: a line that wraps could not be drawn over.
const COLUMNS: usize = 79;
/// How often a file gets a line of a scenario that goes on.
const SAY: Duration = Duration::from_secs(10);

/// Where a run stands.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// The scenario that runs.
    pub scenario: String,
    /// Its title.
    pub title: String,
    /// Its place, from 1, among how many.
    pub place: (usize, usize),
    /// Since the load began, and how long new requests are sent; both on the real clock.
    pub elapsed: Duration,
    /// See `elapsed`.
    pub total: Duration,
    /// Requests of clients: sent, answered well, anything else, and still open.
    pub sent: u64,
    /// See `sent`.
    pub answered: u64,
    /// See `sent`.
    pub failed: u64,
    /// See `sent`.
    pub open: u64,
    /// Name, calls, and exchanges in progress of each provider.
    pub providers: Vec<(String, u64, u64)>,
    /// What the providers billed so far, dollars.
    pub spend_usd: f64,
    /// What the gateway says of itself: its breakers, if it tells.
    pub gateway: String,
}

/// Looks on while a run goes.
pub trait Watch {
    /// Called when a scenario begins and then a few times a second.
    fn progress(&mut self, progress: &Progress);
    /// A scenario is over.
    fn verdict(&mut self, verdict: &Verdict);
    /// The run is over.
    fn end(&mut self) {}
}

/// Looks away.
#[derive(Debug, Default)]
pub struct Silent;

impl Watch for Silent {
    fn progress(&mut self, _: &Progress) {}
    fn verdict(&mut self, _: &Verdict) {}
}

/// Draws on one screen, in place, and leaves only what missed its bars; without `in_place`, plain lines for a file: when
/// a scenario begins, every ten seconds, and its verdict.
#[derive(Debug)]
pub struct Terminal<W> {
    out: W,
    in_place: bool,
    drawn: usize,
    /// Scenarios that were met and missed.
    met: usize,
    missed: usize,
    /// The place of the scenario that was last spoken of, and when.
    said: (usize, Duration),
}

impl<W: Write> Terminal<W> {
    /// Draws to `out`; `in_place` when it is a terminal.
    pub fn new(out: W, in_place: bool) -> Terminal<W> {
        Terminal { out, in_place, drawn: 0, met: 0, missed: 0, said: (0, Duration::ZERO) }
    }

    fn draw(&mut self, text: &str, stays: bool) {
        let mut all = String::new();
        if self.in_place && self.drawn > 0 {
            // Up to the first line that was drawn, and clear from there.
            let _ = write!(all, "\x1b[{}A\x1b[J", self.drawn);
        }
        all.push_str(text);
        self.drawn = if stays { 0 } else { text.lines().count() };
        // A screen that cannot be drawn on is no reason to end a run.
        let _ = self.out.write_all(all.as_bytes()).and_then(|()| self.out.flush());
    }

    fn screen(&self, now: &Progress) -> String {
        let (place, of) = now.place;
        let mut lines = vec![
            format!("[{place}/{of}] {}: {}", now.scenario, now.title),
            format!(
                "  {} of {} s   {} met, {} missed so far",
                seconds(now),
                now.total.as_secs(),
                self.met,
                self.missed
            ),
            format!(
                "  requests {}   answered {}   errors {}   open {}   spend ${:.2}",
                now.sent, now.answered, now.failed, now.open, now.spend_usd
            ),
        ];
        let calls = |(name, calls, open): &(String, u64, u64)| {
            format!("  {name:<10} calls {calls:>7}   in progress {open}")
        };
        lines.extend(now.providers.iter().map(calls));
        if !now.gateway.is_empty() {
            lines.push(format!("  {}", now.gateway));
        }
        lines
            .iter()
            .fold(String::new(), |text, line| text + &line.chars().take(COLUMNS).collect::<String>() + "\n")
    }

    /// The next plain line, when one is due.
    fn line(&mut self, now: &Progress) -> Option<String> {
        let (place, of) = now.place;
        if self.said.0 != place {
            self.said = (place, Duration::ZERO);
            let total = now.total.as_secs_f64();
            return Some(format!("[{place}/{of}] {}: {}, {total:.0} s\n", now.scenario, now.title));
        }
        if now.elapsed < self.said.1 + SAY {
            return None;
        }
        self.said.1 = now.elapsed;
        let mut line = format!(
            "[{place}/{of}] {} {} of {} s: requests {}, answered {}, errors {}, open {}, spend ${:.2}",
            now.scenario,
            seconds(now),
            now.total.as_secs(),
            now.sent,
            now.answered,
            now.failed,
            now.open,
            now.spend_usd
        );
        for (name, calls, _) in &now.providers {
            let _ = write!(line, ", {name} {calls} calls");
        }
        if !now.gateway.is_empty() {
            let _ = write!(line, ", {}", now.gateway);
        }
        line.push('\n');
        Some(line)
    }
}

/// Past its end a scenario waits for its last answers.
fn seconds(now: &Progress) -> u64 {
    now.elapsed.min(now.total).as_secs()
}

impl<W: Write> Watch for Terminal<W> {
    fn progress(&mut self, now: &Progress) {
        if self.in_place {
            let text = self.screen(now);
            self.draw(&text, false);
        } else if let Some(line) = self.line(now) {
            self.draw(&line, true);
        }
    }

    fn verdict(&mut self, verdict: &Verdict) {
        self.met += usize::from(verdict.passed);
        self.missed += usize::from(!verdict.passed);
        if !verdict.passed || !self.in_place {
            self.draw(&verdict.to_string(), true);
        }
    }

    fn end(&mut self) {
        if self.in_place {
            self.draw("", true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearsal::gameday::Figures;

    fn progress(elapsed_s: u64) -> Progress {
        Progress {
            scenario: "down".to_owned(),
            title: "a title ".repeat(20),
            place: (1, 2),
            elapsed: Duration::from_secs(elapsed_s),
            total: Duration::from_secs(60),
            providers: vec![("alpha".to_owned(), 7, 1)],
            gateway: "breakers: alpha open".to_owned(),
            ..Progress::default()
        }
    }

    fn verdict(passed: bool) -> Verdict {
        Verdict {
            id: "down".to_owned(),
            title: String::new(),
            passed,
            problem: None,
            checks: Vec::new(),
            figures: Figures::default(),
        }
    }

    fn text(terminal: Terminal<Vec<u8>>) -> String {
        String::from_utf8(terminal.out).expect("text")
    }

    #[test]
    fn a_terminal_draws_over_what_it_drew_and_keeps_what_missed() {
        let mut screen = Terminal::new(Vec::new(), true);
        screen.progress(&progress(1));
        screen.progress(&progress(2));
        screen.verdict(&verdict(true));
        screen.progress(&progress(3));
        screen.verdict(&verdict(false));
        screen.end();
        let drawn = text(screen);
        assert_eq!(drawn.matches("\x1b[5A\x1b[J").count(), 3, "{drawn:?}");
        assert!(drawn.contains("breakers: alpha open") && drawn.contains("1 met, 0 missed so far"));
        assert!(drawn.contains("MISS down") && !drawn.contains("ok   down"));
        assert!(drawn.lines().all(|line| line.trim_start_matches("\x1b[5A\x1b[J").len() <= COLUMNS));
    }

    #[test]
    fn a_file_gets_plain_lines_and_no_control_codes() {
        let mut file = Terminal::new(Vec::new(), false);
        for second in [0, 1, 9, 10, 11, 19, 20, 21] {
            file.progress(&progress(second));
        }
        file.verdict(&verdict(true));
        file.end();
        let said = text(file);
        assert!(!said.contains('\x1b'));
        assert_eq!(said.lines().count(), 4, "{said}");
        assert!(
            said.contains("down 10 of 60 s: requests 0")
                && said.contains("alpha 7 calls, breakers: alpha open")
        );
        assert!(said.contains("ok   down"));
    }
}
