//! The list of models: those the plan names, and those that providers list.
//!
//! Providers are asked at the first request for the list and again when it is older than [`FRESH_US`]; all at once, and
//! one that does not answer within [`WAIT_US`] is left out until then. The list is a convenience: routing never reads it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use crate::dialect::models::{ModelEntry, parse_models};
use crate::net::dial::dial;
use crate::net::{Buf, Gather, buf, clock, gather::Side};
use crate::policy;
use crate::wire::chunked::{ChunkLimits, Decoder};
use crate::wire::fields::Fields;
use crate::wire::framing::{Body, frame_response};
use crate::wire::head::{HeadLimits, Parsed, parse_response};

use super::client::Client;
use super::core::{Core, CorePlan};
use super::outbound::USER_AGENT;

/// Age at which providers are asked again.
const FRESH_US: u64 = 300_000_000;
/// Longest wait for all of them.
const WAIT_US: u64 = 3_000_000;
/// Longest list of one provider.
const LIST_MAX: usize = 8 * 1024 * 1024;

/// What providers listed, and when.
#[derive(Default)]
pub struct ModelList(RefCell<Option<(Rc<Vec<ModelEntry>>, u64)>>);

type Asking = Pin<Box<dyn Future<Output = Option<Vec<ModelEntry>>>>>;

/// The models that a client may ask for, by id.
pub async fn list(client: &mut Client, plan: &Rc<CorePlan>) -> Rc<Vec<ModelEntry>> {
    let now = clock::now_us();
    if let Some((list, at)) = &*plan.models.0.borrow()
        && now < at + FRESH_US
    {
        return list.clone();
    }
    let core = client.core.clone();
    let mut asking: Vec<Asking> = Vec::new();
    for index in 0..plan.live.plan.providers.len() {
        asking.push(Box::pin(ask(core.clone(), plan.clone(), index, now + WAIT_US)));
    }
    let mut answers: Vec<Option<Option<Vec<ModelEntry>>>> = asking.iter().map(|_| None).collect();
    poll_fn(|cx| {
        for (future, answer) in asking.iter_mut().zip(&mut answers) {
            if answer.is_none()
                && let Poll::Ready(models) = future.as_mut().poll(cx)
            {
                *answer = Some(models);
            }
        }
        if answers.iter().all(Option::is_some) || client.poll_gone(cx).is_ready() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    let whole = answers.iter().all(Option::is_some);
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    let config = &plan.live.plan;
    let mut add = |id: String, owned_by: &str, created_unix_s: u64| {
        if seen.insert(id.clone()) {
            all.push(ModelEntry { id, owned_by: owned_by.to_owned(), created_unix_s });
        }
    };
    for offered in config.offered_models() {
        let provider = config.provider(offered.provider);
        add(offered.name.to_string(), &provider.name, 0);
    }
    for (provider, answer) in config.providers.iter().zip(answers) {
        for model in answer.flatten().unwrap_or_default() {
            add(format!("{}/{}", provider.name, model.id), &provider.name, model.created_unix_s);
        }
    }
    let list = Rc::new(all);
    if whole {
        // A client that left early must not leave the others with half a list.
        *plan.models.0.borrow_mut() = Some((list.clone(), now));
    }
    list
}

/// Asks one provider for its list; `None` when it gives none in time.
async fn ask(core: Rc<Core>, plan: Rc<CorePlan>, index: usize, by_us: u64) -> Option<Vec<ModelEntry>> {
    let provider = plan.live.plan.providers.get(index)?;
    let upstream = plan.live.upstreams.get(index)?;
    let key = (!provider.keys.is_empty()).then_some(policy::KeyId(0));
    let late = core.timers.deadline();
    late.set(by_us);
    let mut work = Box::pin(async {
        // A list is no reason to open more connections than the plan allows.
        let _seat = upstream.seats.take(upstream.bounds.open_max)?;
        let mut conn = dial(&upstream.destination, &core.resolver, &core.timers, by_us).await.ok()?;
        let mut head = Buf::take(buf::IDLE);
        let out = head.as_vec();
        out.extend_from_slice(format!("GET {}/models HTTP/1.1\r\n", provider.base_path).as_bytes());
        out.extend_from_slice(upstream.head(key));
        out.extend_from_slice(format!("User-Agent: {USER_AGENT}\r\n").as_bytes());
        if provider.dialect == crate::config::Dialect::Anthropic {
            let version = crate::dialect::head::ANTHROPIC_VERSION;
            out.extend_from_slice(format!("anthropic-version: {version}\r\n").as_bytes());
        }
        out.extend_from_slice(b"Accept: application/json\r\nConnection: close\r\n\r\n");
        let len = head.len();
        let mut gather = Box::new(Gather::new(head, Buf::default()));
        if !gather.piece(Side::Own, 0..len) {
            return None;
        }
        conn.write_gather(gather).await.0.ok()?;
        let mut read = Buf::take(buf::MEDIUM);
        loop {
            conn.arm(read);
            let (result, back) = conn.read().await;
            read = back;
            let over = result.ok()? == 0;
            match whole_body(&mut read, over, &plan.live.response_head) {
                Progress::Whole(body) => return parse_models(&body),
                Progress::Partial if over || read.len() > LIST_MAX => return None,
                Progress::Partial => read.reserve(buf::MEDIUM.max(read.len())),
                Progress::Useless => return None,
            }
        }
    });
    poll_fn(|cx| {
        if let Poll::Ready(models) = work.as_mut().poll(cx) {
            return Poll::Ready(models);
        }
        late.poll_passed(cx).map(|()| None)
    })
    .await
}

enum Progress {
    Whole(Vec<u8>),
    Partial,
    Useless,
}

/// The body of a 200 that is wholly in `read`. Parsing anew after each read is fine for a list that is asked for once in
/// five minutes.
fn whole_body(read: &mut Buf, over: bool, limits: &HeadLimits) -> Progress {
    let mut fields = Fields::new();
    let bytes = read.filled();
    let head = match parse_response(bytes, &mut fields, limits) {
        Ok(Parsed::Complete(head)) => head,
        Ok(Parsed::Partial) => return Progress::Partial,
        Err(_) => return Progress::Useless,
    };
    let Ok(framing) = frame_response(&head, &fields, bytes, false) else { return Progress::Useless };
    if head.status != 200 {
        return Progress::Useless;
    }
    let body = bytes.get(head.len..).unwrap_or_default();
    match framing.body {
        Body::Length(length) => match usize::try_from(length) {
            Ok(length) if body.len() >= length => Progress::Whole(body[..length].to_vec()),
            Ok(length) if length <= LIST_MAX => Progress::Partial,
            _ => Progress::Useless,
        },
        Body::Chunked => {
            let mut copy = body.to_vec();
            match Decoder::new(ChunkLimits::response()).decode(&mut copy) {
                Ok(progress) if progress.done => {
                    copy.truncate(progress.payload);
                    Progress::Whole(copy)
                }
                Ok(_) => Progress::Partial,
                Err(_) => Progress::Useless,
            }
        }
        Body::UntilClose if over => Progress::Whole(body.to_vec()),
        Body::UntilClose => Progress::Partial,
        Body::None => Progress::Useless,
    }
}
