//! `bramble design` as a person meets it, and the pages of the documentation.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::{assert_code, bramble, read, text};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn build(name: &str) -> String {
    root().join("examples/builds").join(name).display().to_string()
}

fn design(arguments: &[&str]) -> Output {
    bramble().arg("design").args(arguments).output().unwrap()
}

#[test]
fn figures_and_findings_are_printed_and_errors_have_their_exit_code() {
    let good = design(&["-f", &build("poe-ssd.yaml"), "--parts"]);
    assert_code(&good, 0);
    insta::assert_snapshot!("poe_ssd", String::from_utf8(good.stdout).unwrap());
    let bad =
        design(&["-f", &build("poe-ssd.yaml"), "--set", "hardware.accept=[]", "--set", "nodes.pi1.board=rpi-5-8gb"]);
    assert_code(&bad, 3);
    insta::assert_snapshot!("poe_ssd_changed", String::from_utf8(bad.stdout).unwrap());
    let nonsense = design(&["-f", &build("poe-ssd.yaml"), "--set", "nodes.pi9.board=rpi-5-8gb"]);
    assert_code(&nonsense, 2);
    assert!(text(&nonsense).contains("nothing in that list is called `pi9`"), "{}", text(&nonsense));
}

#[test]
fn two_files_stand_side_by_side() {
    let output = design(&["-f", &build("dramble.yaml"), "--against", &build("poe-ssd.yaml")]);
    assert_code(&output, 0);
    let text = text(&output);
    assert!(text.contains("memory for workloads") && text.contains("+5784 MiB"), "{text}");
}

#[test]
fn files_are_written_and_machines_can_read_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let output = design(&[
        "-f",
        &build("router-pi.yaml"),
        "--csv",
        &path("parts.csv"),
        "--html",
        &path("page.html"),
        "--svg",
        &path("pictures"),
        "-o",
        "json",
    ]);
    assert_code(&output, 0);
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["summary"]["nodes"], 8);
    assert_eq!(value["total"]["load"], "39.4 W");
    assert_eq!(
        value["traffic"][value["devices"].as_array().unwrap().iter().position(|name| name == "switch").unwrap()]["ports_needed"],
        8
    );
    assert!(
        value["findings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|finding| finding["rule"] == "memory" && finding["about"][0] == "nook")
    );
    assert!(
        read(Path::new(&path("parts.csv")))
            .lines()
            .any(|line| line.starts_with("charger,anker-powerport-6,Anker PowerPort 6,2,"))
    );
    for name in ["rack.svg", "wiring.svg", "network.svg"] {
        let picture = read(&dir.path().join("pictures").join(name));
        assert!(picture.starts_with("<svg xmlns=") && picture.contains(">celeste</text>"), "{name}");
    }
    assert!(read(Path::new(&path("page.html"))).contains("<h1>crossing</h1>"));
}

#[test]
fn up_and_plan_refuse_what_cannot_work_before_anything_is_touched() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bramble.yaml");
    let cluster = "cluster: shelf\nnetwork: { subnet: 10.0.0.0/24 }\ndistribution: none\n\
                   hardware: { devices: { router: { part: er-x-sfp } }, each: { power: router, switch: router, hat: rpi-poe-plus-hat } }\n\
                   nodes: [{ name: kube1, role: worker, board: rpi-4b-4gb, address: 10.0.0.50 }]\n";
    fs::write(&file, cluster).unwrap();
    for command in ["up", "plan"] {
        let output = bramble().arg(command).arg("-f").arg(&file).output().unwrap();
        assert_code(&output, 1);
        let text = text(&output);
        assert!(
            text.contains("kube1: router gives passive 24 V, and the Raspberry Pi PoE+ HAT needs 37 V or more (poe)"),
            "{text}"
        );
        assert!(text.contains("nothing was changed"), "{text}");
        assert!(!dir.path().join(".bramble").exists());
    }
}

#[test]
fn parts_are_listed_by_words_and_with_those_of_the_cluster_file() {
    let output = bramble().args(["parts", "switch", "net"]).current_dir("/").output().unwrap();
    assert_code(&output, 0);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("gs305ep ") && !text.contains("tl-sg108"), "{text}");
    let own = bramble().args(["-f", &build("poe-ssd.yaml"), "parts", "rpi-4b-4gb"]).output().unwrap();
    assert!(String::from_utf8(own.stdout).unwrap().contains("$55.00"));
}

/// The pages of the documentation are what the program writes; `BRAMBLE_WRITE_PAGES=1` writes them anew.
#[test]
fn the_pages_of_the_documentation_are_those_of_the_examples() {
    let dir = tempfile::tempdir().unwrap();
    let kept = root().join("docs/builds");
    let mut made: Vec<PathBuf> = Vec::new();
    for (file, cluster) in [
        ("dramble", "dramble"),
        ("k3s-and-k8s", "k3s"),
        ("kubecon", "kubecon"),
        ("poe-ssd", "poe-ssd"),
        ("router-pi", "crossing"),
    ] {
        let page = dir.path().join(format!("{file}.html"));
        let mut arguments = vec!["-f".to_owned(), build(&format!("{file}.yaml")), "-c".to_owned(), cluster.to_owned()];
        arguments.extend(["--html".to_owned(), page.display().to_string()]);
        made.push(page);
        if file == "router-pi" {
            arguments.extend(["--svg".to_owned(), dir.path().display().to_string()]);
            made.extend(["rack.svg", "wiring.svg", "network.svg"].map(|name| dir.path().join(name)));
        }
        assert_code(&design(&arguments.iter().map(String::as_str).collect::<Vec<_>>()), 0);
    }
    for made in made {
        let kept = kept.join(made.file_name().unwrap());
        if std::env::var_os("BRAMBLE_WRITE_PAGES").is_some() {
            fs::create_dir_all(kept.parent().unwrap()).unwrap();
            fs::copy(&made, &kept).unwrap();
        }
        assert!(
            read(&made) == read(&kept),
            "{} is out of date: run this test with BRAMBLE_WRITE_PAGES=1",
            kept.display()
        );
    }
}
