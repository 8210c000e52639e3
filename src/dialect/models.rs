//! The list of models, in the shape of whoever asks, and as providers give it.

use super::date;
use super::json::{Raw, push_number, push_string};
use crate::config::Dialect;

/// One model of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEntry {
    /// What a client puts into `model`.
    pub id: String,
    /// Who serves it.
    pub owned_by: String,
    /// When it came out, seconds since 1970; 0 when nobody said.
    pub created_unix_s: u64,
}

/// Appends the answer to `GET /v1/models` in the client's dialect: the whole list as one page.
pub fn render_models(client: Dialect, models: &[ModelEntry], out: &mut Vec<u8>) {
    match client {
        Dialect::OpenAi => {
            out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
            for (at, model) in models.iter().enumerate() {
                out.extend_from_slice(if at == 0 { b"{\"id\":" } else { b",{\"id\":" });
                push_string(out, &model.id);
                out.extend_from_slice(b",\"object\":\"model\",\"created\":");
                push_number(out, model.created_unix_s);
                out.extend_from_slice(b",\"owned_by\":");
                push_string(out, &model.owned_by);
                out.push(b'}');
            }
            out.extend_from_slice(b"]}");
        }
        Dialect::Anthropic => {
            out.extend_from_slice(b"{\"data\":[");
            for (at, model) in models.iter().enumerate() {
                out.extend_from_slice(if at == 0 {
                    b"{\"type\":\"model\",\"id\":"
                } else {
                    b",{\"type\":\"model\",\"id\":"
                });
                push_string(out, &model.id);
                out.extend_from_slice(b",\"display_name\":");
                push_string(out, &model.id);
                out.extend_from_slice(b",\"created_at\":\"");
                date::push_rfc3339(out, model.created_unix_s);
                out.extend_from_slice(b"\"}");
            }
            out.extend_from_slice(b"],\"has_more\":false,\"first_id\":");
            push_id(models.first(), out);
            out.extend_from_slice(b",\"last_id\":");
            push_id(models.last(), out);
            out.push(b'}');
        }
    }
}

/// Reads a provider's list in either shape; entries without an id are left out. `None` when it is no list.
pub fn parse_models(body: &[u8]) -> Option<Vec<ModelEntry>> {
    let data = Raw::of(body).get("data").filter(|data| data.bytes().first() == Some(&b'['))?;
    let entries = data.items().filter_map(|item| {
        let [id, owned_by, created, created_at] = item.pick(["id", "owned_by", "created", "created_at"]);
        let created_unix_s =
            created.count().or_else(|| u64::try_from(date::parse_rfc3339(&created_at.text()?)?).ok());
        Some(ModelEntry {
            id: id.text().filter(|id| !id.is_empty())?.into_owned(),
            owned_by: owned_by.text().unwrap_or_default().into_owned(),
            created_unix_s: created_unix_s.unwrap_or(0),
        })
    });
    Some(entries.collect())
}

fn push_id(model: Option<&ModelEntry>, out: &mut Vec<u8>) {
    match model {
        Some(model) => push_string(out, &model.id),
        None => out.extend_from_slice(b"null"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, owned_by: &str, created_unix_s: u64) -> ModelEntry {
        ModelEntry { id: id.into(), owned_by: owned_by.into(), created_unix_s }
    }

    #[test]
    fn both_kinds_of_client_get_their_list() {
        let models =
            [entry("openai/gpt-4o-mini", "openai", 1_721_172_741), entry("claude \"x\"", "anthropic", 0)];
        let mut out = Vec::new();
        render_models(Dialect::OpenAi, &models, &mut out);
        assert_eq!(parse_models(&out).unwrap(), models);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((&value["object"], &value["data"][0]["object"]), (&"list".into(), &"model".into()));

        out.clear();
        render_models(Dialect::Anthropic, &models, &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["data"][0]["created_at"], "2024-07-16T23:32:21Z");
        assert_eq!((&value["first_id"], &value["has_more"]), (&"openai/gpt-4o-mini".into(), &false.into()));
        assert_eq!(parse_models(&out).unwrap()[0], entry("openai/gpt-4o-mini", "", 1_721_172_741));
    }

    #[test]
    fn an_empty_list_is_a_list_and_junk_is_not() {
        for client in [Dialect::OpenAi, Dialect::Anthropic] {
            let mut out = Vec::new();
            render_models(client, &[], &mut out);
            assert_eq!(parse_models(&out), Some(vec![]));
            assert!(serde_json::from_slice::<serde_json::Value>(&out).is_ok());
        }
        assert_eq!(parse_models(br#"{"data":[{"id":""},{},3,{"id":"a"}]}"#).unwrap(), [entry("a", "", 0)]);
        for text in ["", "{}", "[]", r#"{"data":{}}"#, "<html>"] {
            assert_eq!(parse_models(text.as_bytes()), None, "{text}");
        }
    }
}
