//! Compares what Muster makes of a formula with what the second evaluator says.

use std::collections::BTreeMap;

use muster_core::autoscale::{Formula, History, Inputs, Metric, Metrics, Sample, Value};
use muster_core::ids::Timestamp;
use serde_json::Value as Json;

/// What formulas look at.
pub struct Owned {
    now: Timestamp,
    seed: u64,
    dedicated: u32,
    low_priority: u32,
    metrics: Metrics,
}

impl Owned {
    pub fn borrowed(&self) -> Inputs<'_> {
        Inputs {
            now: self.now,
            seed: self.seed,
            dedicated: self.dedicated,
            low_priority: self.low_priority,
            metrics: &self.metrics,
        }
    }
}

/// All inputs, by name.
pub fn inputs() -> BTreeMap<String, Owned> {
    let all: BTreeMap<String, Json> = serde_json::from_str(include_str!("inputs.json")).unwrap();
    all.into_iter().map(|(name, json)| (name, owned(&json))).collect()
}

fn owned(json: &Json) -> Owned {
    let small = |name: &str| u32::try_from(json[name].as_u64().unwrap()).unwrap();
    let metrics = json["metrics"].as_object().unwrap().iter().map(|(name, history)| {
        let metric = *Metric::ALL.iter().find(|metric| metric.name() == name).unwrap();
        let samples = history["samples"].as_array().unwrap().iter().map(|sample| Sample {
            at: Timestamp(sample[0].as_u64().unwrap()),
            value: sample[1].as_f64().unwrap(),
        });
        (metric, History { current: history["current"].as_f64().unwrap(), samples: samples.collect() })
    });
    Owned {
        now: Timestamp(json["now"].as_u64().unwrap()),
        seed: json["seed"].as_u64().unwrap(),
        dedicated: small("dedicated"),
        low_priority: small("low_priority"),
        metrics: metrics.collect(),
    }
}

/// Evaluates the formula of a line and compares.
///
/// # Panics
/// If anything differs by more than rounding.
pub fn check(inputs: &BTreeMap<String, Owned>, line: &str) {
    let case: Json = serde_json::from_str(line).unwrap();
    let (text, expected) = (case["formula"].as_str().unwrap(), &case["expected"]);
    let formula = Formula::parse(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    let outcome = formula.evaluate(&inputs[case["inputs"].as_str().unwrap()].borrowed());
    match &outcome.targets {
        Ok(targets) => {
            assert_eq!(expected["error"].as_str(), None, "{text}\n{targets:?}");
            let nodes = |name: &str| expected[name].as_u64().map(|nodes| u32::try_from(nodes).unwrap());
            assert_eq!(targets.dedicated, nodes("dedicated"), "{text}");
            assert_eq!(targets.low_priority, nodes("low_priority"), "{text}");
            assert_eq!(Some(targets.deallocation.name()), expected["deallocation"].as_str(), "{text}");
        }
        Err(error) => assert_eq!(Some(error.code.name()), expected["error"].as_str(), "{text}\n{error}"),
    }
    let own: BTreeMap<&str, &Value> = outcome
        .variables
        .iter()
        .map(|(name, value)| (name.as_str(), value))
        .filter(|(name, _)| !name.starts_with("$Target") && *name != "$NodeDeallocationOption")
        .collect();
    let wanted = expected["variables"].as_object().unwrap();
    assert!(own.keys().copied().eq(wanted.keys().map(String::as_str)), "{text}\n{own:?}\n{wanted:?}");
    for (name, value) in own {
        assert!(same(value, &wanted[name]), "{text}\n{name} is {value:?} and not {}", wanted[name]);
    }
}

fn same(value: &Value, wanted: &Json) -> bool {
    match value {
        Value::Number(number) => near(*number, &wanted["number"]),
        Value::Vector(vector) => wanted["vector"].as_array().is_some_and(|wanted| {
            wanted.len() == vector.len()
                && vector.iter().zip(wanted).all(|(number, wanted)| near(*number, wanted))
        }),
        Value::Text(text) => wanted["text"].as_str() == Some(text),
        Value::Instant(instant) => wanted["instant"].as_i64() == Some(instant.ticks()),
        Value::Interval(interval) => wanted["interval"].as_i64() == Some(interval.ticks()),
    }
}

fn near(number: f64, wanted: &Json) -> bool {
    match wanted {
        Json::String(text) if text == "nan" => number.is_nan(),
        Json::String(text) => text.parse::<f64>().is_ok_and(|wanted| wanted == number),
        wanted => {
            wanted.as_f64().is_some_and(|wanted| (number - wanted).abs() <= 1e-9 * wanted.abs().max(1.0))
        }
    }
}
