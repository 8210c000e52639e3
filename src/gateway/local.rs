//! What the gateway answers itself: liveness, readiness, metrics, the list of models, the live page.

use crate::dialect::error::{ErrorKind, GatewayError};
use crate::dialect::{Api, models::render_models};

use super::client::{After, Client};
use super::core::Phase;
use super::inbound::Inbound;
use super::{metrics, models, page, respond};

/// Where one model's entry is; what follows is its name.
pub const MODEL_PATH: &[u8] = b"/v1/models/";

/// Answers the request when it is for the gateway itself; `None` when it is for a provider.
pub async fn serve(client: &mut Client, inbound: &Inbound) -> Option<After> {
    let all = client.gather.as_ref().map_or(&[][..], |g| g.body.filled());
    let (path, method) = (inbound.path.of(all), inbound.method.of(all));
    let is_get = matches!(method, b"GET" | b"HEAD");
    let wanted = match path {
        b"/healthz" if is_get => Own::Health,
        b"/readyz" if is_get => Own::Ready,
        #[cfg(test)]
        b"/panic" => panic!("a test asked for it"),
        _ if is_get && is_metrics(inbound, path) => Own::Metrics,
        _ if page::is_ours(path) && has_page(client, inbound) => Own::Page,
        _ if inbound.api == Api::Models => Own::Models,
        _ if is_get && path.starts_with(MODEL_PATH) && path.len() > MODEL_PATH.len() => {
            Own::Model(percent_decoded(&path[MODEL_PATH.len()..]))
        }
        // A name with an encoded slash is for the look-up above; it is never sent on.
        _ if path.starts_with(MODEL_PATH) => Own::Nothing(String::from_utf8_lossy(path).into_owned()),
        _ if path.starts_with(b"/v1/") || inbound.api != Api::Other => return None,
        _ => Own::Nothing(String::from_utf8_lossy(path).into_owned()),
    };
    Some(match wanted {
        Own::Health => respond::json(client, inbound, 200, b"{\"status\":\"alive\"}\n").await,
        Own::Ready => ready(client, inbound).await,
        Own::Metrics => Box::pin(metrics::page(client, inbound)).await,
        Own::Page => Box::pin(page::serve(client, inbound)).await,
        Own::Models => {
            let list = models::list(client, &inbound.plan).await;
            let mut body = Vec::with_capacity(4096);
            render_models(inbound.dialect, &list, &mut body);
            respond::json(client, inbound, 200, &body).await
        }
        Own::Model(id) => one_model(client, inbound, &id).await,
        Own::Nothing(path) => {
            let message = format!(
                "nothing is served at `{path}`; the API is below /v1, such as /v1/chat/completions or /v1/messages"
            );
            respond::error(client, inbound, &GatewayError::new(ErrorKind::NotFound, message), b"").await
        }
    })
}

/// A page that a reload switched on has nothing to show before a restart.
fn has_page(client: &Client, inbound: &Inbound) -> bool {
    inbound.plan.live.plan.admin.page && client.core.hub.borrow().is_some()
}

fn is_metrics(inbound: &Inbound, path: &[u8]) -> bool {
    inbound.plan.live.plan.metrics_path.as_ref().is_some_and(|own| own.as_bytes() == path)
}

/// A model's name as a path segment writes it: `openai%2Fgpt-4o-mini`. The head was checked: escapes are whole.
fn percent_decoded(text: &[u8]) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        let digits = rest.as_slice().get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|two| u8::from_str_radix(two, 16).ok()) {
            Some(decoded) if byte == b'%' => {
                out.push(decoded);
                rest = rest.as_slice()[2..].iter();
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

enum Own {
    Health,
    Ready,
    Metrics,
    Page,
    Models,
    Model(String),
    Nothing(String),
}

async fn ready(client: &mut Client, inbound: &Inbound) -> After {
    let live = inbound.plan.live.clone();
    let serving = client.core.phase.get() == Phase::Serving;
    let body = format!(
        "{{\"status\":\"{}\",\"plan\":{},\"providers\":{}}}\n",
        if serving { "ready" } else { "draining" },
        live.generation,
        live.plan.providers.len()
    );
    respond::json(client, inbound, if serving { 200 } else { 503 }, body.as_bytes()).await
}

async fn one_model(client: &mut Client, inbound: &Inbound, id: &str) -> After {
    let list = models::list(client, &inbound.plan).await;
    let Some(model) = list.iter().find(|m| m.id == id) else {
        let mut error = GatewayError::new(
            ErrorKind::ModelNotFound,
            format!("the model `{id}` is not in the list; GET /v1/models has all of them"),
        );
        error.status = 404;
        return respond::error(client, inbound, &error, b"").await;
    };
    let mut page = Vec::with_capacity(256);
    render_models(inbound.dialect, std::slice::from_ref(model), &mut page);
    // The list of one, without the list around it.
    let one = page.iter().position(|b| *b == b'[').and_then(|start| {
        let end = page.iter().rposition(|b| *b == b']')?;
        page.get(start + 1..end)
    });
    let one = one.unwrap_or_default().to_vec();
    respond::json(client, inbound, 200, &one).await
}
