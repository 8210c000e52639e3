//! Which endpoint a client called, whose dialect it speaks, and where it lives upstream.
//!
//! Paths are matched with and without their `/v1`, since some clients are configured with a base URL that has it
//! and some with one that has not. Anything unknown is [`Api::Other`] and passes through untouched.

use crate::config::Dialect;

/// An endpoint that clients call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// OpenAI `POST /v1/chat/completions`
    ChatCompletions,
    /// OpenAI `POST /v1/completions` (legacy text completion)
    Completions,
    /// OpenAI `POST /v1/embeddings`
    Embeddings,
    /// OpenAI `POST /v1/responses`
    Responses,
    /// Anthropic `POST /v1/messages`
    Messages,
    /// Anthropic `POST /v1/messages/count_tokens`
    CountTokens,
    /// `GET /v1/models`, in the shape of whoever asks
    Models,
    /// Everything else, also sub-resources such as `GET /v1/responses/ID`
    Other,
}

impl Api {
    /// The endpoint that `method` and `path` (without the query) name.
    pub fn of(method: &[u8], path: &[u8]) -> Self {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        let rest = path.strip_prefix(b"/v1").filter(|rest| rest.starts_with(b"/")).unwrap_or(path);
        match (method, rest) {
            (b"POST", b"/chat/completions") => Self::ChatCompletions,
            (b"POST", b"/completions") => Self::Completions,
            (b"POST", b"/embeddings") => Self::Embeddings,
            (b"POST", b"/responses") => Self::Responses,
            (b"POST", b"/messages") => Self::Messages,
            (b"POST", b"/messages/count_tokens") => Self::CountTokens,
            (b"GET" | b"HEAD", b"/models") => Self::Models,
            _ => Self::Other,
        }
    }

    /// The dialect in which the client expects its answer and its errors.
    ///
    /// For `Models` and `Other` the path does not tell; see [`client_dialect`], which also looks at the head.
    pub fn client_dialect(self) -> Dialect {
        match self {
            Self::Messages | Self::CountTokens => Dialect::Anthropic,
            _ => Dialect::OpenAi,
        }
    }

    /// Path of the endpoint below a provider's base path (which holds the `/v1`).
    ///
    /// `None` for [`Api::Other`]: its path is the client's own.
    pub fn upstream_path(self) -> Option<&'static str> {
        Some(match self {
            Self::ChatCompletions => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
            Self::Responses => "/responses",
            Self::Messages => "/messages",
            Self::CountTokens => "/messages/count_tokens",
            Self::Models => "/models",
            Self::Other => return None,
        })
    }

    /// The endpoint to call at a provider of `dialect` for this client endpoint: itself where the dialects agree,
    /// its counterpart where we translate, `None` where the target cannot serve it and must be skipped.
    pub fn at(self, dialect: Dialect) -> Option<Self> {
        match (self, dialect) {
            (Self::Models | Self::Other, _) => Some(self),
            (Self::ChatCompletions, Dialect::Anthropic) => Some(Self::Messages),
            (Self::Messages, Dialect::OpenAi) => Some(Self::ChatCompletions),
            _ => (self.client_dialect() == dialect).then_some(self),
        }
    }
}

/// The dialect of the client that called `path`: by the path where it is one dialect's own, else by the
/// `anthropic-version` header, which every Anthropic client sends and no other does.
pub fn client_dialect(path: &[u8], has_anthropic_version: bool) -> Dialect {
    let rest = path.strip_prefix(b"/v1").unwrap_or(path);
    let is_messages =
        rest.strip_prefix(b"/messages").is_some_and(|tail| tail.is_empty() || tail.starts_with(b"/"));
    if is_messages || (has_anthropic_version && Api::of(b"POST", path) == Api::Other) {
        Dialect::Anthropic
    } else {
        Dialect::OpenAi
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_known_with_and_without_v1() {
        for (method, path, api) in [
            ("POST", "/v1/chat/completions", Api::ChatCompletions),
            ("POST", "/chat/completions", Api::ChatCompletions),
            ("POST", "/v1/chat/completions/", Api::ChatCompletions),
            ("GET", "/v1/chat/completions", Api::Other),
            ("POST", "/v1/completions", Api::Completions),
            ("POST", "/v1/embeddings", Api::Embeddings),
            ("POST", "/v1/responses", Api::Responses),
            ("GET", "/v1/responses/resp_1", Api::Other),
            ("POST", "/v1/messages", Api::Messages),
            ("POST", "/v1/messages/count_tokens", Api::CountTokens),
            ("POST", "/v1/messages/batches", Api::Other),
            ("GET", "/v1/models", Api::Models),
            ("POST", "/v1/models", Api::Other),
            ("POST", "/v1beta/messages", Api::Other),
            ("POST", "/v1", Api::Other),
        ] {
            assert_eq!(Api::of(method.as_bytes(), path.as_bytes()), api, "{method} {path}");
        }
    }

    #[test]
    fn the_client_is_answered_in_its_own_dialect() {
        for (path, version, dialect) in [
            ("/v1/messages", false, Dialect::Anthropic),
            ("/v1/messages/batches", false, Dialect::Anthropic),
            ("/v1/messagesx", false, Dialect::OpenAi),
            ("/v1/models", true, Dialect::Anthropic),
            ("/v1/models", false, Dialect::OpenAi),
            ("/v1/chat/completions", true, Dialect::OpenAi),
            ("/v1/files", true, Dialect::Anthropic),
        ] {
            assert_eq!(client_dialect(path.as_bytes(), version), dialect, "{path}");
        }
    }

    #[test]
    fn targets_that_cannot_serve_an_endpoint_are_skipped() {
        assert_eq!(Api::ChatCompletions.at(Dialect::Anthropic), Some(Api::Messages));
        assert_eq!(Api::Messages.at(Dialect::OpenAi), Some(Api::ChatCompletions));
        for api in [Api::Embeddings, Api::Responses, Api::Completions] {
            assert_eq!(api.at(Dialect::Anthropic), None);
            assert_eq!(api.at(Dialect::OpenAi), Some(api));
        }
        assert_eq!(Api::CountTokens.at(Dialect::OpenAi), None);
    }
}
