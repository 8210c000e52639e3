//! What happens in one run: everything follows from the seed.

use super::super::bulkhead::BulkheadSettings;
use super::super::hedge::HedgeSettings;
use super::super::random::Random;
use super::super::settings::{ProviderSettings, RetrySettings, Settings};
use super::script::{Fault, S, Script, Trouble};

/// One run.
#[derive(Debug, Clone)]
pub struct Scenario {
    /// The seed it came from.
    pub seed: u64,
    /// Cores that share the cells.
    pub cores: usize,
    /// The engine's settings.
    pub settings: Settings,
    /// Providers, in the order of the chain.
    pub scripts: Vec<Script>,
    /// Requests that arrive.
    pub requests: u64,
    /// Over this time, microseconds.
    pub duration_us: u64,
    /// Percent that stream.
    pub streams: u64,
    /// How long clients wait, microseconds; the gateway is told.
    pub deadline_us: Option<u64>,
    /// How long clients wait before they leave without a word, microseconds.
    pub patience_us: Option<u64>,
    /// Percent of clients that retry by themselves, as the SDKs do.
    pub sdk_retries: u64,
    /// Tokens of a prompt.
    pub prompt_tokens: u32,
}

impl Scenario {
    /// The scenario of a seed.
    pub fn of(seed: u64) -> Scenario {
        let mut random = Random::new(seed.wrapping_mul(0x2545_F491_4F6C_DD1D).wrapping_add(1));
        let r = &mut random;
        let duration_us = r.between(40, 600) * S;
        let providers = r.between(1, 3) as usize;
        let healthy = r.below(8) == 0;
        // The last provider of most chains stays well, so that whatever is lost is the engine's fault.
        let anchored = r.below(4) != 0 && providers > 1;
        let scripts: Vec<Script> = (0..providers)
            .map(|p| {
                let well = healthy || (anchored && p + 1 == providers);
                script(r, duration_us, well)
            })
            .collect();
        let rate_milli = r.between(4_000, 60_000);
        let requests = (duration_us / 1000 * rate_milli / 1_000_000).clamp(300, 1_600);
        let settings = settings(r, &scripts);
        Scenario {
            seed,
            cores: r.between(1, 4) as usize,
            settings,
            requests,
            duration_us,
            streams: [0, 50, 100][r.below(3) as usize],
            deadline_us: (r.below(6) == 0).then(|| r.between(20, 60) * S),
            patience_us: (r.below(6) == 0).then(|| r.between(15, 60) * S),
            sdk_retries: if r.below(3) == 0 { 100 } else { 0 },
            prompt_tokens: [200, 4_000, 30_000, 200_000][r.below(4) as usize],
            scripts,
        }
    }

    /// True when nothing is wrong anywhere.
    pub fn is_healthy(&self) -> bool {
        self.scripts.iter().all(|s| s.faults.is_empty())
    }
}

fn script(r: &mut Random, duration_us: u64, well: bool) -> Script {
    let first_token_us = r.between(50, 1_500) * 1000;
    let mut faults = Vec::new();
    let mut at_us = r.between(0, duration_us / 2);
    while !well && at_us < duration_us && faults.len() < 3 {
        let to_us = at_us + r.between(5, (duration_us / S).min(480)) * S;
        faults.push(Fault { from_us: at_us, to_us, trouble: trouble(r) });
        at_us = to_us + r.between(10, 120) * S;
    }
    Script {
        keys: r.between(1, 3) as u16,
        first_token_us,
        // Even the slowest healthy answer takes less than the usual limit of 8 s.
        rest_us: r.between(100, 1_000) * 1000,
        stale_per_mille: r.below(3),
        faults,
    }
}

fn trouble(r: &mut Random) -> Trouble {
    match r.below(10) {
        0 | 1 => Trouble::Brownout {
            share: r.between(5, 100),
            retry_after_us: [0, 1, 5, 60, 300][r.below(5) as usize] * S,
        },
        2 | 3 => Trouble::Errors {
            share: [5, 15, 25, 40, 60, 100][r.below(6) as usize],
            status: [500, 502, 503, 529][r.below(4) as usize],
        },
        4 => Trouble::Slow(r.between(1, 20) * S),
        5 => Trouble::Hang,
        6 => Trouble::Refused,
        7 => Trouble::Cut(r.between(5, 100)),
        8 => Trouble::ErrorInOk(r.between(5, 100)),
        _ => [Trouble::Revoked, Trouble::Broke][r.below(2) as usize],
    }
}

fn settings(r: &mut Random, scripts: &[Script]) -> Settings {
    let attempt_us = if r.below(5) == 0 { None } else { Some(8 * S) };
    let retries = [None, None, Some(0), Some(1), Some(2)][r.below(5) as usize];
    let floor = if r.below(2) == 0 { 0 } else { 3 };
    let cap = (r.below(10) == 0).then(|| r.between(2, 40) as u32);
    let slow_call_us = (r.below(4) == 0).then_some(5 * S);
    let providers = scripts.iter().enumerate().map(|(index, script)| {
        let mut p = ProviderSettings::new(&format!("p{index}"));
        p = p.with_keys(&vec![1.0; usize::from(script.keys)]);
        p.timeouts.attempt_us = attempt_us;
        p.retry = RetrySettings { max_retries: retries, ..RetrySettings::default() };
        p.budget.floor_per_second = floor;
        p.breaker.slow_call_us = slow_call_us;
        p.bulkhead = BulkheadSettings { concurrent_max: cap, ..BulkheadSettings::default() };
        p
    });
    let mut settings = Settings::new(providers.collect());
    settings.policies[0].hedge = (r.below(5) == 0).then(HedgeSettings::default);
    settings.retry_nano_usd_per_minute = (r.below(4) == 0).then(|| r.between(1, 3_000_000_000));
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_makes_the_same_scenario() {
        for seed in 0..50 {
            let (a, b) = (Scenario::of(seed), Scenario::of(seed));
            assert_eq!((a.scripts, a.settings, a.requests), (b.scripts, b.settings, b.requests));
        }
    }
}
