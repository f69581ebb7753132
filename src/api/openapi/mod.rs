//! The OpenAPI document of everything that is served. The paths and methods are those of the route map, and a test asks every
//! call of `/api/v1` which parameters it knows: a route or a parameter that is missing here fails the build.

mod operations;
mod page;

use poem::http::header;
use poem::{Response, Result, handler};
use serde_json::{Map, Value, json};

use super::error::Problem;
use crate::market::BOUNDED_NAMES;
use crate::market::v1::PARAMETERS;
use operations::{Access, Answer, Form, OPERATIONS, Operation, Parameter};
pub use page::show;

/// What is sent and answered, by name.
const SCHEMAS: &str = include_str!("schemas.json");

/// OpenAPI 3.1 of this version.
pub fn document() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for operation in OPERATIONS {
        let methods = paths.entry(operation.path).or_insert_with(|| json!({}));
        methods[operation.method] = described(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "bellwether",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
            "description": "The market as the daemon knows it. Every path also answers with a slash at its end, and HEAD where there is GET. Reads carry a strong ETag and a Cache-Control that ends with the next cycle.",
        },
        "servers": [{"url": "/"}],
        "tags": operations::TAGS.iter().map(|(name, about)| json!({"name": name, "description": about})).collect::<Value>(),
        "paths": paths,
        "components": {
            // The file is part of the program, and a test reads it.
            "schemas": serde_json::from_str::<Value>(SCHEMAS).unwrap_or_default(),
            "securitySchemes": {
                "operator": {"type": "http", "scheme": "bearer", "description": "The token in OPERATOR_TOKEN."},
                "site": {"type": "http", "scheme": "bearer", "description": "The token in SITE_TOKEN."},
                "cron": {"type": "apiKey", "in": "header", "name": "X-Cron-Secret", "description": "The secret in CRON_SECRET; X-Task-Secret is taken too."},
            },
        },
    })
}

fn described(operation: &Operation) -> Value {
    let mut parameters: Vec<Value> = path_parameters(operation.path);
    parameters.extend(operation.parameters.iter().map(parameter));
    if operation.path == "/api/v1/quotes" {
        parameters.extend(PARAMETERS.iter().filter(|name| bound(name).is_some()).map(|name| bound_parameter(name)));
    }
    if operation.path == "/api/stocks" {
        let names = BOUNDED_NAMES.iter().flat_map(|name| [format!("min_{name}"), format!("max_{name}")]);
        parameters.extend(names.map(|name| bound_parameter(&name)));
    }
    let mut said = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag],
        "parameters": parameters,
        "responses": responses(operation),
    });
    if let Some(schema) = operation.body {
        said["requestBody"] = json!({"content": {"application/json": {"schema": reference(schema)}}});
    }
    match operation.access {
        Access::Everybody => {}
        Access::Operator => said["security"] = json!([{"operator": []}]),
        Access::Cron => said["security"] = json!([{"cron": []}]),
        Access::Site => said["security"] = json!([{"site": []}]),
    }
    said
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

fn path_parameters(path: &str) -> Vec<Value> {
    let names = path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})).collect()
}

fn parameter(parameter: &Parameter) -> Value {
    let Parameter { name, form, about, required } = parameter;
    let place = if matches!(form, Form::Header) { "header" } else { "query" };
    json!({"name": name, "in": place, "required": required, "description": about, "schema": schema_of(*form)})
}

fn schema_of(form: Form) -> Value {
    match form {
        Form::Text | Form::Header => json!({"type": "string"}),
        Form::Whole => json!({"type": "integer", "minimum": 0}),
        Form::Number => json!({"type": "number"}),
        Form::Flag => json!({"type": "boolean"}),
        Form::Date => json!({"type": "string", "format": "date"}),
        Form::Instant => json!({"type": "string", "format": "date-time"}),
        Form::OneOf(values) => json!({"type": "string", "enum": values}),
    }
}

/// `min_price`: the end and the column.
fn bound(name: &str) -> Option<(&str, &str)> {
    let (end, column) = name.split_once('_')?;
    ["min", "max"].contains(&end).then_some((end, column))
}

fn bound_parameter(name: &str) -> Value {
    let (end, column) = bound(name).unwrap_or_default();
    let about = format!(
        "{} {column}, itself included; what is not known is left out",
        if end == "min" { "Least" } else { "Most" }
    );
    json!({"name": name, "in": "query", "required": false, "description": about, "schema": schema_of(Form::Number)})
}

fn responses(operation: &Operation) -> Value {
    let mut responses = Map::new();
    for Answer { status, about, media } in operation.answers {
        let content: Map<String, Value> = media
            .iter()
            .map(|(media, schema)| ((*media).to_owned(), json!({"schema": content_schema(schema)})))
            .collect();
        let mut said = json!({"description": about});
        if !content.is_empty() {
            said["content"] = Value::Object(content);
        }
        responses.insert(status.to_string(), said);
    }
    let problem = json!({"application/problem+json": {"schema": reference("Problem")}});
    responses.insert(
        "default".to_owned(),
        json!({"description": "What is wrong, and what would be right.", "content": problem}),
    );
    Value::Object(responses)
}

/// A schema by name; plain text where it has none.
fn content_schema(name: &str) -> Value {
    match name {
        "" => json!({"type": "string"}),
        name => reference(name),
    }
}

/// The document, where the configuration shows it.
#[handler]
pub fn json_document() -> Result<Response> {
    let text = serde_json::to_vec(&document()).map_err(|_| Problem::not_found("there is no document"))?;
    Ok(Response::builder()
        .header(header::CACHE_CONTROL, "public, max-age=300")
        .content_type("application/json")
        .body(text))
}
