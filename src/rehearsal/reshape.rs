//! Faults that change what an answer says, before it is framed and timed.

use serde_json::Value;

use super::answer::{Answer, Ask, Body, Event, Part, errors};
use super::bytes::gzip;
use super::program::Fault;
use super::script::{IdleAct, Script};

/// Faults that change what is said.
pub(super) fn answer(answer: &mut Answer, faults: &[Fault], script: &mut Script) {
    for fault in faults {
        match fault {
            Fault::Gzip => {
                let bytes = match &answer.body {
                    Body::Whole(bytes) => bytes.clone(),
                    Body::Stream(events) => events.iter().flat_map(|event| event.bytes.clone()).collect(),
                };
                answer.body = Body::Whole(gzip(&bytes));
                answer.set_field("content-encoding", "gzip");
            }
            Fault::CutJson => {
                script.whole = false;
                match &mut answer.body {
                    Body::Whole(bytes) => bytes.truncate(bytes.len() / 2),
                    Body::Stream(events) => cut_event(events),
                }
            }
            Fault::Header(line) => {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                answer.fields.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            Fault::CloseIdle(after) => script.idle = Some((*after, IdleAct::Fin)),
            Fault::Idle408(after) => script.idle = Some((*after, IdleAct::RequestTimeout)),
            _ => {}
        }
        if let Body::Stream(events) = &mut answer.body {
            bend_events(events, fault, script);
        }
    }
}

fn bend_events(events: &mut Vec<Event>, fault: &Fault, script: &mut Script) {
    match fault {
        Fault::NoDone => {
            script.whole = false;
            events.retain(|event| event.part != Part::Terminal);
        }
        Fault::AfterDone => {
            if let Some(content) = events.iter().find(|event| event.part == Part::Content).cloned() {
                events.push(Event { part: Part::Terminal, ..content });
            }
        }
        Fault::LineEnds(ends) => {
            for event in events {
                let text = String::from_utf8_lossy(&event.bytes).replace('\n', ends);
                event.bytes = text.into_bytes();
            }
        }
        Fault::Comments => {
            for event in events {
                event.bytes.splice(..0, b": rehearsal\n\n".iter().copied());
            }
        }
        Fault::BigEvent(size) => {
            if let Some(event) = events.iter_mut().find(|event| event.part == Part::Content) {
                // Blanks after the JSON text change its length and not its value.
                let end = event.bytes.len() - 2;
                let missing = size.saturating_sub(event.bytes.len());
                event.bytes.splice(end..end, std::iter::repeat_n(b' ', missing));
            }
        }
        _ => {}
    }
}

/// Half of the JSON of the middle content event, then the rest of the stream as usual.
fn cut_event(events: &mut [Event]) {
    let content = events.iter().filter(|event| event.part == Part::Content).count();
    if let Some(event) = events.iter_mut().filter(|event| event.part == Part::Content).nth(content / 2) {
        let half = event.bytes.len() / 2;
        event.bytes.truncate(half);
        event.bytes.extend_from_slice(b"\n\n");
    }
}

/// Keeps so many content events, then says that something went wrong.
pub(super) fn late_error(answer: &mut Answer, ask: &Ask, after: usize) {
    let Body::Stream(events) = &mut answer.body else { return };
    let mut content = 0;
    let kept = events.iter().position(|event| {
        let stop = event.part == Part::Content && content >= after;
        content += usize::from(event.part == Part::Content);
        stop || matches!(event.part, Part::Tail | Part::Terminal) && content >= after
    });
    events.truncate(kept.unwrap_or(events.len()));
    events.extend(errors::event(ask));
}

/// Takes every usage member out of an answer.
pub(super) fn without_usage(answer: &mut Answer) {
    fn strip(value: &mut Value) {
        for holder in [None, Some("message"), Some("response")] {
            let object = match holder {
                None => value.as_object_mut(),
                Some(name) => value.get_mut(name).and_then(Value::as_object_mut),
            };
            if let Some(object) = object {
                object.remove("usage");
            }
        }
    }
    match &mut answer.body {
        Body::Whole(bytes) => {
            if let Ok(mut value) = serde_json::from_slice::<Value>(bytes) {
                strip(&mut value);
                *bytes = value.to_string().into_bytes();
            }
        }
        Body::Stream(events) => {
            for event in events.iter_mut() {
                let text = String::from_utf8_lossy(&event.bytes).into_owned();
                let Some((before, data)) = text.split_once("data: ") else { continue };
                let Ok(mut value) = serde_json::from_str::<Value>(data.trim_end()) else { continue };
                strip(&mut value);
                let only_usage = value.get("choices").and_then(Value::as_array).is_some_and(Vec::is_empty);
                event.bytes =
                    if only_usage { Vec::new() } else { format!("{before}data: {value}\n\n").into_bytes() };
            }
            events.retain(|event| !event.bytes.is_empty());
        }
    }
}
