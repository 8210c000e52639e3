//! The access log: one line of JSON an exchange, and who waits for the disk.
//!
//! ```text
//! Entry ── AccessLog::add (writer's thread) ── chunk of lines ── bounded queue ── log thread ── file, stdout, stderr
//! ```
//!
//! The log has a thread of its own, because writing to a pipe that nobody reads waits for ever and must not keep the
//! ledger from being written. A chunk that finds the queue full is dropped, and its lines are counted.
//!
//! Leaves out: prompts, answers, header values beyond who asked, and secrets. [`super::capture`] keeps bodies where that is
//! wanted, in a file of their own.

mod line;
mod sink;

pub use line::write_line;
pub use sink::{Counts, Output, Rotate, Sink};

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, channel, sync_channel};
use std::time::Duration;

use super::outbox::{Entry, is_ok};

/// Bytes of lines that are handed over at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks that may wait: with them, a megabyte of log.
const CHUNKS: usize = 16;

/// What the log thread is told.
enum Told {
    /// Write this; so many lines.
    Lines(Vec<u8>, u64),
    /// Open the file again: it was moved away.
    Reopen,
}

/// The writer's end of the log.
pub struct AccessLog {
    /// `None` once the log ends.
    to: Option<SyncSender<Told>>,
    ended: Receiver<()>,
    counts: Arc<Counts>,
    /// Lines that are not handed over yet, and how many.
    chunk: Vec<u8>,
    lines: u64,
    /// Share of good exchanges that are logged, in 2^-32.
    sample: u64,
    /// The die: steps of the golden ratio, which spread evenly.
    die: u32,
}

impl AccessLog {
    /// Starts a log to `output`, of this share (0 to 1) of the exchanges that went well at the first attempt, and of all
    /// others.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread not be started.
    pub fn start(output: Output, sample: f64) -> std::io::Result<AccessLog> {
        let counts = Arc::new(Counts::default());
        let mut sink = Sink::open(output, counts.clone())?;
        let (to, from) = sync_channel(CHUNKS);
        let (ending, ended) = channel::<()>();
        std::thread::Builder::new().name("sluice-log".to_owned()).spawn(move || {
            // Dropped when the thread ends, which is what the other side waits for.
            let _ending = ending;
            for told in from {
                match told {
                    Told::Lines(lines, count) => sink.write(&lines, count),
                    Told::Reopen => sink.reopen(),
                }
            }
        })?;
        let sample = (sample.clamp(0.0, 1.0) * 2f64.powi(32)) as u64;
        Ok(AccessLog { to: Some(to), ended, counts, chunk: Vec::new(), lines: 0, sample, die: 0 })
    }

    /// Adds the line of one exchange that ended at `unix_us`.
    pub fn add(&mut self, entry: &Entry<'_>, unix_us: u64) {
        let plain = is_ok(entry.outcome) && entry.attempts.len() < 2;
        if plain {
            self.die = self.die.wrapping_add(0x9e37_79b9);
            if u64::from(self.die) >= self.sample {
                return;
            }
        }
        write_line(entry, unix_us, &mut self.chunk);
        self.lines += 1;
        if self.chunk.len() >= CHUNK_BYTES {
            self.flush();
        }
    }

    /// Hands over what was added.
    pub fn flush(&mut self) {
        if self.lines == 0 {
            return;
        }
        let (chunk, lines) = (std::mem::take(&mut self.chunk), std::mem::take(&mut self.lines));
        self.tell(Told::Lines(chunk, lines));
    }

    /// Opens the file again, after what was added so far.
    pub fn reopen(&mut self) {
        self.flush();
        self.tell(Told::Reopen);
    }

    fn tell(&mut self, told: Told) {
        let Some(to) = &self.to else { return };
        if let Err(TrySendError::Full(told) | TrySendError::Disconnected(told)) = to.try_send(told)
            && let Told::Lines(_, lines) = told
        {
            self.counts.drop_lines(lines);
        }
    }

    /// What became of the lines.
    pub fn counts(&self) -> Arc<Counts> {
        self.counts.clone()
    }

    /// Writes what is left, for at most `limit`; a log that takes longer is left to itself.
    pub fn end(mut self, limit: Duration) {
        self.flush();
        self.to = None;
        // Nothing is ever sent: it waits for the other end to be dropped, or for the limit.
        let _ = self.ended.recv_timeout(limit);
    }
}

#[cfg(test)]
mod tests;
