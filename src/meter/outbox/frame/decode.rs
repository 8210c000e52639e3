//! Reads a frame back as plain data that borrows from it, on the writer's thread.

use super::{
    ABSENT, ANSWERED, ATTEMPT_NUMBERS, Attempt, Entry, KEYED, NUMBERS, PRICED, STREAM, TRUNCATED, Trace,
    UNPRICED, USAGE, USAGE_MISSING,
};
use crate::dialect::{ServiceTier, Usage};
use crate::meter::record::{Answered, Cost, Spend, WHO_MAX};
use crate::meter::trace::Context;

/// Reads what `encode` wrote. `None` for anything else.
pub fn decode(bytes: &[u8]) -> Option<Entry<'_>> {
    let mut from = Bytes(bytes);
    let flags = from.byte()?;
    let has = |bit: u8| flags & bit != 0;
    let [
        small,
        input,
        cache_read,
        cache_write,
        cache_write_long,
        output,
        reasoning,
        audio_in,
        audio_out,
        cost,
        started_us,
        duration_us,
        first,
        generating,
        overhead,
        queued_us,
    ] = from.numbers::<NUMBERS>()?;
    let tier = ServiceTier::from_code((small >> 24) as u8);
    let usage = Usage {
        input,
        cache_read,
        cache_write,
        cache_write_long,
        output,
        reasoning,
        audio_in,
        audio_out,
        tier,
    };
    let [id, api, outcome, source, code, route, asked] = from.texts()?;
    let by = from.party(has(KEYED))?;
    let known = |number: u64| (number != ABSENT).then_some(number);
    let mut who = Vec::with_capacity(WHO_MAX);
    for _ in 0..from.byte()? {
        let [name, value] = from.texts()?;
        who.push((name, value));
    }
    let count = from.byte()?;
    let mut attempts = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        attempts.push(attempt(&mut from)?);
    }
    let trace = match from.byte()? {
        0 => None,
        _ => Some(trace(&mut from, attempts.len())?),
    };
    Some(Entry {
        id,
        api,
        stream: has(STREAM),
        status: small as u16,
        outcome,
        source,
        code,
        route,
        asked,
        answered: has(ANSWERED).then_some(by),
        usage: has(USAGE).then_some(usage),
        usage_missing: has(USAGE_MISSING),
        cost: match (has(PRICED), has(UNPRICED)) {
            (true, _) => Cost::Priced(cost),
            (_, true) => Cost::Unpriced,
            _ => Cost::Unknown,
        },
        started_us,
        duration_us,
        first_token_us: known(first),
        generating_us: known(generating),
        overhead_us: known(overhead),
        queued_us,
        truncated: has(TRUNCATED),
        client_retries: (small >> 16) as u8,
        attempts,
        who,
        trace,
    })
}

fn trace<'b>(from: &mut Bytes<'b>, attempts: usize) -> Option<Trace<'b>> {
    let (id, rest) = from.0.split_first_chunk()?;
    from.0 = rest;
    let flags = from.byte()?;
    let [span, parent, first] = from.numbers()?;
    let [finish, model] = from.texts()?;
    let mut servers = Vec::with_capacity(attempts);
    for _ in 0..attempts {
        let host = from.text()?;
        servers.push((host, u16::from_le_bytes([from.byte()?, from.byte()?])));
    }
    Some(Trace {
        context: Context { trace: *id, span, parent, flags },
        first_content_us: (first != ABSENT).then_some(first),
        finish,
        model,
        servers,
    })
}

fn attempt<'b>(from: &mut Bytes<'b>) -> Option<Attempt<'b>> {
    let flags = from.byte()?;
    let status = u16::from_le_bytes([from.byte()?, from.byte()?]);
    let [after_us, elapsed_us, tokens, reported_nano_usd, estimated_nano_usd] =
        from.numbers::<ATTEMPT_NUMBERS>()?;
    let target = from.party(flags & 2 != 0)?;
    let [reason, result, fault] = from.texts()?;
    Some(Attempt {
        target,
        reason,
        result,
        status: (status > 0).then_some(status),
        fault,
        after_us,
        elapsed_us,
        answers: flags & 1 != 0,
        spend: Spend { tokens, reported_nano_usd, estimated_nano_usd, aborted: flags & 4 != 0 },
    })
}

struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn numbers<const N: usize>(&mut self) -> Option<[u64; N]> {
        let mut numbers = [0; N];
        for number in &mut numbers {
            let (bytes, rest) = self.0.split_first_chunk()?;
            self.0 = rest;
            *number = u64::from_le_bytes(*bytes);
        }
        Some(numbers)
    }

    fn text(&mut self) -> Option<&'b str> {
        let length = usize::from(self.byte()?);
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }

    fn texts<const N: usize>(&mut self) -> Option<[&'b str; N]> {
        let mut texts = [""; N];
        for text in &mut texts {
            *text = self.text()?;
        }
        Some(texts)
    }

    fn party(&mut self, keyed: bool) -> Option<Answered<'b>> {
        let [provider, model, key] = self.texts()?;
        Some(Answered { provider, model, key: keyed.then_some(key) })
    }
}
