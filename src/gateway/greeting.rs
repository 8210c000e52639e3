//! What the gateway says when it is ready.
//!
//! Where it listens, where its configuration came from, who answers, and one line that works when pasted. With
//! the mock provider it says that nothing real is behind the endpoint, because a quiet mock in production is
//! worse than no start at all.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::{Plan, PlanSource};

/// The message for a gateway that serves `plan` on `bound`, in lines that end with a line break.
pub fn greeting(plan: &Plan, bound: SocketAddr) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_greeting(&mut text, plan, bound);
    text
}

fn write_greeting(out: &mut String, plan: &Plan, bound: SocketAddr) -> std::fmt::Result {
    let base = format!("http://{}/v1", reachable(bound));
    writeln!(out, "sluice {} listens on {base}", env!("CARGO_PKG_VERSION"))?;
    match &plan.source {
        PlanSource::File(path) => writeln!(out, "  config     {}", path.display())?,
        PlanSource::Environment(variables) if variables.is_empty() => {
            writeln!(out, "  config     none: no file, and no provider's key in the environment")?;
        }
        PlanSource::Environment(variables) => {
            writeln!(out, "  config     no file; keys from {}", variables.join(", "))?
        }
    }
    let providers: Vec<String> = plan
        .providers
        .iter()
        .map(|provider| match provider.keys.len() {
            0 => format!("{} (no key)", provider.name),
            1 => format!("{} (1 key)", provider.name),
            count => format!("{} ({count} keys)", provider.name),
        })
        .collect();
    writeln!(out, "  providers  {}", providers.join(", "))?;
    if plan.mock.is_some() {
        writeln!(
            out,
            "  mock       the built-in mock provider answers; nothing is sent to any real provider by it."
        )?;
        if plan.source == PlanSource::Environment(Vec::new()) {
            writeln!(out, "             Set OPENAI_API_KEY or ANTHROPIC_API_KEY, or write a sluice.yaml.")?;
        }
    }
    if plan.admin.page {
        writeln!(out, "  page       {}/", base.trim_end_matches("/v1"))?;
    }
    write!(out, "  try        curl {base}/chat/completions -H 'content-type: application/json'")?;
    if !plan.client_keys.is_empty() {
        write!(out, " -H \"authorization: Bearer $KEY\"")?;
    }
    let model = plan.sample_model();
    writeln!(
        out,
        " -d '{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'"
    )
}

/// An address a client on this machine can use: nobody connects to 0.0.0.0.
fn reachable(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Loader;

    #[test]
    fn without_any_key_it_says_that_the_mock_answers() {
        let plan = Loader::default().load(&|_| None).unwrap();
        let text = greeting(&plan, "0.0.0.0:8080".parse().unwrap());
        assert!(text.contains("listens on http://127.0.0.1:8080/v1\n"), "{text}");
        assert!(text.contains("the built-in mock provider answers"), "{text}");
        let curl = "try        curl http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' -d '{\"model\":\"gpt-4o-mini\",\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}'\n";
        assert!(text.ends_with(curl), "{text}");
    }

    #[test]
    fn a_sample_request_names_a_model_of_the_file_and_the_key_a_client_needs() {
        let loader = Loader { file: Some("my.yaml".into()), ..Loader::default() };
        let text = "{providers: {openai: {keys: [env.A, env.B]}, x: {base_url: 'http://h', models: ['it''s', m]}}, auth: [env.C]}";
        let plan = loader.load_text(text, &|_| Some("canary".to_owned())).unwrap();
        let text = greeting(&plan, "[::]:1".parse().unwrap());
        assert!(text.contains("config     my.yaml\n  providers  openai (2 keys), x (no key)\n"), "{text}");
        assert!(text.contains("curl http://[::1]:1/v1/") && text.contains("\"model\":\"x/m\""), "{text}");
        assert!(text.contains("Bearer $KEY") && !text.contains("canary"), "{text}");
    }
}
