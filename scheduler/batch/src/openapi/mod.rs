//! The OpenAPI document (3.1) of what the service answers, made of the table that its router is made of.

mod operation;
mod schema;

use serde_json::{Map, Value, json};

pub use self::operation::{Answer, Method, Operation, Parameter};
pub use self::schema::Kind;
use crate::odata::{List, RESULTS_MAX};
use crate::wire::EVENT_NAMES;

/// What paths begin with that the protocol does not know. They have their version in themselves.
pub const NATIVE: &str = "/muster/v1";

/// The headers under whose condition something is shown or changed.
const CONDITIONAL: [(&str, &str); 4] = [
    ("If-Match", "Only if it still has this ETag."),
    ("If-None-Match", "Only if it no longer has this ETag."),
    ("If-Modified-Since", "Only if it has changed since."),
    ("If-Unmodified-Since", "Only if it has not changed since."),
];

/// The document.
#[must_use]
pub fn document<'a>(operations: impl IntoIterator<Item = &'a Operation>, oldest_version: &str) -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let path = paths.entry(operation.template()).or_insert_with(|| json!({}));
        path[operation.method.word()] = described(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "The batch service of Muster",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Pools, jobs, tasks and their files on the nodes of a site.",
            "description": "Paths below /muster/v1 are the service's own; all others speak the protocol of the Azure Batch data plane. \
                Properties that a request's schema does not name are refused, or kept and shown as they were said.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "security": [{ "sharedKey": [] }, { "taskToken": [] }],
        "tags": [
            { "name": "pools" }, { "name": "nodes" }, { "name": "jobs" }, { "name": "tasks" }, { "name": "files" },
            { "name": "jobschedules" }, { "name": "account" },
            { "name": "muster", "description": "What the protocol lacks: reasons, placement, output as it comes, events." },
        ],
        "paths": paths,
        "components": {
            "schemas": schema::all(),
            "parameters": { "apiVersion": {
                "name": "api-version", "in": "query", "required": true,
                "description": format!("A day, with whatever follows it: any from {oldest_version} on."),
                "schema": { "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}" },
                "example": "2024-02-01.19.0",
            } },
            "responses": { "Error": {
                "description": "It is refused, or cannot be done now.",
                "content": { "application/json": { "schema": reference("Error") } },
            } },
            "securitySchemes": {
                "sharedKey": {
                    "type": "apiKey", "in": "header", "name": "Authorization",
                    "description": "SharedKey ACCOUNT:SIGNATURE, an HMAC-SHA256 with the account's key over the method, the path, the query and headers.",
                },
                "taskToken": {
                    "type": "http", "scheme": "bearer",
                    "description": "The token of a task (AZ_BATCH_AUTHENTICATION_TOKEN), for what is about its own job alone.",
                },
            },
        },
    })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn tag(operation: &Operation) -> &'static str {
    let path = operation.path;
    match path {
        _ if path.starts_with(NATIVE) => "muster",
        _ if path.contains("/files") => "files",
        _ if path.contains("/nodes") || path == "/nodecounts" => "nodes",
        _ if path.contains("/tasks") || path.ends_with("/addtaskcollection") => "tasks",
        _ if path.starts_with("/pools") => "pools",
        _ if path.starts_with("/jobschedules") => "jobschedules",
        _ if path.starts_with("/jobs") => "jobs",
        _ => "account",
    }
}

fn described(operation: &Operation) -> Value {
    let mut shown = json!({
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [tag(operation)],
        "parameters": parameters(operation),
        "responses": responses(operation),
    });
    if let Some(body) = operation.body {
        shown["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": reference(body) } } });
    }
    shown
}

fn query(name: &str, schema: Value, description: &str) -> Value {
    json!({ "name": name, "in": "query", "description": description, "schema": schema })
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    for name in operation.path_parameters() {
        let description = match name {
            "path" => "A file's path, with its slashes encoded as %2F.",
            _ => "An id, in any case of letters; what no id may have is encoded.",
        };
        all.push(json!({
            "name": name, "in": "path", "required": true, "description": description,
            "schema": { "type": "string" },
        }));
    }
    if !operation.path.starts_with(NATIVE) {
        all.push(json!({ "$ref": "#/components/parameters/apiVersion" }));
    }
    if let Some(list) = operation.list {
        all.extend(of_list(list, matches!(operation.answer, Answer::Page(_))));
    }
    all.extend(operation.parameters.iter().map(|(name, kind, what)| query(name, kind.schema(), what)));
    if operation.answer == Answer::Bytes && operation.path.ends_with("{*path}") {
        let what = "The part that is wanted, as bytes=0-1023; it is answered with 200 as well.";
        all.push(json!({ "name": "ocp-range", "in": "header", "description": what, "schema": { "type": "string" } }));
    }
    if operation.answer == Answer::Events {
        let what = "Go on after this event.";
        all.push(json!({ "name": "Last-Event-ID", "in": "header", "description": what, "schema": { "type": "string" } }));
    }
    if operation.conditional {
        let header = |(name, what): &(&str, &str)| json!({ "name": name, "in": "header", "description": what, "schema": { "type": "string" } });
        all.extend(CONDITIONAL.iter().map(header));
    }
    all
}

/// The query of a list, or of one thing of it.
fn of_list(list: List, is_page: bool) -> Vec<Value> {
    let text = || json!({ "type": "string" });
    let mut all = Vec::new();
    let filterable = list.filterable();
    if is_page && !filterable.is_empty() {
        let one = |(property, operators): &(crate::odata::Property, crate::odata::Operators)| {
            format!("{} ({})", property.path(), operators.told())
        };
        let names: Vec<String> = filterable.iter().map(one).collect();
        let what = format!("Only those for which this holds, by {}.", names.join("; "));
        all.push(query("$filter", text(), &what));
    }
    if !list.selectable().is_empty() {
        let what =
            format!("Only these properties, with commas between them: {}.", list.selectable().join(", "));
        all.push(query("$select", text(), &what));
    }
    if list.has_stats() {
        all.push(query("$expand", json!({ "type": "string", "enum": ["stats"] }), "With their statistics."));
    }
    if is_page {
        let most = json!({ "type": "integer", "minimum": 1, "maximum": RESULTS_MAX, "default": RESULTS_MAX });
        all.push(query("maxresults", most, "Most of one page."));
        all.push(query("$skiptoken", text(), "Where a page begins: as odata.nextLink has it."));
    }
    all
}

fn responses(operation: &Operation) -> Value {
    let json_of = |schema: Value| json!({ "application/json": { "schema": schema } });
    let list = |of: &str, pages: bool| {
        let mut schema = json!({
            "type": "object", "required": ["value"],
            "properties": { "value": { "type": "array", "items": reference(of) } },
        });
        if pages {
            schema["properties"]["odata.metadata"] = json!({ "type": "string" });
            schema["properties"]["odata.nextLink"] = json!({ "type": "string", "format": "uri" });
        }
        schema
    };
    let content = match operation.answer {
        Answer::Empty => None,
        Answer::One(schema) => Some(json_of(reference(schema))),
        Answer::Page(of) => Some(json_of(list(of, true))),
        Answer::All(of) => Some(json_of(list(of, false))),
        Answer::Bytes => Some(json!({ "application/octet-stream": {} })),
        Answer::Events => Some(json!({
            "application/json": { "schema": reference("EventPage") },
            "text/event-stream": { "schema": {
                "type": "string",
                "description": format!(
                    "Events {}, and lost where events are missing. Each has an id, and the schema Event as its data.",
                    EVENT_NAMES.join(", ")
                ),
            } },
        })),
        Answer::Document => Some(json_of(json!({ "type": "object" }))),
        Answer::Refused(status) => {
            return json!({ status.to_string(): { "$ref": "#/components/responses/Error" }, "default": { "$ref": "#/components/responses/Error" } });
        }
    };
    let mut success = json!({ "description": "It is done." });
    if let Some(content) = content {
        success["content"] = content;
    }
    json!({ operation.success.to_string(): success, "default": { "$ref": "#/components/responses/Error" } })
}
