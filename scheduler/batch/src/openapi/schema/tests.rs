//! The schemas, held against each other, and against what readers of bodies look at.

use std::collections::BTreeSet;

use muster_core::batch::FoldedId;
use muster_core::spec::User;

use super::*;
use crate::error::BatchError;
use crate::wire::{self, looked_at};

fn named(kind: Kind) -> Option<&'static str> {
    match kind {
        One(name) | Many(name) => Some(name),
        _ => None,
    }
}

#[test]
fn every_schema_has_a_name_of_its_own_and_is_there_where_it_is_named() {
    let all = all();
    let all = all.as_object().unwrap();
    assert_eq!(all.len(), SCHEMAS.len() + SHOWN.len() + 1);
    let kinds = SCHEMAS.iter().flat_map(|(_, properties, _)| properties.iter()).chain(PROPERTIES);
    for (property, kind) in kinds {
        assert!(named(*kind).is_none_or(|name| all.contains_key(name)), "{property}");
    }
    for (name, properties, required) in SCHEMAS {
        let known: BTreeSet<&str> = properties.iter().map(|(property, _)| *property).collect();
        assert_eq!(known.len(), properties.len(), "{name} has a property twice");
        assert!(required.iter().all(|property| known.contains(property)), "{name}");
    }
}

#[test]
fn every_property_of_a_list_is_known_or_said_not_to_be_shown() {
    for (name, list, required) in SHOWN {
        for property in list.selectable() {
            let is_known = kind(list, property) != Any
                || SCHEMAS.iter().any(|(_, all, _)| all.contains(&(*property, Any)))
                || PROPERTIES.contains(&(*property, Any));
            assert!(is_known || NOT_SHOWN.contains(property), "{name}.{property}");
        }
        assert!(required.iter().all(|property| list.selectable().contains(property)), "{name}");
    }
}

/// The kind of a property of a schema, found along a path.
fn along(schema: &str, path: &str) -> Option<Kind> {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let (_, properties, _) = SCHEMAS.iter().find(|(name, ..)| *name == schema)?;
    let kind = properties.iter().find(|(property, _)| *property == first)?.1;
    match (rest, named(kind)) {
        ("", _) => Some(kind),
        (_, Some(inner)) => along(inner, rest),
        (_, None) => None,
    }
}

fn user() -> User {
    User { name: "ann".to_owned(), uid: 1000, gid: 1000 }
}

/// What a schema asks for, as far as readers look at it: a body in which every property of these kinds is there.
fn full(schema: &str, without: &[&str], depth: u32) -> Value {
    let (_, properties, _) = SCHEMAS.iter().find(|(name, ..)| *name == schema).unwrap();
    let mut body = Map::new();
    for (name, kind) in properties.iter().filter(|(name, _)| !without.contains(name)) {
        let value = match kind {
            Text => json!(match *name {
                "fileMode" => "0640",
                "source" => "nas1:/export",
                "mountOptions" => "ro",
                "containerRunOptions" => "--rm",
                _ => "word",
            }),
            Integer => json!(1),
            Flag => json!(false),
            Instant => json!("2027-01-31T02:00:00Z"),
            Duration => json!("PT1H"),
            Url => json!("http://store/c/x"),
            Words(words) => json!(words[0]),
            Texts => {
                json!(if *name == "access" { "job" } else { "1" }).as_str().map(|text| json!([text])).unwrap()
            }
            One(inner) if depth > 0 => full(inner, without, depth - 1),
            Many(inner) if depth > 0 => json!([full(inner, without, depth - 1)]),
            One(_) | Many(_) | Any | Number => continue,
        };
        body.insert((*name).to_owned(), value);
    }
    Value::Object(body)
}

#[test]
fn what_readers_look_at_is_in_the_document_and_what_is_there_is_looked_at_or_kept() {
    let read = |schema: &str, without: &[&str], reader: &dyn Fn(&Value) -> Result<(), BatchError>| {
        let body = full(schema, without, 6);
        looked_at::take();
        reader(&body).unwrap_or_else(|error| panic!("{schema}: {error}: {body}"));
        let seen = looked_at::take();
        // The jobs of schedules and the pools of jobs are read as bodies of their own.
        let bodies: &[&str] = match schema {
            "NewJobSchedule" => &["NewJobSchedule", "NewJob", "NewPool"],
            "NewJob" => &["NewJob", "NewPool"],
            _ => &[schema],
        };
        // A manager task is read as other tasks are, once what it may not have is refused; for a release task nobody waits.
        let refused = [
            "jobManagerTask.affinityInfo",
            "jobManagerTask.affinityInfo.affinityId",
            "jobManagerTask.exitConditions",
            "jobManagerTask.multiInstanceSettings",
            "jobReleaseTask.waitForSuccess",
        ];
        for path in seen.iter().filter(|path| !refused.contains(&path.as_str())) {
            let is_known = bodies.iter().any(|schema| along(schema, path).is_some());
            assert!(is_known, "readers look at {schema}.{path}, which the document has not");
        }
        seen
    };
    let ok = |result: Result<_, BatchError>| result.map(drop);
    let mut seen: BTreeSet<(&str, String)> = BTreeSet::new();
    let mut note = |schema: &'static str, paths: BTreeSet<String>| {
        seen.extend(paths.into_iter().map(|path| (schema, path)));
    };
    let scale = ["enableAutoScale", "autoScaleFormula", "autoScaleEvaluationInterval"];
    let chores = ["httpUrl", "blobPrefix", "autoStorageContainerName"];
    note(
        "NewPool",
        read("NewPool", &[&scale[..], &chores].concat(), &|body| {
            let mut body = body.clone();
            body["targetLowPriorityNodes"] = json!(0);
            ok(wire::read_pool(&body, &user()).map(|_| ()))
        }),
    );
    note(
        "Resize",
        read("Resize", &["targetLowPriorityNodes"], &|body| {
            ok(wire::read_resize(FoldedId::of("p"), body).map(|_| ()))
        }),
    );
    note(
        "Removal",
        read("Removal", &[], &|body| ok(wire::read_removal(FoldedId::of("p"), body).map(|_| ()))),
    );
    note(
        "Scaling",
        read("Scaling", &[], &|body| ok(wire::read_scaling(FoldedId::of("p"), body).map(|_| ()))),
    );
    note("Trial", read("Trial", &[], &|body| ok(wire::read_trial(body).map(|_| ()))));
    let auto = [&scale[..], &chores, &["poolId", "targetLowPriorityNodes"]].concat();
    note("NewJob", read("NewJob", &auto, &|body| ok(wire::read_job(body, &user()).map(|_| ()))));
    let files = ["storageContainerUrl", "blobPrefix", "autoStorageContainerName"];
    note("NewTask", read("NewTask", &files, &|body| ok(wire::read_task(body, &user()).map(|_| ()))));
    note(
        "NewJobSchedule",
        read("NewJobSchedule", &auto, &|body| ok(wire::read_schedule(body, &user()).map(|_| ()))),
    );
    // What is only kept, and what belongs to requests that say one of two things.
    let kept = ["displayName", "userIdentity", "allowLowPriorityNode"];
    for (schema, path) in [
        ("NewPool", "startTask.maxTaskRetryCount"),
        ("NewPool", "taskSchedulingPolicy.nodeFillType"),
        ("NewJob", "jobPreparationTask.constraints.maxWallClockTime"),
        ("NewJob", "jobManagerTask.killJobOnCompletion"),
        ("NewJob", "poolInfo.autoPoolSpecification.keepAlive"),
        ("NewTask", "outputFiles.destination.container.uploadHeaders"),
        ("NewTask", "exitConditions.exitCodeRanges.exitOptions.jobAction"),
        ("NewTask", "multiInstanceSettings.commonResourceFiles.httpUrl"),
    ] {
        assert!(seen.contains(&(schema, path.to_owned())), "{schema}.{path} is not looked at");
    }
    for schema in ["NewPool", "Resize", "Removal", "Scaling", "Trial", "NewJob", "NewTask"] {
        let (_, properties, _) = SCHEMAS.iter().find(|(name, ..)| *name == schema).unwrap();
        for (property, kind) in *properties {
            let is_kept = *kind == Any || *property == "metadata" || kept.contains(property);
            let is_seen = seen.contains(&(schema, (*property).to_owned()));
            let of_other = *property == "autoScaleEvaluationInterval" && schema == "NewPool";
            assert!(
                is_kept || is_seen || of_other,
                "{schema}.{property} is in the document, and nobody looks at it"
            );
        }
    }
}
