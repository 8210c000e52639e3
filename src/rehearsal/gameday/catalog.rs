//! The scenarios, as data.
//!
//! The bars are those of the research notes that the project keeps and of the promises in `docs/resilience.md`. Times
//! are those of the unscaled clock; the pace of every provider is 100 ms to the first token and 5 ms a token.

use std::time::Duration;

use super::load::Load;
use super::scenario::{Bar, ProviderPlan, Scenario, Wish};

const A: &str = "alpha";
const B: &str = "bravo";
/// Two keys, told apart by their last four characters.
const TWO_KEYS: &[&str] = &["sk-rehearsal-first-0001", "sk-rehearsal-other-0002"];

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

/// A first provider that runs `program`, a second that is well, the usual load for a minute, the bars that always hold.
fn with_fallback(id: &'static str, title: &'static str, program: &'static str) -> Scenario {
    Scenario {
        id,
        title,
        providers: vec![ProviderPlan::ill(A, program), ProviderPlan::well(B)],
        load: Load::steady(50.0, s(60)),
        wishes: Vec::new(),
        healthy_from: None,
        bars: vec![
            Bar::Lost { at_most: 0 },
            Bar::FalseEnds,
            Bar::Amplification { at_most: 1.10 },
            Bar::NothingLeftOpen,
        ],
    }
}

fn alone(id: &'static str, title: &'static str, program: &'static str) -> Scenario {
    let mut scenario = with_fallback(id, title, program);
    scenario.providers.truncate(1);
    scenario.bars = vec![Bar::FalseEnds, Bar::Amplification { at_most: 1.10 }, Bar::NothingLeftOpen];
    scenario
}

impl Scenario {
    fn load(mut self, load: Load) -> Scenario {
        self.load = load;
        self
    }

    fn wish(mut self, wish: Wish) -> Scenario {
        self.wishes.push(wish);
        self
    }

    fn bar(mut self, bar: Bar) -> Scenario {
        // A scenario's own figure replaces the usual one.
        self.bars.retain(|known| std::mem::discriminant(known) != std::mem::discriminant(&bar));
        self.bars.push(bar);
        self
    }

    fn healthy_from(mut self, from: Duration) -> Scenario {
        self.healthy_from = Some(from);
        self
    }

    fn first_keys(mut self, keys: &'static [&'static str]) -> Scenario {
        if let Some(first) = self.providers.first_mut() {
            first.keys = keys;
        }
        self
    }

    fn first_host(mut self, host: &'static str) -> Scenario {
        if let Some(first) = self.providers.first_mut() {
            first.host = Some(host);
        }
        self
    }
}

/// Every scenario, in the order they are run.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = healthy_and_limited();
    all.extend(slow_and_down());
    all.extend(broken_answers());
    all.extend(keys_and_names());
    all.extend(clients());
    all
}

fn healthy_and_limited() -> Vec<Scenario> {
    vec![
        with_fallback("healthy", "nothing is wrong", "ok")
            .bar(Bar::Amplification { at_most: 1.02 })
            .bar(Bar::Spend { at_most: 1.0 }),
        with_fallback(
            "brownout",
            "30 % of calls get 429 with Retry-After 60",
            "brownout:rate=0.3,retry-after=60",
        )
        .load(Load::steady(50.0, s(600)))
        .bar(Bar::InsideRetryAfter)
        .bar(Bar::Amplification { at_most: 1.05 })
        .bar(Bar::Spend { at_most: 1.05 }),
        alone("brownout-alone", "the same, and nobody else to ask", "brownout:rate=0.3,retry-after=60")
            .load(Load::steady(50.0, s(600)))
            .bar(Bar::InsideRetryAfter)
            .bar(Bar::Amplification { at_most: 1.0 })
            .bar(Bar::RefusedWithin { at_most: ms(5), after: s(0) })
            .bar(Bar::RetryAfterTold { after: s(0) }),
        with_fallback(
            "long-prompts",
            "prompts of 200,000 tokens in a brownout",
            "brownout:rate=0.3,retry-after=60",
        )
        .load(Load { prompt_bytes: 800_000, streams: 0.5, ..Load::steady(20.0, s(120)) })
        .bar(Bar::InsideRetryAfter)
        .bar(Bar::Spend { at_most: 1.05 }),
    ]
}

fn slow_and_down() -> Vec<Scenario> {
    vec![
        with_fallback("slowdown", "every answer 15 s later, attempts end after 8 s", "slow:+15s")
            .load(Load::steady(50.0, s(120)).at_least(s(10)))
            .wish(Wish::AttemptTimeout(s(8)))
            .bar(Bar::SlowestAnswer { at_most: ms(8_500) })
            .bar(Bar::SlowAnswers { at_most: ms(1_000), after: s(30) }),
        // Slow, but within every limit: no call fails, so that slow calls alone can open the breaker.
        with_fallback("slow-calls", "every answer 6 s later, and slow calls open the breaker", "slow:+6s")
            .load(Load::steady(50.0, s(120)).at_least(s(10)))
            .wish(Wish::AttemptTimeout(s(8)))
            .wish(Wish::SlowCall(s(5)))
            .bar(Bar::SlowestAnswer { at_most: ms(8_500) })
            .bar(Bar::SlowAnswers { at_most: ms(1_000), after: s(15) }),
        with_fallback("patience", "every answer 15 s later, and the defaults wait for it", "slow:+15s")
            .load(Load { patience: s(60), ..Load::steady(50.0, s(120)) })
            .bar(Bar::Amplification { at_most: 1.02 }),
        with_fallback("down", "503 for eight minutes, then well", "down:503,for=8m then ok")
            .load(Load::steady(50.0, s(600)).ending_after(s(65)))
            .healthy_from(s(480))
            .bar(Bar::ProbesWhileDown { at_most: 30, after: s(2) })
            .bar(Bar::RecoveredWithin { at_most: s(30) })
            .bar(Bar::FullShareWithin { at_most: s(60) })
            .bar(Bar::NoRush { at_most: 1.2 }),
        alone("down-alone", "the same, and nobody else to ask", "down:503,for=8m then ok")
            .load(Load::steady(50.0, s(600)).ending_after(s(65)))
            .healthy_from(s(480))
            .bar(Bar::ProbesWhileDown { at_most: 30, after: s(2) })
            .bar(Bar::RefusedWithin { at_most: ms(5), after: s(10) })
            .bar(Bar::RetryAfterTold { after: s(10) })
            .bar(Bar::RecoveredWithin { at_most: s(30) }),
        other_dialect(),
        both_down(),
        with_fallback("hang", "connections are accepted, nothing is answered", "hang")
            .load(Load { patience: s(60), ..Load::steady(50.0, s(120)).at_least(s(10)) })
            .wish(Wish::AttemptTimeout(s(8)))
            .bar(Bar::SlowestAnswer { at_most: ms(8_500) })
            .bar(Bar::SlowAnswers { at_most: ms(1_000), after: s(30) }),
        with_fallback("refused", "connections are refused", "refuse")
            .bar(Bar::SlowestAnswer { at_most: ms(1_000) }),
        with_fallback("blackhole", "connections never complete", "blackhole")
            .wish(Wish::ConnectTimeout(s(2)))
            .bar(Bar::SlowestAnswer { at_most: ms(3_500) }),
        with_fallback(
            "late-first-event",
            "the head comes at once, the first event 15 s later",
            "first-event-late:15s",
        )
        // What is asked before the first attempt has timed out is asked twice, whatever the policy: in a minute that alone
        // would be more than a tenth.
        .load(Load { streams: 1.0, ..Load::steady(20.0, s(120)).at_least(s(10)) })
        .wish(Wish::AttemptTimeout(s(8)))
        .bar(Bar::SlowestAnswer { at_most: ms(8_500) }),
    ]
}

/// The fallback speaks another language, and the clients do not notice.
fn other_dialect() -> Scenario {
    let title = "503, and the next provider speaks the Anthropic dialect";
    let mut scenario = with_fallback("other-dialect", title, "down:503");
    scenario.providers[1].anthropic = true;
    scenario
}

fn both_down() -> Scenario {
    let mut scenario = with_fallback("all-down", "every provider answers 503", "down:503")
        .bar(Bar::RefusedWithin { at_most: ms(5), after: s(10) })
        .bar(Bar::RetryAfterTold { after: s(10) })
        .bar(Bar::Spend { at_most: 0.0 });
    scenario.bars.retain(|bar| !matches!(bar, Bar::Lost { .. }));
    scenario.providers[1].program = "down:503";
    scenario.load = scenario.load.at_least(s(20));
    scenario
}

fn broken_answers() -> Vec<Scenario> {
    let streams = || Load { streams: 1.0, ..Load::steady(50.0, s(60)) };
    let whole = || Load { streams: 0.0, ..Load::steady(50.0, s(60)) };
    let visible = |mut scenario: Scenario| {
        // After the first word nobody may take over; the client must be able to tell.
        scenario.bars.retain(|bar| !matches!(bar, Bar::Lost { .. }));
        scenario.bar(Bar::Answered { at_least: 0.45 }).bar(Bar::Amplification { at_most: 1.0 })
    };
    vec![
        visible(with_fallback(
            "reset",
            "half of the streams are reset after five words",
            "reset:after=5,p=0.5",
        ))
        .load(streams()),
        visible(with_fallback("cut", "half of the streams end after five words", "cut:after=5,p=0.5"))
            .load(streams()),
        visible(
            with_fallback("trickle", "half of the streams leave one byte a second", "trickle:1Bps,p=0.5")
                .load(Load { patience: s(60), ..streams() })
                .wish(Wish::TokenGap(s(10))),
        )
        .load(Load { patience: s(60), ..streams() }),
        with_fallback("truncated", "bodies are shorter than they say", "truncate").load(whole()),
        with_fallback("cut-json", "half of the JSON, well framed", "cut-json").load(whole()),
        with_fallback("error-in-200", "200 and an error object", "error-in-200").load(whole()),
        with_fallback(
            "error-first-event",
            "200, a stream, and the first event is an error",
            "error-first-event",
        )
        .load(streams()),
        with_fallback("html", "200 and a page of HTML", "html-200"),
        with_fallback("empty", "200 and nothing", "empty-200"),
        with_fallback("bad-heads", "heads that break HTTP", "bad-head:length-and-chunked"),
        with_fallback("huge-heads", "600 KB of header fields", "huge-head:600000")
            .load(Load::steady(10.0, s(60)).at_least(s(10))),
        with_fallback(
            "idle-close",
            "kept-alive connections close just when they are used",
            "close-idle:20ms",
        )
        .bar(Bar::Amplification { at_most: 1.02 }),
    ]
}

fn keys_and_names() -> Vec<Scenario> {
    vec![
        with_fallback("key-revoked", "one of two keys is revoked", "key-revoked:key=0001")
            .first_keys(TWO_KEYS)
            .bar(Bar::CallsWithKey { key: "0001", at_most: 5 }),
        with_fallback("out-of-credit", "one of two keys has no money left", "out-of-credit:key=0001")
            .first_keys(TWO_KEYS)
            .bar(Bar::CallsWithKey { key: "0001", at_most: 5 }),
        with_fallback("limited-key", "one of two keys is limited", "brownout:rate=1,retry-after=60,key=0001")
            .first_keys(TWO_KEYS)
            .bar(Bar::InsideRetryAfter),
        with_fallback("no-such-name", "the provider's name does not resolve", "ok")
            .first_host("nowhere.invalid")
            .bar(Bar::SlowAnswers { at_most: ms(1_000), after: s(10) }),
    ]
}

fn clients() -> Vec<Scenario> {
    let mut retries =
        alone("impatient-clients", "clients give up after 6 s and ask again with the same key", "slow:+9s")
            .load(Load {
                patience: s(6),
                retries: 2,
                idempotency: true,
                streams: 0.0,
                ..Load::steady(5.0, s(60)).at_least(s(10))
            })
            .bar(Bar::Lost { at_most: 0 })
            .bar(Bar::Amplification { at_most: 1.0 })
            .bar(Bar::Spend { at_most: 1.0 });
    retries.bars.retain(|bar| !matches!(bar, Bar::NothingLeftOpen));
    vec![
        retries,
        alone("bail-out", "a build step must give up after two failures", "down:503")
            .load(Load { step: Some("triage"), streams: 0.0, ..Load::steady(20.0, s(30)).at_least(s(7)) })
            .wish(Wish::StepFailures(2))
            .wish(Wish::NoRetries)
            .bar(Bar::RefusedWithin { at_most: ms(5), after: s(1) })
            .bar(Bar::UpstreamCalls { at_most: 2 }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rehearsal::Program;

    #[test]
    fn every_scenario_is_named_once_and_its_programs_can_be_read() {
        let all = scenarios();
        for (n, scenario) in all.iter().enumerate() {
            assert!(all[..n].iter().all(|other| other.id != scenario.id), "{}", scenario.id);
            assert!(!scenario.bars.is_empty() && !scenario.providers.is_empty());
            for provider in &scenario.providers {
                Program::parse(provider.program).unwrap_or_else(|e| panic!("{}: {e}", scenario.id));
            }
        }
    }

    #[test]
    fn recovery_is_only_asked_of_providers_that_recover() {
        for scenario in scenarios() {
            let asks = scenario.bars.iter().any(|bar| {
                matches!(
                    bar,
                    Bar::RecoveredWithin { .. }
                        | Bar::FullShareWithin { .. }
                        | Bar::NoRush { .. }
                        | Bar::ProbesWhileDown { .. }
                )
            });
            assert_eq!(asks, scenario.healthy_from.is_some(), "{}", scenario.id);
        }
    }
}
