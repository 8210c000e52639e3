//! Every default and every limit of the configuration, once, with its reason.
//!
//! Units are last in the names. A value here is what a file that says nothing gets; `docs/configuration.md`
//! repeats the numbers and a test holds the two together.

/// Where the gateway listens: on this machine only, because without client keys anyone who can connect spends
/// the owner's money.
pub const LISTEN: &str = "127.0.0.1:8080";

/// Dial timeout. A healthy provider answers a SYN within 300 ms from anywhere; 2 s forgives one lost SYN (1 s)
/// and still leaves a fallback most of an interactive budget.
pub const CONNECT_MS: u64 = 2_000;
/// Time to the first content-bearing event. Reasoning models think for minutes before their first token.
pub const FIRST_TOKEN_MS: u64 = 300_000;
/// Silence between two tokens. Longer than any pause seen in healthy streams, and well under the total.
pub const TOKEN_GAP_MS: u64 = 120_000;
/// The whole exchange. What the official SDKs wait by default, so that nobody waits for an answer that no
/// client will read.
pub const TOTAL_MS: u64 = 600_000;

/// A request head must be here by then; a slow head is an attack or a broken client.
pub const REQUEST_HEAD_MS: u64 = 10_000;
/// An idle client connection is closed after it. Longer than SDK pools idle between calls of one agent loop.
pub const CLIENT_IDLE_MS: u64 = 60_000;
/// An idle upstream connection is closed after it: before the load balancers of the large providers do, so
/// that reuse rarely meets a dead connection.
pub const UPSTREAM_IDLE_MS: u64 = 30_000;
/// A client that reads nothing for this long is gone.
pub const CLIENT_WRITE_MS: u64 = 60_000;
/// Time that running exchanges get after SIGTERM. Under the 30 s after which orchestrators kill.
pub const DRAIN_TIMEOUT_MS: u64 = 25_000;

/// Largest request body. Anthropic's own limit for Messages, the largest of the chat APIs.
pub const BODY_BYTES: u64 = 32 << 20;
/// Largest request head; the usual limit of proxies, several times what SDKs send.
pub const HEAD_BYTES: u64 = 64 << 10;
/// Most fields in a request head.
pub const HEAD_FIELDS: u64 = 100;
/// Longest request line.
pub const REQUEST_LINE_BYTES: u64 = 8 << 10;
/// Largest response head of a provider.
pub const UPSTREAM_HEAD_BYTES: u64 = 64 << 10;
/// Most fields in a provider's response head. Also the size of the parser's fixed table.
pub const UPSTREAM_HEAD_FIELDS: u64 = 128;
/// Most interim (1xx) responses before the real one.
pub const INTERIM_RESPONSES: u64 = 16;
/// Largest server-sent event. An event with a base64 image fits.
pub const EVENT_BYTES: u64 = 8 << 20;
/// Bytes that may wait in the kernel to be sent to a client before its upstream is paused. Two full socket writes.
pub const UNREAD_BYTES: u64 = 64 << 10;
/// Most client connections in the process. Twice the 5,000 streams the memory figures are made for.
pub const CONNECTIONS: u64 = 10_000;

/// First backoff before a retry, as in Bifrost, whose key this is.
pub const RETRY_BACKOFF_INITIAL_MS: u64 = 500;
/// Longest backoff before a retry, as in Bifrost, whose key this is.
pub const RETRY_BACKOFF_MAX_MS: u64 = 5_000;
/// Retries on the last target of a chain when nothing is set: as many as the official SDKs make, so that nothing is lost by
/// telling them not to.
pub const LAST_TARGET_RETRIES: u8 = 2;
/// Most retries a file may ask for. Beyond it a retry is a second outage.
pub const MAX_RETRIES_MOST: u64 = 10;

/// Failures in a row that open a breaker. Envoy's number; fewer would open on one bad second of a busy target.
pub const BREAKER_FAILURES_IN_ROW: u32 = 5;
/// Share of failures within 10 s that opens a breaker, percent. Below a half, sending on is worth more than not.
pub const BREAKER_FAILURE_PERCENT: u32 = 50;
/// Calls within 10 s below which no share is taken. Fewer make a share of nothing.
pub const BREAKER_CALLS_MIN: u32 = 20;
/// Share of slow calls within 10 s that opens a breaker, percent, once `slow_call` says what slow is.
pub const BREAKER_SLOW_PERCENT: u32 = 50;
/// Tokens of large prompts burnt in failed calls within 10 s that open a breaker: 1.50 dollars at 3 dollars a million.
pub const BREAKER_TOKENS_BURNT: u64 = 500_000;
/// Share of failures below which burnt tokens open nothing, percent. Twice what the retry budget carries.
pub const BREAKER_TOKENS_FAILURE_PERCENT: u32 = 20;
/// First time a breaker stays open; doubled for each further one. A blip costs a second and not more.
pub const BREAKER_OPEN_MIN_MS: u64 = 1_000;
/// Longest time a breaker stays open, so that a recovery is found within it.
pub const BREAKER_OPEN_MAX_MS: u64 = 30_000;
/// Time over which the traffic grows back after a successful probe: a provider that just came back has cold caches.
pub const BREAKER_RAMP_MS: u64 = 10_000;

/// Rest of a key after a 429 without a hint; doubled for each further one. Most limits refill continuously.
pub const COOLDOWN_INITIAL_MS: u64 = 1_000;
/// Longest rest without a hint: half of the minute that most limits are counted in.
pub const COOLDOWN_MAX_MS: u64 = 30_000;
/// Longest rest a provider can ask for: longer than any limit by the minute, shorter than an operator's patience with
/// a broken header.
pub const COOLDOWN_CAP_MS: u64 = 600_000;

/// Extra calls a hundred requests earn. Google SRE's figure for a client.
pub const RETRY_BUDGET_PERCENT: u32 = 10;
/// Extra calls a second that low traffic may make: a laptop's build still gets its retries.
pub const RETRY_BUDGET_PER_SECOND: u32 = 3;
/// Extra calls that may be saved up. Ten seconds of the floor.
pub const RETRY_BUDGET_BURST: u32 = 30;
/// What an input token of a model without a price counts under limits in money, nano-dollars: 15 dollars a million, the
/// dearest of the common models, because unknown is not free.
pub const UNPRICED_INPUT_NANO_USD: u32 = 15_000;
/// Largest amount of money a limit may state, dollars. What the counters can hold, rounded down.
pub const USD_MOST: f64 = 10_000.0;
/// Highest price a file may state, dollars a million tokens. What 32 bits of pico-dollars a token hold, rounded down.
pub const PRICE_USD_MOST: f64 = 4_000.0;

/// Calls that wait for a place at a provider that has a cap.
pub const BULKHEAD_QUEUE: u32 = 64;
/// How long they wait. Longer queues hide overload instead of showing it.
pub const BULKHEAD_QUEUE_WAIT_MS: u64 = 100;

/// Highest price of a service tier, as a multiple of the standard one: what 16 bits of thousandths hold, rounded down.
pub const TIER_FACTOR_MOST: f64 = 65.0;
/// Hedges a hundred requests may have, at most: the price in The Tail at Scale.
pub const HEDGE_PERCENT: u32 = 2;
/// No hedge before this, however fast the target is: below it the second call cannot pay off.
pub const HEDGE_DELAY_MIN_MS: u64 = 200;

/// How long a finished answer is kept for a retry with the same `Idempotency-Key`: every SDK has given up by then.
pub const IDEMPOTENCY_KEEP_MS: u64 = 600_000;
/// Keys at a time: ten minutes of seven a second.
pub const IDEMPOTENCY_ENTRIES: u32 = 4_096;
/// Bytes of kept answers: 16 KiB for each key, more than a usual answer has.
pub const IDEMPOTENCY_BYTES: u64 = 64 << 20;

/// Largest content of a static answer read from a file. As large as a config file.
pub const STATIC_BYTES_MAX: u64 = 1 << 20;
/// Most checks of one route. Each reads the whole answer.
pub const CHECKS_MAX: usize = 16;

/// Weight of a key that states none.
pub const KEY_WEIGHT: f64 = 1.0;
/// Weight of a chain entry, or of a target among equals, that states none.
pub const FALLBACK_WEIGHT: f64 = 1.0;

/// Longest duration a file may state: a day. Longer is a slip in the unit.
pub const DURATION_MAX_MS: u64 = 86_400_000;
/// Largest config file. A thousand times a usual one; beyond it, it is the wrong file.
pub const CONFIG_BYTES_MAX: usize = 1 << 20;
/// Deepest nesting. The schema needs six levels.
pub const CONFIG_DEPTH_MAX: usize = 32;
/// Most values in a file, counted after YAML aliases are expanded.
pub const CONFIG_NODES_MAX: usize = 100_000;
/// Most findings shown at once.
pub const DIAGNOSTICS_MAX: usize = 50;
/// Most providers, and most keys of one.
pub const PROVIDERS_MAX: usize = 1_000;
/// Most targets in one chain. Nobody waits for a seventeenth answer.
pub const CHAIN_TARGETS_MAX: usize = 16;
/// Most distinct pairs of provider and model a file may name; each has its own breaker.
pub const SLOTS_MAX: usize = 20_000;
/// Longest model name a client may send. Fine-tune names and paths stay under 200.
pub const MODEL_NAME_BYTES_MAX: usize = 512;
/// Most suggestions in the answer to an unknown model.
pub const SUGGESTIONS_MAX: usize = 12;

/// Days that the ledger keeps: a year to compare with, and a month to do it in.
pub const LEDGER_KEEP_DAYS: u32 = 400;
/// Most days that a ledger may keep: ten years.
pub const LEDGER_KEEP_DAYS_MOST: u32 = 3_650;
/// Size at which the access log's file is put aside. A day of 100,000 exchanges.
pub const ACCESS_LOG_BYTES: u64 = 64 << 20;
/// Bytes kept of a request and of an answer where they are captured: a few pages of text.
pub const CAPTURE_BYTES: u64 = 16 << 10;
/// Files of the access log that are kept beside the current one.
pub const ACCESS_LOG_KEEP: u32 = 5;
/// How long a delivery of spans may take: OTLP's own default.
pub const TRACES_TIMEOUT_MS: u64 = 10_000;
