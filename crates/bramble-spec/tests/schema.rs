//! The published JSON Schema and the parser say the same.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use serde_json::Value;

fn examples() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let files = [dir.clone(), dir.join("builds")].map(|dir| fs::read_dir(dir).unwrap());
    let mut all: Vec<_> = files
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| (path.display().to_string(), fs::read_to_string(path).unwrap()))
        .collect();
    all.sort();
    assert!(all.len() >= 3);
    all
}

/// Every document of a file as JSON, by another YAML reader than ours.
fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

#[test]
fn every_example_resolves_and_fits_the_schema() {
    let validator = jsonschema::validator_for(&bramble_spec::schema()).unwrap();
    for (name, text) in examples() {
        let read = |written: &str| fs::read_to_string(Path::new(&name).parent().unwrap().join(written));
        let loaded = bramble_spec::load_with(Path::new(&name), &text, &[], &read);
        assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
        assert!(!loaded.clusters.is_empty(), "{name}");
        for document in documents(&text) {
            let errors: Vec<String> =
                validator.iter_errors(&document).map(|e| format!("{}: {e}", e.instance_path)).collect();
            assert!(errors.is_empty(), "{name}: {errors:?}");
        }
    }
}

#[test]
fn the_schema_refuses_what_the_parser_refuses() {
    let validator = jsonschema::validator_for(&bramble_spec::schema()).unwrap();
    let (_, text) = examples().into_iter().find(|(name, _)| name.ends_with("everything.yaml")).unwrap();
    let good = documents(&text).remove(0);
    assert!(validator.is_valid(&good));
    for (pointer, value) in [
        ("/nodes/0/role", Value::from("master")),
        ("/nodes/0/name", Value::from("Kube_1")),
        ("/network/cni", Value::from("weave")),
        ("/distribution", serde_json::json!({ "openshift": {} })),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value;
        assert!(!validator.is_valid(&bad), "{pointer}");
    }
    let mut bad = good.clone();
    bad["nodes"][0]["colour"] = Value::from("red");
    assert!(!validator.is_valid(&bad), "an unknown key");
    let mut bad = good;
    bad.as_object_mut().unwrap().remove("network");
    assert!(!validator.is_valid(&bad), "a missing key");
}

#[test]
fn files_of_parts_fit_their_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let validator = jsonschema::validator_for(&bramble_spec::parts_schema()).unwrap();
    let folders = [root.join("src/catalogue"), root.join("../../examples/builds/parts")];
    let files = folders.into_iter().flat_map(|dir| fs::read_dir(dir).unwrap()).map(|entry| entry.unwrap().path());
    let mut count = 0;
    for path in files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")) {
        for document in documents(&fs::read_to_string(&path).unwrap()) {
            let errors: Vec<String> =
                validator.iter_errors(&document).map(|e| format!("{}: {e}", e.instance_path)).collect();
            assert!(errors.is_empty(), "{}: {errors:?}", path.display());
            count += 1;
        }
    }
    assert!(count >= 8);
}
