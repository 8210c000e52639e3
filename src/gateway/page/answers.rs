//! What can be asked of the API, read from a request, and the answers that need no more than a look at the board.

use serde::Deserialize;

use crate::dialect::error::{ErrorKind, GatewayError};
use crate::meter::board::{Board, RECENT_MAX, Span};
use crate::net::clock;

use super::super::gamedays::Wanted;
use super::not_found;

/// A question to the hub.
#[derive(Debug, PartialEq)]
pub enum Ask {
    /// How things stand.
    State,
    /// The last exchanges.
    Exchanges {
        /// Only those with a higher number.
        after: u64,
        /// At most so many.
        most: usize,
    },
    /// How they stood.
    History {
        /// How far back.
        span: Span,
        /// No step that began before, Unix time.
        since: u64,
    },
    /// The effective configuration.
    Config,
    /// The game days, and the run there is.
    Gamedays,
    /// Play some.
    Play(Wanted),
    /// Stop playing.
    StopPlaying,
    /// Close a breaker and end its cooldowns.
    Reset(TargetName),
    /// Load the configuration again.
    Reload,
}

/// A target by its names.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct TargetName {
    /// The provider.
    pub provider: String,
    /// The model, by the provider's own name.
    pub model: String,
}

impl Ask {
    /// Reads the question of a request below the API.
    ///
    /// # Errors
    /// There is no such path, or what the request says makes no sense; the text says what would.
    pub fn read(is_get: bool, name: &str, query: &str, body: &[u8]) -> Result<Ask, GatewayError> {
        match (is_get, name) {
            (true, "state") => Ok(Ask::State),
            (true, "exchanges") => {
                let after = number(query, "after")?.unwrap_or(0);
                let most = number(query, "limit")?.unwrap_or(RECENT_MAX as u64).min(RECENT_MAX as u64);
                Ok(Ask::Exchanges { after, most: most as usize })
            }
            (true, "history") => {
                let span = match parameter(query, "span") {
                    None | Some("hour") => Span::Hour,
                    Some("day") => Span::Day,
                    Some(_) => return Err(senseless("`span` is `hour` or `day`")),
                };
                Ok(Ask::History { span, since: number(query, "since")?.unwrap_or(0) })
            }
            (true, "config") => Ok(Ask::Config),
            (true, "gamedays") => Ok(Ask::Gamedays),
            (false, "gamedays") => json(body).map(Ask::Play),
            (false, "gamedays/stop") => Ok(Ask::StopPlaying),
            (false, "targets/reset") => json(body).map(Ask::Reset),
            (false, "reload") => Ok(Ask::Reload),
            _ => Err(not_found("the admin API has no such path for this method; docs/page.md lists all")),
        }
    }
}

fn parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(own, _)| *own == name).map(|(_, value)| value).next_back()
}

fn number(query: &str, name: &'static str) -> Result<Option<u64>, GatewayError> {
    let value = parameter(query, name).map(str::parse);
    value.transpose().map_err(|_| senseless(&format!("`{name}` is a whole number")))
}

fn json<'b, T: Deserialize<'b>>(body: &'b [u8]) -> Result<T, GatewayError> {
    serde_json::from_slice(body).map_err(|error| senseless(&format!("the body makes no sense: {error}")))
}

fn senseless(message: &str) -> GatewayError {
    GatewayError::new(ErrorKind::InvalidRequest, message)
}

/// The last exchanges as JSON.
pub fn exchanges(board: &Board, after: u64, most: usize) -> Vec<u8> {
    let mut out = format!(
        "{{\"v\":1,\"unix_ms\":{},\"last\":{},\"missed\":{},\"exchanges\":",
        clock::unix_us() / 1_000,
        board.last(),
        board.missed()
    )
    .into_bytes();
    board.exchanges(after, most, &mut out);
    out.push(b'}');
    out
}

/// The history as JSON.
pub fn history(board: &Board, span: Span, since: u64) -> Vec<u8> {
    #[derive(serde::Serialize)]
    struct Answer {
        v: u8,
        span: &'static str,
        #[serde(flatten)]
        history: crate::meter::board::Histories,
    }
    let history = board.history(span, since, clock::unix_seconds());
    let span = if span == Span::Hour { "hour" } else { "day" };
    // Strings and numbers alone: nothing in it can fail to be written.
    serde_json::to_vec(&Answer { v: 1, span, history }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_read_and_senseless_ones_are_told_what_would_make_sense() {
        let get = |name: &str, query: &str| Ask::read(true, name, query, b"");
        assert_eq!(
            get("exchanges", "after=7&limit=999").unwrap(),
            Ask::Exchanges { after: 7, most: RECENT_MAX }
        );
        assert_eq!(get("history", "").unwrap(), Ask::History { span: Span::Hour, since: 0 });
        assert_eq!(get("history", "span=day&since=5").unwrap(), Ask::History { span: Span::Day, since: 5 });
        for (name, query, words) in [
            ("history", "span=week", "`hour` or `day`"),
            ("history", "since=-1", "whole number"),
            ("exchanges", "after=x", "whole number"),
            ("reload", "", "no such path"),
            ("", "", "no such path"),
        ] {
            let error = get(name, query).unwrap_err();
            assert!(error.message.contains(words) && error.status < 500, "{name} {}", error.message);
        }
        let post = |name: &str, body: &str| Ask::read(false, name, "", body.as_bytes());
        let target = TargetName { provider: "a".into(), model: "m".into() };
        assert_eq!(post("targets/reset", r#"{"provider":"a","model":"m"}"#).unwrap(), Ask::Reset(target));
        for body in ["", "[]", r#"{"provider":"a"}"#, r#"{"provider":"a","model":"m","key":"k"}"#] {
            assert_eq!(post("targets/reset", body).unwrap_err().status, 400, "{body}");
        }
    }
}
