//! The metrics page as Prometheus' protobuf: one `io.prometheus.client.MetricFamily` after the other, each behind its
//! length. The only form that has native histograms.
//!
//! A histogram is written with its classic and its native ranges; the reader takes those that it knows. A Prometheus that
//! was started without native histograms does not ask for this form.
//!
//! The messages are the members of client_model's `metrics.proto` that are written here; names and numbers are its.

use prost::{Enumeration, Message};

use super::family::{Family, Kind, Labels, Text, Value};
use super::native::{Native, SCHEMA, ZERO_THRESHOLD};

/// All rows of one name.
#[derive(Clone, PartialEq, Message)]
pub struct MetricFamily {
    /// In full.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// One sentence.
    #[prost(string, optional, tag = "2")]
    pub help: Option<String>,
    /// A [`MetricType`].
    #[prost(enumeration = "MetricType", optional, tag = "3")]
    pub r#type: Option<i32>,
    /// The rows.
    #[prost(message, repeated, tag = "4")]
    pub metric: Vec<Metric>,
}

/// The type of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum MetricType {
    /// Only grows.
    Counter = 0,
    /// Goes up and down.
    Gauge = 1,
    /// How values are spread.
    Histogram = 4,
}

/// One row.
#[derive(Clone, PartialEq, Message)]
pub struct Metric {
    /// Its labels.
    #[prost(message, repeated, tag = "1")]
    pub label: Vec<LabelPair>,
    /// Of a gauge.
    #[prost(message, optional, tag = "2")]
    pub gauge: Option<Number>,
    /// Of a counter.
    #[prost(message, optional, tag = "3")]
    pub counter: Option<Number>,
    /// Of a histogram.
    #[prost(message, optional, tag = "7")]
    pub histogram: Option<Histogram>,
}

/// A label.
#[derive(Clone, PartialEq, Message)]
pub struct LabelPair {
    /// Its name.
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    /// Its value.
    #[prost(string, optional, tag = "2")]
    pub value: Option<String>,
}

/// The value of a counter or a gauge, which are written alike.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Number {
    /// The value.
    #[prost(double, optional, tag = "1")]
    pub value: Option<f64>,
}

/// Values by range.
#[derive(Clone, PartialEq, Message)]
pub struct Histogram {
    /// How many there are.
    #[prost(uint64, optional, tag = "1")]
    pub sample_count: Option<u64>,
    /// Their sum.
    #[prost(double, optional, tag = "2")]
    pub sample_sum: Option<f64>,
    /// The classic ranges.
    #[prost(message, repeated, tag = "3")]
    pub bucket: Vec<Bucket>,
    /// The resolution of the native ranges.
    #[prost(sint32, optional, tag = "5")]
    pub schema: Option<i32>,
    /// Up to here a value is zero.
    #[prost(double, optional, tag = "6")]
    pub zero_threshold: Option<f64>,
    /// How many are zero.
    #[prost(uint64, optional, tag = "7")]
    pub zero_count: Option<u64>,
    /// Which native ranges have values.
    #[prost(message, repeated, tag = "12")]
    pub positive_span: Vec<BucketSpan>,
    /// How many, each as the difference to the one before.
    #[prost(sint64, repeated, tag = "13")]
    pub positive_delta: Vec<i64>,
}

/// A classic range.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Bucket {
    /// Values up to its end.
    #[prost(uint64, optional, tag = "1")]
    pub cumulative_count: Option<u64>,
    /// Its end, included.
    #[prost(double, optional, tag = "2")]
    pub upper_bound: Option<f64>,
}

/// Native ranges without a gap.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct BucketSpan {
    /// Ranges without values before it; for the first, the number of its first range.
    #[prost(sint32, optional, tag = "1")]
    pub offset: Option<i32>,
    /// How many ranges.
    #[prost(uint32, optional, tag = "2")]
    pub length: Option<u32>,
}

/// Writes families; empty ones are left out.
pub fn render(families: &[Family]) -> Vec<u8> {
    let mut page = Vec::with_capacity(64 * 1024);
    for family in families.iter().filter(|family| !family.rows.is_empty()) {
        let metric = family.rows.iter().map(|(labels, value)| row(family.kind, labels, value)).collect();
        let kind = match family.kind {
            Kind::Counter => MetricType::Counter,
            Kind::Gauge => MetricType::Gauge,
            Kind::Histogram => MetricType::Histogram,
        };
        let family = MetricFamily {
            name: Some(family.name.to_owned()),
            help: Some(family.help.to_owned()),
            r#type: Some(kind.into()),
            metric,
        };
        page.extend_from_slice(&family.encode_length_delimited_to_vec());
    }
    page
}

fn row(kind: Kind, labels: &Labels, value: &Value) -> Metric {
    let pair = |(name, value): &(Text, Text)| LabelPair {
        name: Some(name.to_string()),
        value: Some(value.to_string()),
    };
    let mut metric = Metric { label: labels.iter().map(pair).collect(), ..Metric::default() };
    let number = match value {
        Value::Count(n) => *n as f64,
        Value::Number(n) => *n,
        Value::Spread { bounds, counts, sum, native } => {
            metric.histogram = Some(histogram(bounds, counts, *sum, native));
            return metric;
        }
    };
    let number = Some(Number { value: Some(number) });
    match kind {
        Kind::Counter => metric.counter = number,
        Kind::Gauge | Kind::Histogram => metric.gauge = number,
    }
    metric
}

fn histogram(bounds: &[f64], counts: &[u64], sum: f64, native: &Native) -> Histogram {
    // An exchange that ended while the cells were read may be in some of them and not in others. Prometheus refuses a
    // native histogram whose ranges are not its count, so the count is theirs; the classic ones must not be past it.
    let total = native.total();
    let mut so_far = 0;
    let bucket = bounds.iter().zip(counts).map(|(bound, n)| {
        so_far += n;
        Bucket { cumulative_count: Some(so_far.min(total)), upper_bound: Some(*bound) }
    });
    let bucket: Vec<Bucket> = bucket.collect();
    let last = Bucket { cumulative_count: Some(total), upper_bound: Some(f64::INFINITY) };
    let (positive_span, positive_delta) = spans(native);
    Histogram {
        sample_count: Some(total),
        sample_sum: Some(sum),
        bucket: [bucket, vec![last]].concat(),
        schema: Some(SCHEMA),
        zero_threshold: Some(ZERO_THRESHOLD),
        zero_count: Some(native.zeros),
        positive_span,
        positive_delta,
    }
}

/// The ranges that have values, as runs of them with the differences from one to the next.
fn spans(native: &Native) -> (Vec<BucketSpan>, Vec<i64>) {
    let (mut spans, mut deltas) = (Vec::<BucketSpan>::new(), Vec::new());
    // The number that would follow without a gap, and the count before.
    let (mut next, mut before) = (0, 0);
    for (number, n) in (native.first..).zip(&native.counts).filter(|(_, n)| **n > 0) {
        match spans.last_mut() {
            Some(span) if number == next => span.length = span.length.map(|length| length + 1),
            _ => spans.push(BucketSpan { offset: Some(number - next), length: Some(1) }),
        }
        let n = *n as i64;
        deltas.push(n - before);
        (next, before) = (number + 1, n);
    }
    (spans, deltas)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(first: i32, native: &[u64], zeros: u64) -> Value {
        let native = Native { zeros, first, counts: native.to_vec() };
        Value::Spread { bounds: vec![0.5, 1.0], counts: vec![1, 3, 4], sum: 9.25, native }
    }

    fn decoded(page: &[u8]) -> Vec<MetricFamily> {
        let mut rest = page;
        let mut all = Vec::new();
        while !rest.is_empty() {
            all.push(MetricFamily::decode_length_delimited(&mut rest).unwrap());
        }
        all
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut count = Family::new("x_things_total", Kind::Counter, "Things");
        count.push(vec![("kind".into(), "a\"b\nd".into())], Value::Count(3));
        let level = Family::single("x_level", Kind::Gauge, "A level", Value::Number(0.5));
        let times = Family::single("x_seconds", Kind::Histogram, "Times", spread(-2, &[2, 0, 0, 5, 1], 0));
        let page = render(&[count, Family::new("x_none", Kind::Gauge, "Nothing"), level, times]);
        let families = decoded(&page);
        let names: Vec<&str> = families.iter().map(|family| family.name()).collect();
        assert_eq!(names, ["x_things_total", "x_level", "x_seconds"]);
        let row = &families[0].metric[0];
        assert_eq!((row.label[0].name(), row.label[0].value()), ("kind", "a\"b\nd"));
        assert_eq!(row.counter.and_then(|counter| counter.value), Some(3.0));
        assert_eq!(families[1].metric[0].gauge.and_then(|gauge| gauge.value), Some(0.5));
        assert_eq!(families[2].r#type(), MetricType::Histogram);
        let histogram = families[2].metric[0].histogram.as_ref().unwrap();
        assert_eq!((histogram.sample_count(), histogram.sample_sum()), (8, 9.25));
        let classic: Vec<(f64, u64)> =
            histogram.bucket.iter().map(|b| (b.upper_bound(), b.cumulative_count())).collect();
        assert_eq!(classic, [(0.5, 1), (1.0, 4), (f64::INFINITY, 8)]);
        let spans: Vec<(i32, u32)> =
            histogram.positive_span.iter().map(|span| (span.offset(), span.length())).collect();
        assert_eq!(spans, [(-2, 1), (2, 2)]);
        assert_eq!(histogram.positive_delta, [2, 3, -4]);
        assert_eq!((histogram.schema(), histogram.zero_count()), (3, 0));
    }

    #[test]
    fn a_histogram_of_zeros_alone_is_still_a_native_one() {
        let page = render(&[Family::single("x", Kind::Histogram, "Times", spread(0, &[0, 0], 8))]);
        let histogram = decoded(&page)[0].metric[0].histogram.clone().unwrap();
        assert_eq!((histogram.sample_count(), histogram.zero_count()), (8, 8));
        assert!(histogram.positive_span.is_empty() && histogram.zero_threshold() > 0.0);
    }

    #[test]
    fn a_page_written_in_the_middle_of_an_exchange_still_adds_up() {
        // One value is in the classic ranges already and not in the native ones.
        let page = render(&[Family::single("x", Kind::Histogram, "Times", spread(0, &[1, 6], 0))]);
        let histogram = decoded(&page)[0].metric[0].histogram.clone().unwrap();
        assert_eq!(histogram.sample_count(), 7);
        assert!(histogram.bucket.iter().all(|bucket| bucket.cumulative_count() <= 7));
        assert_eq!(histogram.bucket.last().map(|bucket| bucket.cumulative_count()), Some(7));
    }
}
