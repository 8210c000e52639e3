//! Requests and answers that are captured, where the config wants that; elsewhere it costs one look at an empty place.
//!
//! The request is copied when its exchange begins, the answer as it is written to the client. Both are handed to the
//! capture thread when the exchange is booked.
//!
//! Limits: endpoints whose answers are only passed on (audio, images, files) are captured without their answers, and so are
//! refusals, of which the status tells enough.

use std::cell::Cell;

use crate::config::{CaptureConfig, Plan};
use crate::meter::Record;
use crate::meter::capture::{self, CaptureThread, Captured, Captures, EVENTS_PER_BYTE, MARGIN, Redactor};
use crate::meter::log::{Output, Rotate};
use crate::net::clock;

use super::client::Client;
use super::inbound::Inbound;

/// A core's part in capturing.
pub struct CaptureDesk {
    captures: Captures,
    /// Bytes kept of each text.
    bytes: usize,
    /// Share of exchanges, in 2^-32.
    sample: u64,
    /// The die: steps of the golden ratio, which spread evenly.
    die: Cell<u32>,
}

impl CaptureDesk {
    /// For one core.
    pub fn new(captures: Captures, config: &CaptureConfig) -> CaptureDesk {
        let sample = (config.sample.clamp(0.0, 1.0) * 2f64.powi(32)) as u64;
        CaptureDesk { captures, bytes: config.bytes as usize, sample, die: Cell::default() }
    }

    fn wants_the_next(&self) -> bool {
        let die = self.die.get().wrapping_add(0x9e37_79b9);
        self.die.set(die);
        u64::from(die) < self.sample
    }
}

/// What is captured of the exchange at hand.
pub struct Capturing {
    captured: Captured,
    /// Bytes of the answer that are taken.
    answer_max: usize,
}

impl Capturing {
    /// More of the answer, as the client is given it.
    pub fn body(&mut self, bytes: &[u8]) {
        let captured = &mut self.captured;
        captured.answer_bytes += bytes.len() as u64;
        let room = self.answer_max.saturating_sub(captured.answer.len()).min(bytes.len());
        captured.answer.extend_from_slice(&bytes[..room]);
    }

    /// What is captured so far comes in events.
    pub fn events(&mut self) {
        if !self.captured.stream {
            self.captured.stream = true;
            self.answer_max *= EVENTS_PER_BYTE;
        }
    }
}

/// Begins to capture the exchange, if it is to be.
pub fn begin(client: &mut Client, inbound: &Inbound) {
    let desk = client.core.captures.borrow();
    let Some(desk) = &*desk else { return };
    if !desk.wants_the_next() {
        return;
    }
    let body = client.gather.as_ref().and_then(|gather| gather.body.filled().get(inbound.body()));
    let body = body.unwrap_or_default();
    let max = desk.bytes + MARGIN;
    let captured = Captured {
        api: Some(inbound.api),
        request: body[..body.len().min(max)].to_vec(),
        request_bytes: body.len() as u64,
        ..Captured::default()
    };
    client.notes.capturing = Some(Box::new(Capturing { captured, answer_max: max }));
}

/// Hands over what was captured of the exchange that `record` tells of.
pub fn end(client: &Client, capturing: Option<Box<Capturing>>, record: &Record<'_>) {
    let Some(capturing) = capturing else { return };
    let desk = client.core.captures.borrow();
    let Some(desk) = &*desk else { return };
    let mut captured = capturing.captured;
    captured.id = client.notes.id.text().to_owned();
    captured.unix_us = clock::unix_us();
    captured.status = record.status;
    captured.answered =
        record.answered.map_or_else(String::new, |by| format!("{}/{}", by.provider, by.model));
    desk.captures.push(captured);
}

/// Starts the capture thread of `plan` for so many cores; `None` when it wants none.
///
/// # Errors
/// The file cannot be opened, or the thread not be started.
pub fn start(plan: &Plan, cores: usize) -> Result<Option<(Vec<CaptureDesk>, CaptureThread)>, String> {
    let Some(config) = &plan.capture else { return Ok(None) };
    let rotate = config.rotate.map(|rotate| Rotate { bytes: rotate.bytes, keep: rotate.keep });
    let redactor = Redactor::new(&config.redact)?;
    let output = Output::File(config.to.clone(), rotate);
    let (captures, thread) = capture::start(output, config.bytes as usize, redactor).map_err(|error| {
        format!("the file of captures {} cannot be opened: {error}; see `capture.to`", config.to.display())
    })?;
    tracing::warn!(
        "requests and answers are written to {}; what is known to be secret is made unreadable, the rest is not",
        config.to.display()
    );
    Ok(Some(((0..cores).map(|_| CaptureDesk::new(captures.clone(), config)).collect(), thread)))
}
