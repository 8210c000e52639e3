//! Rows of the page that tests over sockets do not reach.

use std::sync::Arc;

use super::family::{Labels, Value};
use super::outbox::samples::PLAIN;
use super::record::WHO_MAX;
use super::{CoreMeter, Meter, Record};
use crate::config::WhoLabel;

fn record<'r>(labels: &'r [WhoLabel], who: [&'r str; 2]) -> Record<'r> {
    let mut all = [""; WHO_MAX];
    (all[0], all[2]) = (who[0], who[1]);
    Record { who: all, labels, ..PLAIN }
}

fn requests(meter: &Meter) -> Vec<(Labels, Value)> {
    let families = meter.families();
    let family = families.into_iter().find(|family| family.name == "sluice_requests_total");
    family.unwrap().rows
}

fn value<'l>(labels: &'l Labels, name: &str) -> Option<&'l str> {
    labels.iter().find(|(own, _)| **own == *name).map(|(_, value)| &**value)
}

#[test]
fn the_order_in_which_a_plan_lists_its_labels_makes_no_second_row() {
    let meter = Arc::new(Meter::default());
    let (mut one, mut two) = (CoreMeter::new(meter.clone()), CoreMeter::new(meter.clone()));
    let [pipeline, team] =
        [("pipeline", 0), ("team", 2)].map(|(name, at)| WhoLabel { name: name.into(), at });
    one.record(&record(&[pipeline.clone(), team.clone()], ["nightly", "core"]));
    one.record(&record(&[team.clone(), pipeline.clone()], ["nightly", "core"]));
    two.record(&record(&[team, pipeline], ["nightly", "web"]));
    let rows = requests(&meter);
    assert_eq!(rows.len(), 2, "{rows:?}");
    for (team, count) in [("core", 2), ("web", 1)] {
        let row = rows.iter().find(|(labels, _)| value(labels, "team") == Some(team)).unwrap();
        assert_eq!((value(&row.0, "pipeline"), &row.1), (Some("nightly"), &Value::Count(count)));
    }
}

#[test]
fn labels_have_no_dashes_and_the_count_of_what_did_not_fit_names_the_dimension_as_it_is() {
    let meter = Arc::new(Meter::default());
    let mut core = CoreMeter::new(meter.clone());
    let labels = [WhoLabel { name: "build-kind".into(), at: 0 }];
    let names: Vec<String> = (0..300).map(|n| format!("kind {n}")).collect();
    for name in &names {
        core.record(&record(&labels, [name, ""]));
    }
    assert!(requests(&meter).iter().all(|(labels, _)| value(labels, "build_kind").is_some()));
    let families = meter.families();
    let overflow = families.iter().find(|family| family.name == "sluice_label_overflow_total").unwrap();
    let row = overflow.rows.iter().find(|(labels, _)| value(labels, "dimension") == Some("build-kind"));
    assert_eq!(row.map(|(_, value)| value), Some(&Value::Count(103)));
}
