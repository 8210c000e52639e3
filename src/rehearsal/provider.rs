//! Decides what each request gets: the program's faults over the provider's answer.
//!
//! Invariant: a request draws its faults once, counts once and ends once.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::answer::{self, Answer, Ask, Body, Setting, Wire, errors};
use super::bytes::{bad_head, http_date};
use super::counts::{Ledger, Outcome, Seen, key_suffix};
use super::mock::MockOptions;
use super::program::{ErrorAnswer, ErrorKind, Facts, Fault, RetryForm, Running, mix};
use super::request::{Head, Request};
use super::reshape;
use super::script::{self, Conditions, End, Script};

/// Fixed, so that the same request has the same answer in every run.
const CREATED_UNIX_S: u64 = 1_760_000_000;

/// What the mock's thread and its handles share.
pub(super) struct Shared {
    state: Mutex<State>,
    /// Told when the thread caught up with what its handle asked.
    pub(super) applied: Condvar,
    pub(super) stop: AtomicBool,
}

pub(super) struct State {
    pub(super) running: Running,
    pub(super) ledger: Ledger,
    pub(super) seen: VecDeque<Seen>,
    /// What the handle asked for, counted, and how far the thread has caught up.
    pub(super) handed: u64,
    pub(super) taken: u64,
}

impl Shared {
    pub(super) fn new(state: State) -> Shared {
        Shared { state: Mutex::new(state), applied: Condvar::new(), stop: AtomicBool::new(false) }
    }

    /// Figures stay readable when a thread that held them panicked.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who ended an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// The script was played to its end.
    Played,
    ClientLeft,
    /// The mock was stopped, or its port was closed by a fault.
    ServerLeft,
}

/// An exchange in progress.
pub(super) struct Exchange {
    pub(super) script: Script,
    key: String,
    path: String,
}

pub(super) struct Provider {
    options: MockOptions,
    pub(super) shared: Arc<Shared>,
    served: u64,
}

impl Provider {
    pub(super) fn new(options: MockOptions, shared: Arc<Shared>) -> Provider {
        Provider { options, shared, served: 0 }
    }

    /// What a new connection meets before any request.
    pub(super) fn on_connection(&mut self, now: Instant) -> Vec<Fault> {
        let mut state = self.shared.lock();
        state.ledger.connected();
        state.running.on_connection(now)
    }

    /// An answer that does not wait for the body, if the program wants one.
    pub(super) fn on_head(&mut self, head: &Head, now: Instant) -> Option<Exchange> {
        let key = key_suffix(head.key());
        let facts = Facts { key: head.key(), model: "", path: head.path(), stream: false };
        let status = {
            let mut state = self.shared.lock();
            let met = state.running.on_head(now, &facts);
            let status = met.iter().find_map(|fault| match fault {
                Fault::EarlyResponse(status) => Some(*status),
                _ => None,
            })?;
            state.ledger.begin(now, now, &key, "", status, 0);
            status
        };
        let request = Request { head: head.clone(), body: Vec::new() };
        let ask = Ask::read(&request);
        let kind = ErrorKind::Status;
        let error = ErrorAnswer { kind, status: Some(status), retry_after: None, form: RetryForm::Seconds };
        let mut answer = errors::scripted(&ask, &error);
        self.sign(&mut answer, ask.wire);
        let conditions = Conditions { keep_alive: false, ..self.conditions(head, 0) };
        let script = script::compile(answer, &[], &conditions);
        Some(Exchange { script, key, path: head.path().to_owned() })
    }

    /// The answer to a whole request, the first byte of which came when it `began`.
    pub(super) fn respond(&mut self, request: &Request, began: Instant, now: Instant) -> Exchange {
        let head = &request.head;
        let key = key_suffix(head.key());
        let ask = Ask::read(request);
        let shared = Arc::clone(&self.shared);
        let mut state = shared.lock();
        let facts = Facts { key: head.key(), model: &ask.model, path: head.path(), stream: ask.stream };
        let faults = state.running.draw(now, &facts);
        if self.options.capture {
            self.capture(&mut state.seen, request, &key, now);
        }
        // Building an answer may take a while for a long prompt; nobody should wait for the figures meanwhile.
        drop(state);
        let script = self.script(request, &ask, &faults);
        let mut state = shared.lock();
        state.ledger.begin(began, now, &key, &ask.model, script.status, script.tokens_in);
        if let Some(wait) = retry_after(&faults) {
            let told = now + script.marks.first().map_or(Duration::ZERO, |mark| mark.at);
            state.ledger.told_to_wait(told, wait, &key, &ask.model);
        }
        Exchange { script, key, path: head.path().to_owned() }
    }

    /// The answer to bytes that are not a request.
    pub(super) fn reject(&mut self, status: u16, why: &str) -> Script {
        self.shared.lock().ledger.malformed();
        let body = format!("{{\"error\":{{\"message\":\"{why}\",\"type\":\"invalid_request_error\"}}}}");
        let head = format!(
            "HTTP/1.1 {status} {}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            script::reason(status),
            body.len()
        );
        script::raw((head + &body).into_bytes(), End::Fin, status)
    }

    /// Books how an exchange ended.
    pub(super) fn settle(&mut self, exchange: &Exchange, now: Instant, written: usize, ending: Ending) {
        let script = &exchange.script;
        let tokens =
            script.marks.iter().take_while(|mark| mark.end <= written).last().map_or(0, |m| m.tokens);
        let outcome = match ending {
            Ending::ClientLeft => Outcome::Cancelled,
            Ending::ServerLeft => Outcome::Broken,
            Ending::Played if script.whole => Outcome::Completed,
            Ending::Played if script.status >= 400 => Outcome::Refused,
            Ending::Played => Outcome::Broken,
        };
        let tokens = if script.status < 300 { tokens } else { 0 };
        self.shared.lock().ledger.end(now, &exchange.key, &exchange.path, outcome, tokens);
    }

    fn capture(&self, seen: &mut VecDeque<Seen>, request: &Request, key: &str, now: Instant) {
        if seen.len() >= self.options.capture_requests.max(1) {
            seen.pop_front();
        }
        let kept = request.body.len().min(self.options.capture_body);
        seen.push_back(Seen {
            at: now,
            method: request.head.method.clone(),
            path: request.head.target.clone(),
            headers: request.head.fields.clone(),
            body: request.body[..kept].to_vec(),
            body_len: request.body.len(),
            key: key.to_owned(),
        });
    }

    fn conditions(&self, head: &Head, hash: u64) -> Conditions<'_> {
        Conditions {
            pacing: &self.options.pacing,
            seed: self.options.seed ^ hash,
            keep_alive: head.keep_alive,
            http10: head.http10,
            head_only: head.method == "HEAD",
        }
    }

    fn script(&mut self, request: &Request, ask: &Ask, faults: &[Fault]) -> Script {
        let replaced = faults.iter().find(|fault| fault.replaces_answer());
        match replaced {
            Some(Fault::Raw(bytes)) => return script::raw(bytes.clone(), End::Fin, 0),
            Some(Fault::BadHead(kind)) => return script::raw(bad_head(*kind), End::Fin, 0),
            _ => {}
        }
        let mut answer = self.answer(request, ask, replaced);
        for fault in faults {
            match fault {
                Fault::ErrorLateEvent(after) => reshape::late_error(&mut answer, ask, *after),
                Fault::NoUsage => reshape::without_usage(&mut answer),
                _ => {}
            }
        }
        self.sign(&mut answer, ask.wire);
        let late_error = faults.iter().any(|fault| matches!(fault, Fault::ErrorLateEvent(_)));
        let bent = replaced.is_some() || (late_error && ask.stream);
        let mut script = script::compile(answer, faults, &self.conditions(&request.head, self.served));
        script.whole &= !bent;
        script
    }

    fn answer(&self, request: &Request, ask: &Ask, replaced: Option<&Fault>) -> Answer {
        let empty = |status: u16| Answer { status, ..Answer::bytes("text/plain", Vec::new()) };
        match replaced {
            Some(Fault::Error(error)) => {
                let mut answer = errors::scripted(ask, error);
                say_retry_after(&mut answer, error);
                answer
            }
            Some(Fault::ErrorIn200) => Answer::json(200, &errors::hidden(ask.wire)),
            Some(Fault::ErrorFirstEvent) if ask.stream => Answer::stream(errors::event(ask)),
            Some(Fault::ErrorFirstEvent) => Answer::json(200, &errors::hidden(ask.wire)),
            Some(Fault::Html200) => Answer::bytes(
                "text/html; charset=utf-8",
                b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Sign in to continue</h1></body></html>"
                    .to_vec(),
            ),
            Some(Fault::Empty200) => Answer::bytes("application/json", Vec::new()),
            Some(Fault::Redirect(to)) => {
                let mut answer = empty(302);
                answer.set_field("location", to.clone());
                answer
            }
            _ if !self.accepts(request.head.key()) => {
                let error = ErrorAnswer {
                    kind: ErrorKind::KeyRevoked,
                    status: None,
                    retry_after: None,
                    form: RetryForm::Seconds,
                };
                errors::scripted(ask, &error)
            }
            _ => answer::answer(request, ask, &self.setting()),
        }
    }

    fn accepts(&self, key: &str) -> bool {
        self.options.keys.is_empty() || self.options.keys.iter().any(|known| known == key)
    }

    fn setting(&self) -> Setting<'_> {
        Setting {
            seed: self.options.seed,
            tokens: self.options.pacing.tokens,
            models: &self.options.models,
            dialects: self.options.dialects,
            unix_s: CREATED_UNIX_S,
        }
    }

    /// Adds what a provider adds to every answer.
    fn sign(&mut self, answer: &mut Answer, wire: Wire) {
        self.served += 1;
        let (a, b) = (mix(self.options.seed, self.served, 1), mix(self.options.seed, self.served, 2));
        let id = format!("req_{a:016x}{b:016x}");
        let limited = answer.status == 429;
        let remaining = if limited { "0" } else { "9999" };
        answer.set_field("date", http_date(SystemTime::now()));
        match wire {
            Wire::OpenAi => {
                answer.set_field("x-request-id", id.clone());
                answer.set_field("openai-version", "2020-10-01");
                answer.set_field("openai-organization", "rehearsal");
                answer.set_field(
                    "openai-processing-ms",
                    self.options.pacing.first_token.as_millis().to_string(),
                );
                answer.set_field("x-ratelimit-limit-requests", "10000");
                answer.set_field("x-ratelimit-remaining-requests", remaining);
                answer.set_field("x-ratelimit-reset-requests", "6ms");
                answer.set_field("x-ratelimit-limit-tokens", "2000000");
                answer.set_field("x-ratelimit-remaining-tokens", "1999000");
                answer.set_field("x-ratelimit-reset-tokens", "30ms");
            }
            Wire::Anthropic => {
                answer.set_field("request-id", id.clone());
                answer.set_field("anthropic-organization-id", "00000000-0000-4000-8000-000000000000");
                answer.set_field("anthropic-ratelimit-requests-limit", "10000");
                answer.set_field("anthropic-ratelimit-requests-remaining", remaining);
                answer.set_field("anthropic-ratelimit-tokens-limit", "2000000");
                answer.set_field("anthropic-ratelimit-tokens-remaining", "1999000");
            }
        }
        if let (Wire::Anthropic, Body::Whole(bytes)) = (wire, &mut answer.body)
            && answer.status >= 400
        {
            let text = String::from_utf8_lossy(bytes);
            *bytes = text.replace("\"request_id\":null", &format!("\"request_id\":\"{id}\"")).into_bytes();
        }
    }
}

fn retry_after(faults: &[Fault]) -> Option<Duration> {
    match faults.iter().find(|fault| fault.replaces_answer()) {
        Some(Fault::Error(error)) => error.retry_after,
        _ => None,
    }
}

fn say_retry_after(answer: &mut Answer, error: &ErrorAnswer) {
    let Some(wait) = error.retry_after else { return };
    let milliseconds = wait.as_millis();
    match error.form {
        RetryForm::Seconds => {
            answer.set_field("retry-after", milliseconds.div_ceil(1000).to_string());
            if !milliseconds.is_multiple_of(1000) {
                answer.set_field("retry-after-ms", milliseconds.to_string());
            }
        }
        RetryForm::Milliseconds => answer.set_field("retry-after-ms", milliseconds.to_string()),
        RetryForm::Date => answer.set_field("retry-after", http_date(SystemTime::now() + wait)),
    }
}
