//! What a run shows while it runs.

use std::fmt::Write as _;
use std::io::Write;
use std::time::Duration;

use super::verdict::Verdict;

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
    /// Called a few times a second.
    fn progress(&mut self, progress: &Progress);
    /// A scenario is over.
    fn verdict(&mut self, verdict: &Verdict);
}

/// Looks away.
#[derive(Debug, Default)]
pub struct Silent;

impl Watch for Silent {
    fn progress(&mut self, _: &Progress) {}
    fn verdict(&mut self, _: &Verdict) {}
}

/// Draws on one screen, in place; without `in_place`, one line a scenario and no control codes.
#[derive(Debug)]
pub struct Terminal<W> {
    out: W,
    in_place: bool,
    drawn: usize,
}

impl<W: Write> Terminal<W> {
    /// Draws to `out`; `in_place` when it is a terminal.
    pub fn new(out: W, in_place: bool) -> Terminal<W> {
        Terminal { out, in_place, drawn: 0 }
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
}

impl<W: Write> Watch for Terminal<W> {
    fn progress(&mut self, now: &Progress) {
        if !self.in_place {
            return;
        }
        let (place, of) = now.place;
        let (elapsed, total) = (now.elapsed.as_secs(), now.total.as_secs());
        let mut text = format!("[{place}/{of}] {}: {}\n", now.scenario, now.title);
        let _ = writeln!(
            text,
            "  {elapsed:>4} of {total} s   sent {}   answered {}   failed {}   open {}   spend ${:.2}",
            now.sent, now.answered, now.failed, now.open, now.spend_usd
        );
        for (name, calls, open) in &now.providers {
            let _ = writeln!(text, "  {name:<10} calls {calls:>7}   in progress {open}");
        }
        if !now.gateway.is_empty() {
            let _ = writeln!(text, "  {}", now.gateway);
        }
        self.draw(&text, false);
    }

    fn verdict(&mut self, verdict: &Verdict) {
        self.draw(&verdict.to_string(), true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_draws_over_what_it_drew_and_a_file_gets_no_control_codes() {
        let now = Progress { scenario: "down".to_owned(), place: (1, 2), ..Progress::default() };
        let mut screen = Terminal::new(Vec::new(), true);
        screen.progress(&now);
        screen.progress(&now);
        let drawn = String::from_utf8(screen.out).expect("text");
        assert_eq!(drawn.matches("\x1b[2A\x1b[J").count(), 1);
        let mut file = Terminal::new(Vec::new(), false);
        file.progress(&now);
        assert!(file.out.is_empty());
    }
}
