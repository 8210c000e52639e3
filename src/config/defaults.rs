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
/// Most retries a file may ask for. Beyond it a retry is a second outage.
pub const MAX_RETRIES_MOST: u64 = 10;

/// Weight of a key that states none.
pub const KEY_WEIGHT: f64 = 1.0;
/// Weight of a chain entry that states none.
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
