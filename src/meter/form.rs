//! The forms that a metrics page is written in, and which of them a reader asks for.

use std::fmt;

use super::family::Family;
use super::protobuf;
use super::text::{Dialect, render};

/// A form of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Prometheus text format 0.0.4, which every reader understands.
    Text,
    /// OpenMetrics 1.0, as text.
    OpenMetrics,
    /// Prometheus protobuf, the only one with native histograms.
    Protobuf,
}

impl Form {
    /// Those that are not taken for granted, by how much is in them.
    const NAMED: [Form; 2] = [Form::Protobuf, Form::OpenMetrics];

    /// What the value of an `Accept` header asks for: of the forms that it names, the one with the highest weight (RFC 9110
    /// section 12.4.2), and among equals the one with more in it. Text for everything else, so that no reader is left
    /// without a page.
    pub fn wanted(accept: &str) -> Form {
        let mut best = (Form::Text, 0);
        for form in Form::NAMED {
            let weights = accept.split(',').filter_map(|range| form.weight(range));
            let weight = weights.max().unwrap_or(0);
            if weight > best.1 {
                best = (form, weight);
            }
        }
        // Text is wanted more when it says so; a wildcard does not name it.
        let text = accept.split(',').filter_map(|range| Form::Text.weight(range)).max().unwrap_or(0);
        if text > best.1 { Form::Text } else { best.0 }
    }

    /// The weight that a media range gives this form, thousandths; `None` when it is not about it.
    fn weight(self, range: &str) -> Option<u16> {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next()?;
        let (own, must): (_, &[(&str, &str)]) = match self {
            Form::Text => ("text/plain", &[]),
            Form::OpenMetrics => ("application/openmetrics-text", &[]),
            Form::Protobuf => (
                "application/vnd.google.protobuf",
                &[("proto", "io.prometheus.client.MetricFamily"), ("encoding", "delimited")],
            ),
        };
        if !name.eq_ignore_ascii_case(own) {
            return None;
        }
        let parameters: Vec<(&str, &str)> = parts
            .filter_map(|part| part.split_once('='))
            .map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
            .collect();
        let of = |name: &str| parameters.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|p| p.1);
        if must.iter().any(|(name, value)| of(name) != Some(value)) {
            return None;
        }
        // A weight that is no number is taken for none, which means 1.
        let weight = of("q").and_then(|q| q.parse::<f32>().ok()).unwrap_or(1.0);
        Some((weight.clamp(0.0, 1.0) * 1000.0) as u16)
    }

    /// The media type of the answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Form::Text => "text/plain; version=0.0.4; charset=utf-8",
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Form::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }

    /// Writes the page; families without rows are left out.
    ///
    /// # Errors
    /// Never in practice: memory takes everything.
    pub fn write(self, families: Vec<Family>) -> Result<Vec<u8>, fmt::Error> {
        Ok(match self {
            Form::Text => render(families, Dialect::Prometheus)?.into_bytes(),
            Form::OpenMetrics => render(families, Dialect::OpenMetrics)?.into_bytes(),
            Form::Protobuf => protobuf::render(&families),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROTOBUF: &str =
        "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

    #[test]
    fn a_prometheus_gets_what_it_asks_for() {
        // As Prometheus 2.42 sends it, without and with native histograms.
        let usual = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                     text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(Form::wanted(usual), Form::OpenMetrics);
        assert_eq!(Form::wanted(&format!("{PROTOBUF},{usual}")), Form::Protobuf);
        // As Prometheus 3 does.
        let newer = format!(
            "{PROTOBUF};escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=1.0.0;q=0.5,\
             text/plain;version=1.0.0;q=0.3,*/*;q=0.2"
        );
        assert_eq!(Form::wanted(&newer), Form::Protobuf);
        let text = format!("{PROTOBUF};q=0.2,application/openmetrics-text;q=0.3,text/plain;q=0.9");
        assert_eq!(Form::wanted(&text), Form::Text);
    }

    #[test]
    fn everybody_else_gets_text() {
        for accept in [
            "",
            "*/*",
            "text/plain;version=0.0.4",
            "text/html,application/xhtml+xml,*/*;q=0.8",
            "application/openmetrics-text;q=0",
            "application/vnd.google.protobuf",
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
            ";;,,=;q=",
        ] {
            assert_eq!(Form::wanted(accept), Form::Text, "{accept}");
        }
        assert_eq!(Form::wanted("Application/OpenMetrics-Text; version=\"1.0.0\""), Form::OpenMetrics);
    }
}
