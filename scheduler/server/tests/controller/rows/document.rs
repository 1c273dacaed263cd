//! Holds what the service answers against the document that it gives of itself.

use serde_json::{Map, Value};

use super::farm::Got;

/// Fails where an exchange is not as the document has it.
pub fn hold_against(document: &Value, method: &str, target: &str, body: Option<&Value>, got: &Got) {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let Some((template, operation)) = operation(document, method, path) else {
        assert!(
            matches!(got.status, 403..=405),
            "{method} {path} is answered, and the document has it not: {got:?}"
        );
        return;
    };
    let about = format!("{method} {template}");
    let responses = operation["responses"].as_object().unwrap();
    if got.status >= 400 || got.status == 304 {
        assert!(responses.contains_key("default"), "{about}");
        if got.status >= 400 && !got.text.is_empty() {
            check(document, &document["components"]["schemas"]["Error"], &got.json, &about);
        }
        return;
    }
    let response = responses.get(&got.status.to_string());
    let response = response.unwrap_or_else(|| panic!("{about} has no status {}: {responses:?}", got.status));
    let known = operation["parameters"].as_array().unwrap();
    for name in query.split('&').filter_map(|pair| pair.split('=').next()).filter(|name| !name.is_empty()) {
        let name = name.replace("%24", "$");
        let is_it = |one: &Value| {
            one["name"].as_str().is_some_and(|known| known.eq_ignore_ascii_case(&name))
                || one["$ref"] == format!("#/components/parameters/{}", "apiVersion") && name == "api-version"
        };
        assert!(known.iter().any(is_it), "{about} takes {name}, and the document does not say so");
    }
    // Of several tasks in one body, some may have been refused.
    let are_all_taken = !got.text.contains("clienterror");
    if let (true, Some(body), Some(schema)) =
        (are_all_taken, body, operation["requestBody"]["content"]["application/json"].get("schema"))
    {
        check(document, schema, body, &format!("the body of {about}"));
    }
    if let Some(schema) = response["content"]["application/json"].get("schema")
        && got.headers.get("content-type").is_some_and(|kind| kind.starts_with("application/json"))
    {
        check(document, schema, &got.json, &about);
    }
    if response.get("content").is_none() {
        assert!(got.text.is_empty(), "{about} brings a body, and the document has none: {}", got.text);
    }
}

/// The operation of a path, that with the fewest variable parts.
fn operation<'a>(document: &'a Value, method: &str, path: &str) -> Option<(&'a str, &'a Value)> {
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let of: Vec<&str> = template.split('/').collect();
        of.len() == parts.len() && of.iter().zip(&parts).all(|(of, part)| of.starts_with('{') || of == part)
    };
    let paths: &Map<String, Value> = document["paths"].as_object()?;
    let (template, methods) = paths
        .iter()
        .filter(|(template, _)| fits(template))
        .min_by_key(|(template, _)| template.matches('{').count())?;
    let word = method.to_lowercase();
    // A GET answers a HEAD as well.
    let operation = methods.get(&word).or_else(|| methods.get("get").filter(|_| word == "head"))?;
    Some((template, operation))
}

fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let schema = document.pointer(name.trim_start_matches('#'));
        return check(document, schema.unwrap_or_else(|| panic!("{at}: {name}")), value, at);
    }
    match schema["type"].as_str() {
        None => {}
        Some("object") => {
            let object = value.as_object().unwrap_or_else(|| panic!("{at} is no object: {value}"));
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                assert!(object.contains_key(name), "{at} has no {name}: {value}");
            }
            let Some(properties) = schema["properties"].as_object() else { return };
            for (name, value) in object.iter().filter(|(_, value)| !value.is_null()) {
                let schema =
                    properties.get(name).unwrap_or_else(|| panic!("{at}.{name} is not in the document"));
                check(document, schema, value, &format!("{at}.{name}"));
            }
        }
        Some("array") => {
            let list = value.as_array().unwrap_or_else(|| panic!("{at} is no list: {value}"));
            list.iter().for_each(|value| check(document, &schema["items"], value, at));
        }
        Some("string") => {
            let text = value.as_str().unwrap_or_else(|| panic!("{at} is no text: {value}"));
            if let Some(words) = schema["enum"].as_array() {
                let is_it = |word: &Value| word.as_str().is_some_and(|word| word.eq_ignore_ascii_case(text));
                assert!(words.iter().any(is_it), "{at} is {text}, which the document has not");
            }
        }
        Some("integer") => assert!(value.is_i64() || value.is_u64(), "{at} is no whole number: {value}"),
        Some("number") => assert!(value.is_number(), "{at} is no number: {value}"),
        Some("boolean") => assert!(value.is_boolean(), "{at} is neither true nor false: {value}"),
        Some(other) => panic!("{at}: {other}"),
    }
}
