//! The numbers that decisions are made from: a plan compiled to small tables.
//!
//! Policy takes numbers indexed by small ids, not a config file, so that every mechanism can be tested and
//! simulated without one. The gateway compiles a [`Settings`] from each plan once; it is immutable, and shared by
//! all cores. Names stay in the plan; here a provider is known by its index and by a hash of its name.

use super::balance::Balance;
use super::breaker::BreakerSettings;
use super::budget::BudgetSettings;
use super::bulkhead::BulkheadSettings;
use super::cooldown::CooldownSettings;
use super::estimate::ModelFacts;
use super::hedge::HedgeSettings;
use super::price::PriceSource;
use crate::config::defaults;

/// Targets in one chain, at most; the rest is a config error.
pub const CHAIN_MAX: usize = 16;
/// Upstream calls made for one exchange, at most.
pub const ATTEMPTS_MAX: usize = 16;
/// Keys of one provider, at most: eligibility is a 64-bit mask.
pub const KEYS_MAX: usize = 64;

/// One second, in the unit of every clock and duration here.
pub const SECOND_US: u64 = 1_000_000;

/// The limits on one provider's attempts. Microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Name, connect and TLS together.
    pub connect_us: u64,
    /// From the start of an attempt to the first content-bearing event of a stream.
    pub first_token_us: u64,
    /// Between two events of a stream, or two reads of a body.
    pub token_gap_us: u64,
    /// From the start of an attempt to the end of its answer.
    pub total_us: u64,
    /// `default_request_timeout_in_seconds`: the whole answer of one attempt, or its first token when streaming.
    pub attempt_us: Option<u64>,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            connect_us: defaults::CONNECT_MS * 1000,
            first_token_us: defaults::FIRST_TOKEN_MS * 1000,
            token_gap_us: defaults::TOKEN_GAP_MS * 1000,
            total_us: defaults::TOTAL_MS * 1000,
            attempt_us: None,
        }
    }
}

/// What a route sets over the [`Timeouts`] of its providers. Microseconds; `None` leaves the provider's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RouteTimeouts {
    /// Name, connect and TLS together.
    pub connect_us: Option<u64>,
    /// From the start of an attempt to the first content.
    pub first_token_us: Option<u64>,
    /// Between two events of a stream.
    pub token_gap_us: Option<u64>,
    /// The whole exchange on the route, and so each of its attempts.
    pub total_us: Option<u64>,
    /// The whole answer of one attempt, or its first token when streaming.
    pub attempt_us: Option<u64>,
}

impl RouteTimeouts {
    /// Nothing set.
    pub const NONE: Self = RouteTimeouts {
        connect_us: None,
        first_token_us: None,
        token_gap_us: None,
        total_us: None,
        attempt_us: None,
    };

    /// The limits of an attempt on the route at a provider with the limits `base`.
    pub fn over(&self, base: &Timeouts) -> Timeouts {
        Timeouts {
            connect_us: self.connect_us.unwrap_or(base.connect_us),
            first_token_us: self.first_token_us.unwrap_or(base.first_token_us),
            token_gap_us: self.token_gap_us.unwrap_or(base.token_gap_us),
            total_us: self.total_us.unwrap_or(base.total_us),
            attempt_us: self.attempt_us.or(base.attempt_us),
        }
    }
}

/// Retries on the last target of a chain when the configuration says nothing.
pub const LAST_TARGET_RETRIES: u8 = defaults::LAST_TARGET_RETRIES;

/// Retries on the same provider: Bifrost's `max_retries`, `retry_backoff_initial`, `retry_backoff_max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetrySettings {
    /// Further attempts on the same target before the next one is asked. `None`: none while another target is left,
    /// because asking it at once is faster than any wait; on the last one up to [`LAST_TARGET_RETRIES`], after
    /// failures that cannot have been billed.
    pub max_retries: Option<u8>,
    /// Wait before the first retry, microseconds; doubled for each further one, times 0.8 to 1.2.
    pub backoff_initial_us: u64,
    /// The longest wait, microseconds; also the longest Retry-After that is worth waiting for.
    pub backoff_max_us: u64,
}

impl Default for RetrySettings {
    fn default() -> Self {
        RetrySettings {
            max_retries: None,
            backoff_initial_us: defaults::RETRY_BACKOFF_INITIAL_MS * 1000,
            backoff_max_us: defaults::RETRY_BACKOFF_MAX_MS * 1000,
        }
    }
}

/// One credential.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeySettings {
    /// Share of this key among the keys of its provider that may be used; 0 makes it a standby, used when no key
    /// with a weight can be.
    pub weight: f64,
}

/// One provider.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderSettings {
    /// Hash of the provider's name ([`super::shared::identity`]), so that state survives a reload that reorders.
    pub identity: u64,
    /// Hash of the names of its keys, in order.
    pub key_identity: u64,
    /// Credentials, at most [`KEYS_MAX`]; none for a provider that needs none.
    pub keys: Vec<KeySettings>,
    /// Limits on its attempts.
    pub timeouts: Timeouts,
    /// Retries on it.
    pub retry: RetrySettings,
    /// How a 429 cools a key.
    pub cooldown: CooldownSettings,
    /// When its targets are left alone.
    pub breaker: BreakerSettings,
    /// How much may be sent again.
    pub budget: BudgetSettings,
    /// How many calls at a time.
    pub bulkhead: BulkheadSettings,
}

impl ProviderSettings {
    /// A provider with every default, known by `name`.
    pub fn new(name: &str) -> Self {
        ProviderSettings {
            identity: super::shared::identity(name.as_bytes()),
            key_identity: 0,
            keys: Vec::new(),
            timeouts: Timeouts::default(),
            retry: RetrySettings::default(),
            cooldown: CooldownSettings::RATE,
            breaker: BreakerSettings::default(),
            budget: BudgetSettings::default(),
            bulkhead: BulkheadSettings::default(),
        }
    }

    /// The same provider with these key weights.
    pub fn with_keys(mut self, weights: &[f64]) -> Self {
        assert!(weights.len() <= KEYS_MAX, "at most {KEYS_MAX} keys a provider");
        self.keys = weights.iter().map(|&weight| KeySettings { weight }).collect();
        self
    }
}

/// What a route may set for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoutePolicy {
    /// How targets that are equals share.
    pub balance: Balance,
    /// Second calls for slow first ones; `None`: off, because both bill.
    pub hedge: Option<HedgeSettings>,
    /// Timeouts over those of the providers.
    pub timeouts: RouteTimeouts,
}

/// The policy of a route that sets nothing.
static NOTHING_SET: RoutePolicy =
    RoutePolicy { balance: Balance::Weighted, hedge: None, timeouts: RouteTimeouts::NONE };

/// Everything policy needs to know of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// By [`super::ProviderId`].
    pub providers: Vec<ProviderSettings>,
    /// By [`super::PolicyId`]; the first is for chains without a route.
    pub policies: Vec<RoutePolicy>,
    /// What is known of the models that the plan names, by its slot numbers.
    pub facts: Vec<ModelFacts>,
    /// What is known of the others.
    pub prices: PriceSource,
    /// From the arrival of a request to the end of its answer, over all attempts and waits, microseconds.
    pub exchange_total_us: u64,
    /// `max_retry_cost_usd_per_minute`, in nano-dollars; `None`: no limit in money.
    pub retry_nano_usd_per_minute: Option<u64>,
    /// What an input token of an unpriced model is taken to cost under that limit.
    pub unpriced_input_nano_usd: u32,
}

impl Settings {
    /// Defaults for these providers.
    pub fn new(providers: Vec<ProviderSettings>) -> Self {
        Settings {
            providers,
            policies: vec![RoutePolicy::default()],
            facts: Vec::new(),
            prices: PriceSource::default(),
            exchange_total_us: Timeouts::default().total_us,
            retry_nano_usd_per_minute: None,
            unpriced_input_nano_usd: defaults::UNPRICED_INPUT_NANO_USD,
        }
    }

    /// The policy of a route; the default one for an unknown id.
    pub fn policy(&self, id: super::ids::PolicyId) -> &RoutePolicy {
        self.policies.get(usize::from(id.0)).unwrap_or(&NOTHING_SET)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::ids::PolicyId;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_provider_has_sixty_four_keys_and_a_model_without_a_route_the_default_policy() {
        assert_eq!(ProviderSettings::new("a").with_keys(&[1.0; KEYS_MAX]).keys.len(), KEYS_MAX);
        let mut settings = Settings::new(Vec::new());
        settings.policies[0].balance = Balance::PeakEwma;
        assert_eq!(settings.policy(PolicyId(0)).balance, Balance::PeakEwma);
        assert_eq!(settings.policy(PolicyId(1)), &RoutePolicy::default());
    }

    #[test]
    #[should_panic(expected = "at most 64 keys a provider")]
    fn the_sixty_fifth_key_is_a_mistake_of_the_program() {
        let _ = ProviderSettings::new("a").with_keys(&[1.0; KEYS_MAX + 1]);
    }

    proptest! {
        #[test]
        fn what_a_route_sets_goes_before_its_providers_limits_and_the_rest_stays(
            own in prop::collection::vec(prop::option::of(1u64..1000), 5),
            base in prop::collection::vec(1000u64..2000, 5),
        ) {
            let limits = Timeouts {
                connect_us: base[0],
                first_token_us: base[1],
                token_gap_us: base[2],
                total_us: base[3],
                attempt_us: Some(base[4]),
            };
            let route = RouteTimeouts {
                connect_us: own[0],
                first_token_us: own[1],
                token_gap_us: own[2],
                total_us: own[3],
                attempt_us: own[4],
            };
            let expected: Vec<u64> = own.iter().zip(&base).map(|(own, base)| own.unwrap_or(*base)).collect();
            let held = route.over(&limits);
            let seen = [held.connect_us, held.first_token_us, held.token_gap_us, held.total_us];
            prop_assert_eq!(&seen[..], &expected[..4]);
            prop_assert_eq!(held.attempt_us, Some(expected[4]));
            prop_assert_eq!(RouteTimeouts::NONE.over(&limits), limits);
        }
    }
}
