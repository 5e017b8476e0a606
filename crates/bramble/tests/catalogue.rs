//! Images that publishers list: found in a catalogue or at an address, pinned and fetched once.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::fs;

use common::bench::Bench;
use common::disk::{CMDLINE, tool};
use common::{assert_code, read, serve, text};
use serde_json::{Value, json};

/// The image as it is published, with its digests.
fn published(bench: &Bench) -> (Vec<u8>, String, String) {
    bench.image("bootfs", &[("cmdline.txt", CMDLINE), ("user-data", ""), ("meta-data", ""), ("kernel8.img", "")]);
    tool("sh", &["-c", &format!("xz -0 -T2 --block-size=8MiB -k {}", bench.name("image"))]);
    let digest = |name: &str| text(&tool("sha256sum", &[&bench.name(name)]))[..64].to_owned();
    (fs::read(bench.path("image.xz")).unwrap(), digest("image.xz"), digest("image"))
}

fn with_source(bench: &Bench, source: &str) {
    let file = read(&bench.path("bramble.yaml"));
    let line = file.lines().find(|line| line.starts_with("image:")).unwrap().to_owned();
    fs::write(bench.path("bramble.yaml"), file.replace(&line, &format!("image: {{ {source} }}"))).unwrap();
}

#[test]
fn a_catalogue_is_shown_and_its_image_is_pinned_and_fetched_once() {
    let bench = Bench::new("");
    let (image, packed, unpacked) = published(&bench);
    let size = fs::metadata(bench.path("image")).unwrap().len();
    let (address, asked) = serve(|address| {
        let offer = |name: &str, released: &str, more: Value| {
            let mut offer = json!({
                "name": name, "description": "", "url": format!("{address}/{released}/os.img.xz"), "extract_size": size,
                "extract_sha256": unpacked, "image_download_size": image.len(), "release_date": released,
                "init_format": "cloudinit-rpi", "devices": ["pi5-64bit", "pi4-64bit"],
            });
            offer.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            offer
        };
        let list = json!({ "imager": {}, "os_list": [
            offer("Desk OS", "2026-01-01", json!({ "init_format": "none" })),
            { "name": "Others", "subitems": [
                offer("Shelf OS Lite (64-bit)", "2026-03-01", json!({ "image_download_sha256": packed })),
                { "name": "More", "subitems_url": format!("{address}/more.json") },
                { "name": "Gone", "subitems_url": format!("{address}/gone.json") },
            ] },
            { "name": "Erase", "url": "internal://format" },
        ] });
        let more = json!({ "os_list": [
            offer("Shelf OS Lite (64-bit)", "2025-11-01", json!({})),
            offer("Old OS", "2024-01-01", json!({ "devices": ["pi3-64bit", "pi4-64bit"] })),
            offer("Small OS", "2024-01-01", json!({ "devices": ["pi4-32bit", "pi3-32bit"] })),
        ] });
        BTreeMap::from([
            ("/list.json".to_owned(), list.to_string().into_bytes()),
            ("/more.json".to_owned(), more.to_string().into_bytes()),
            ("/2026-03-01/os.img.xz".to_owned(), image.clone()),
            // Nobody has published its digest as it is packed.
            ("/2024-01-01/os.img.xz".to_owned(), image.clone()),
        ])
    });
    let catalogue = format!("{address}/list.json");
    let list = |more: &[&str]| {
        let output = bench.run(&[&["image", "list", "--catalogue", &catalogue], more].concat());
        assert_code(&output, 0);
        String::from_utf8(output.stdout).unwrap()
    };
    let all = list(&[]);
    let names: Vec<&str> = all.lines().map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(names, ["NAME", "Shelf OS Lite (64-bit)", "Shelf OS Lite (64-bit)", "Old OS", "Small OS"], "{all}");
    assert!(all.contains("2026-03-01") && all.contains("0.1 GB"), "{all}");
    assert_eq!(list(&["--all", "os"]).lines().count(), 6);
    assert_eq!(list(&["--board", "rpi-3b-plus"]).lines().nth(1).unwrap().split("  ").next(), Some("Old OS"));
    let nothing = bench.run(&["image", "list", "--catalogue", &catalogue, "windows"]);
    assert_code(&nothing, 1);

    with_source(&bench, &format!("name: Shelf OS Lite (64-bit), catalogue: \"{catalogue}\""));
    for time in ["fetched", "kept"] {
        asked.lock().unwrap().clear();
        let output = bench.run(&["image", "fetch", "-o", "json"]);
        assert_code(&output, 0);
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(fs::read(told["file"].as_str().unwrap()).unwrap(), image, "{time}");
        assert_eq!(asked.lock().unwrap().is_empty(), time == "kept");
    }
    let lock: Value = serde_json::from_str(&read(&bench.path("bramble.lock"))).unwrap();
    let pin = &lock["images"][format!("{catalogue}#Shelf OS Lite (64-bit)")];
    assert_eq!(pin["url"], format!("{address}/2026-03-01/os.img.xz"), "the newest of that name");
    assert_eq!((&pin["sha256"], &pin["unpacked"]), (&json!(packed), &json!(unpacked)));
    assert_code(&bench.build("disk"), 0);
    // What is kept is looked at each time: disks forget.
    let kept = bench.path(&format!(".cache/bramble/images/{packed}"));
    fs::write(&kept, &image[1..]).unwrap();
    let output = bench.run(&["image", "fetch"]);
    assert!(text(&output).contains("is not what was published any more, and is fetched again"), "{}", text(&output));
    assert_eq!(fs::read(&kept).unwrap(), image);

    with_source(&bench, &format!("name: Small OS, catalogue: \"{catalogue}\""));
    let small = bench.run(&["image", "fetch"]);
    assert_code(&small, 1);
    assert!(text(&small).contains("is not made for the boards of kube1"), "{}", text(&small));
    with_source(&bench, &format!("name: Old OS, catalogue: \"{catalogue}\""));
    assert_code(&bench.run(&["image", "fetch"]), 0);
    with_source(&bench, &format!("name: No OS, catalogue: \"{catalogue}\""));
    let unknown = bench.run(&["image", "fetch"]);
    assert_code(&unknown, 1);
    assert!(text(&unknown).contains("has no image `No OS`"), "{}", text(&unknown));
}

#[test]
fn the_digest_that_stands_beside_an_image_is_taken_once_and_pinned() {
    let bench = Bench::new("");
    let (image, packed, _) = published(&bench);
    let long = text(&tool("sha512sum", &[&bench.name("image.xz")]))[..128].to_owned();
    let (address, _) = serve(|_| {
        BTreeMap::from([
            ("/debian/os.img.xz".to_owned(), image.clone()),
            ("/debian/os.img.xz.sha256".to_owned(), format!("{packed}\n").into_bytes()),
            ("/ubuntu/os.img.xz".to_owned(), image.clone()),
            ("/ubuntu/SHA256SUMS".to_owned(), format!("{} *other\n{packed} *os.img.xz\n", "0".repeat(64)).into_bytes()),
            ("/wrong/os.img.xz".to_owned(), image[1..].to_vec()),
            ("/wrong/SHA256SUMS".to_owned(), format!("{packed}  os.img.xz\n").into_bytes()),
            ("/silent/os.img.xz".to_owned(), image.clone()),
            ("/long/os.img.xz".to_owned(), image.clone()),
            ("/long/SHA512SUMS".to_owned(), format!("{long}  os.img.xz\n").into_bytes()),
        ])
    });
    for (place, why) in [
        ("debian", None),
        ("ubuntu", None),
        ("long", None),
        ("silent", Some("no digest is published for")),
        ("wrong", Some("was published for it: it is refused")),
    ] {
        fs::remove_dir_all(bench.path(".cache")).ok();
        with_source(&bench, &format!("url: \"{address}/{place}/os.img.xz\""));
        let output = bench.run(&["image", "fetch"]);
        assert_code(&output, i32::from(why.is_some()));
        assert!(text(&output).contains(why.unwrap_or("The image is here")), "{}", text(&output));
    }
    let lock: Value = serde_json::from_str(&read(&bench.path("bramble.lock"))).unwrap();
    assert_eq!(lock["images"][format!("{address}/debian/os.img.xz")]["sha256"], packed);
}
