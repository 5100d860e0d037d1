//! The JSON Schema of the file, for editors: generated from the types, kept as
//! `conf/keygate.schema.json`, and held against every configuration in the repository.
//!
//! It knows shapes and the forms of values, not what they mean together: `keygate check` does. Like
//! the types it describes what is not in effect yet. All of it is a test: nothing of it is in the
//! program. `make generated` writes the file anew.

use super::File;
use super::shape::{AnyOr, Choice, Map};
use crate::config::secret_ref::{Keys, SecretRef};
use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::path::{Path, PathBuf};

const FILE: &str = "conf/keygate.schema.json";

/// Values that are text of a certain form, by their keys' names.
const FORMS: &[(&[&str], &str)] = &[
    (&["max_body", "max_ws_message", "max_upload"], "^[0-9]+(B|KiB|MiB|GiB)$"),
    (
        &[
            "max_age",
            "header_timeout",
            "idle_timeout",
            "upstream_connect_timeout",
            "drain",
            "upstream_first_byte_timeout",
            "stream_idle_timeout",
            "max_session",
        ],
        "^[0-9]+(ms|s|m|h|d)$",
    ),
    (&["sha256"], "^[0-9A-Fa-f]{64}$"),
    (&["public_url", "url"], "^[A-Za-z]+://"),
];

/// The values of `kind`.
const KINDS: [&str; 6] = ["openai", "anthropic", "gemini", "decart", "durable-streams", "generic"];

/// Lists that mean nothing when they are empty.
const FILLED: &[&str] =
    &["listen", "server_names", "providers", "methods", "paths", "models", "origins"];

impl<V: JsonSchema> JsonSchema for Map<V> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        format!("Map_of_{}", V::schema_name()).into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let entry = generator.subschema_for::<V>();
        json_schema!({ "type": "object", "additionalProperties": entry })
    }
}

impl JsonSchema for Choice {
    fn schema_name() -> Cow<'static, str> {
        "Choice".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a word, or a map of one entry",
            "anyOf": [
                { "type": "string" },
                {
                    "type": "object", "minProperties": 1, "maxProperties": 1,
                    "additionalProperties": { "type": "string" }
                }
            ]
        })
    }
}

impl JsonSchema for AnyOr {
    fn schema_name() -> Cow<'static, str> {
        "AnyOr".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "const": "any" },
                { "type": "array", "items": { "type": "string" }, "minItems": 1 }
            ]
        })
    }
}

/// One of three references, and what may stand beside it.
fn reference(beside: Value) -> Schema {
    let mut properties = json!({
        "env": { "type": "string", "description": "an environment variable" },
        "file": { "type": "string", "description": "a file with nothing else in it" },
        "credential": { "type": "string", "description": "a name of systemd's LoadCredential=" }
    });
    if let (Some(all), Value::Object(more)) = (properties.as_object_mut(), beside) {
        all.extend(more);
    }
    json_schema!({
        "description": "a reference to a secret, never the secret itself",
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
        "oneOf": [
            { "required": ["env"] }, { "required": ["file"] }, { "required": ["credential"] }
        ]
    })
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "SecretRef".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        reference(json!({}))
    }
}

impl JsonSchema for Keys {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Keys".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let weight = json!({ "weight": { "type": "integer", "minimum": 1, "default": 1 } });
        json_schema!({ "type": "array", "items": reference(weight) })
    }
}

/// What the types can't say: a key that is there is never null, texts have forms, and a list that
/// allows nothing is a mistake.
#[derive(Clone)]
struct Strict;

impl Transform for Strict {
    fn transform(&mut self, schema: &mut Schema) {
        let Some(object) = schema.as_object_mut() else { return };
        // The defaults of the types are "not written", not the gateway's.
        if object.get("default").is_some_and(|d| !d.is_number()) {
            object.remove("default");
        }
        if let Some(Value::Array(types)) = object.get_mut("type") {
            types.retain(|t| t != "null");
            if let [only] = &types[..] {
                let only = only.clone();
                object.insert("type".into(), only);
            }
        }
        if let Some(Value::Array(any)) = object.get_mut("anyOf") {
            any.retain(|s| s.get("type") != Some(&json!("null")));
            if let [Value::Object(only)] = &any[..] {
                let only = only.clone();
                object.remove("anyOf");
                object.extend(only);
            }
        }
        if let Some(Value::Object(properties)) = object.get_mut("properties") {
            for (name, property) in properties {
                let Value::Object(property) = property else { continue };
                let is = |property: &serde_json::Map<String, Value>, kind: &str| match property
                    .get("type")
                {
                    Some(Value::String(t)) => t == kind,
                    Some(Value::Array(all)) => all.iter().any(|t| t == kind),
                    _ => false,
                };
                let form = FORMS.iter().find(|(names, _)| names.contains(&&**name));
                if let Some((_, form)) = form.filter(|_| is(property, "string")) {
                    property.insert("pattern".into(), json!(form));
                }
                if name == "kind" {
                    property.insert("enum".into(), json!(KINDS));
                }
                if FILLED.contains(&&**name) && is(property, "array") {
                    property.insert("minItems".into(), json!(1));
                }
            }
        }
        transform_subschemas(self, schema);
    }
}

fn generated() -> String {
    let settings = SchemaSettings::draft2020_12().with_transform(Strict);
    let mut schema = settings.into_generator().into_root_schema_for::<File>();
    schema.insert("title".into(), json!("keygate's configuration"));
    schema.remove("description");
    let text = serde_json::to_string_pretty(&schema).expect("a schema is JSON");
    text + "\n"
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn yaml_files(directory: &str) -> Vec<PathBuf> {
    let read = std::fs::read_dir(root().join(directory)).expect(directory);
    let mut files: Vec<_> = read
        .map(|entry| entry.expect(directory).path())
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{directory} holds no YAML");
    files
}

/// Says why a file does not fit the schema. What is no YAML, or YAML of a kind that JSON has not, is
/// for others to judge.
struct Validator {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

impl Validator {
    fn new() -> Self {
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        let schema = serde_json::from_str(&generated()).expect("JSON");
        compiler.add_resource("keygate.schema.json", schema).expect("a resource");
        let index = compiler.compile("keygate.schema.json", &mut schemas);
        Self { index: index.unwrap_or_else(|e| panic!("it is no schema: {e:#}")), schemas }
    }

    fn complaint(&self, file: &Path) -> Option<String> {
        let text = std::fs::read_to_string(file).expect("a file");
        let value: Value = serde_yaml::from_str(&text).ok()?;
        self.schemas
            .validate(&value, self.index)
            .err()
            .map(|e| format!("{}: {e:#}", file.display()))
    }
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the ban is for secrets")]
fn the_committed_schema_is_the_one_of_the_types() {
    // `make generated` asks for it.
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(root().join(FILE), generated()).expect("the file can be written");
    }
    let committed = std::fs::read_to_string(root().join(FILE)).unwrap_or_default();
    assert!(committed == generated(), "{FILE} is out of date: run `make generated`");
}

#[test]
fn every_configuration_that_is_accepted_fits_the_schema() {
    let validator = Validator::new();
    let mut files = vec![root().join("packaging/deb/keygate.yaml")];
    for directory in ["conf", "conf/examples", "tests/config", "tests/config/valid"] {
        files.extend(yaml_files(directory));
    }
    let complaints: Vec<_> = files.iter().filter_map(|file| validator.complaint(file)).collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Names of refused files about which a schema can say nothing: what they are wrong in is no
/// shape (other names, other files, ranges), or no JSON knows it (duplicates, aliases, tags).
const BEYOND: &[&str] = &[
    "access_log.yaml",
    "access_log_place.yaml",
    "client_tokens.yaml",
    "listen_addresses.yaml",
    "not_yet.yaml",
    "policy_missing_origin.yaml",
    "policy_origins.yaml",
    "provider_foreign_keys.yaml",
    "provider_models.yaml",
    "provider_names.yaml",
    "provider_slots.yaml",
    "provider_streams.yaml",
    "provider_without_key.yaml",
    "public_url.yaml",
    "public_url_path.yaml",
    "routes.yaml",
    "routes_bare_taken.yaml",
    "routes_bare_twice.yaml",
    "secret_not_found.yaml",
    "server_names.yaml",
    "shape_complex_key.yaml",
    "shape_duplicate_key.yaml",
    "shape_duplicate_policy.yaml",
    "shape_duplicate_provider.yaml",
    "shape_duplicate_section.yaml",
    "shape_tag.yaml",
    "store_no_file.yaml",
    "syntax_alias.yaml",
    "syntax_bracket.yaml",
    "syntax_indent.yaml",
    "syntax_tab.yaml",
    "syntax_two_documents.yaml",
    "tls.yaml",
    "tokens_without_policies.yaml",
    "trusted_proxies.yaml",
];

#[test]
fn what_is_refused_for_its_shape_does_not_fit_the_schema() {
    let validator = Validator::new();
    let fits: Vec<String> = yaml_files("tests/config/invalid")
        .iter()
        .filter(|file| validator.complaint(file).is_none())
        .map(|file| file.file_name().expect("a name").to_string_lossy().into_owned())
        .collect();
    assert_eq!(fits, BEYOND, "these fit the schema though `check` refuses them");
}
