//! `GET /v1/models` and one of them, in both dialects.

use serde_json::{Value, json};

use super::{Answer, Ask, Setting, Wire, errors};

pub(super) fn list(ask: &Ask, setting: &Setting<'_>) -> Answer {
    let all: Vec<&String> = setting.models.iter().filter(|name| speaks(ask.wire, name)).collect();
    let data: Vec<Value> = all.iter().map(|name| entry(ask.wire, name)).collect();
    Answer::json(
        200,
        &match ask.wire {
            Wire::OpenAi => json!({"object": "list", "data": data}),
            Wire::Anthropic => {
                json!({"data": data, "has_more": false, "first_id": all.first(), "last_id": all.last()})
            }
        },
    )
}

pub(super) fn one(ask: &Ask, setting: &Setting<'_>) -> Answer {
    let name = ask.path.trim_start_matches("models/").replace("%2F", "/").replace("%2f", "/");
    if setting.models.contains(&name) {
        return Answer::json(200, &entry(ask.wire, &name));
    }
    let message = format!("The model `{name}` does not exist or you do not have access to it.");
    errors::invalid(ask, 404, &message, Some("model"), Some("model_not_found"))
}

/// The Anthropic dialect lists its own models; the OpenAI dialect lists all.
fn speaks(wire: Wire, name: &str) -> bool {
    wire == Wire::OpenAi || name.starts_with("claude")
}

fn entry(wire: Wire, name: &str) -> Value {
    match wire {
        Wire::OpenAi => {
            json!({"id": name, "object": "model", "created": 1_750_000_000, "owned_by": "rehearsal"})
        }
        Wire::Anthropic => {
            json!({"type": "model", "id": name, "display_name": name, "created_at": "2025-06-15T00:00:00Z"})
        }
    }
}
