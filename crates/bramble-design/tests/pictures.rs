//! Pictures at every size: no text lies on another, none leaves its picture.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use bramble_design::{Bill, Design, Theme, network_picture, page, rack_picture, wiring_picture};
use bramble_spec::Cluster;

/// So many boards of three kinds, on chargers of four and switches of seven, some with long names.
fn cluster(count: usize) -> Cluster {
    let mut text = String::from(
        "cluster: big\nnetwork: { subnet: 10.0.0.0/16, pods: 10.64.0.0/10, services: 10.128.0.0/16, api: 10.0.0.2, \
         dhcp: 10.0.8.1-10.0.8.99, pool: 10.0.9.1-10.0.9.99 }\n\
         distribution: { k3s: { version: stable } }\nhardware:\n  others: [noctua-nf-f12-5v]\n  devices:\n    router: { part: hex-poe }\n",
    );
    for number in 0..count.div_ceil(7) {
        text.push_str(&format!("    switch{number}: {{ part: gs308epp, uplink: router }}\n"));
    }
    for number in 0..count.div_ceil(4) {
        text.push_str(&format!("    a-charger-with-a-long-name-{number}: {{ part: anker-powerport-6 }}\n"));
    }
    text.push_str("  each: { disks: [rpi-sd-64gb, crucial-bx500-240gb], hat: rpi-poe-hat }\nnodes:\n");
    for number in 0..count {
        let name =
            if number % 5 == 4 { format!("a-node-with-a-very-long-name-{number}") } else { format!("kube{number}") };
        let (role, board) = match number {
            0..=2 => ("control-plane", "rpi-4b-8gb"),
            _ => ("worker", ["rpi-4b-8gb", "rpi-5-16gb", "rpi-3b-plus"][number % 3]),
        };
        let address = 50 + number;
        text.push_str(&format!(
            "  - {{ name: {name}, role: {role}, board: {board}, address: 10.0.{}.{}, hardware: {{ power: a-charger-with-a-long-name-{}, switch: switch{} }} }}\n",
            address / 256, address % 256, number / 4, number * 3 % count.div_ceil(7),
        ));
    }
    let loaded = bramble_spec::load(Path::new("bramble.yaml"), &text);
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    loaded.clusters.into_iter().next().unwrap()
}

/// The boxes of all texts, by a width for each letter that no common font exceeds on average.
fn texts(svg: &str) -> Vec<(i64, i64, i64, i64, String)> {
    let attribute = |tag: &str, name: &str| -> Option<String> {
        Some(tag.split_once(&format!(" {name}=\""))?.1.split_once('"')?.0.to_owned())
    };
    let mut found = Vec::new();
    for piece in svg.split("<text ").skip(1) {
        let (tag, rest) = piece.split_once('>').unwrap();
        let tag = format!(" {tag}");
        let shown = rest.split_once("</text>").unwrap().0;
        let shown = shown.rsplit_once("</title>").map_or(shown, |(_, shown)| shown);
        let number = |name: &str| attribute(&tag, name).unwrap().parse::<i64>().unwrap();
        let (x, y, size) = (number("x"), number("y"), number("font-size"));
        let wide = shown.chars().count() as i64 * size * 56 / 100;
        let left = match attribute(&tag, "text-anchor").as_deref() {
            Some("end") => x - wide,
            Some("middle") => x - wide / 2,
            _ => x,
        };
        found.push((left, left + wide, y - size * 8 / 10, y + size / 10, shown.to_owned()));
    }
    found
}

fn width(svg: &str) -> i64 {
    svg.split_once(" width=\"").unwrap().1.split_once('"').unwrap().0.parse().unwrap()
}

#[test]
fn no_text_lies_on_another_at_any_size() {
    for count in [1, 4, 12, 40, 200] {
        let cluster = cluster(count);
        let design = Design::of(&cluster);
        let theme = Some(Theme::Light);
        for (name, svg) in [
            ("rack", rack_picture(&cluster, &design, 1060, theme)),
            ("rack on a phone", rack_picture(&cluster, &design, 360, theme)),
            ("wiring", wiring_picture(&cluster, &design, theme)),
            ("network", network_picture(&cluster, &design, 1060, theme)),
            ("network on a phone", network_picture(&cluster, &design, 360, theme)),
        ] {
            let (all, right) = (texts(&svg), width(&svg));
            assert!(all.len() >= count, "{name} of {count}");
            for node in &cluster.nodes {
                assert!(svg.contains(&format!(">{}</t", node.name)), "{name} of {count} has no {}", node.name);
            }
            for (place, a) in all.iter().enumerate() {
                assert!(a.0 >= 0 && a.1 <= right, "{name} of {count}: `{}` leaves the picture", a.4);
                for b in &all[place + 1..] {
                    let apart = a.1 <= b.0 || b.1 <= a.0 || a.3 <= b.2 || b.3 <= a.2;
                    assert!(apart, "{name} of {count}: `{}` lies on `{}`", a.4, b.4);
                }
            }
        }
    }
}

#[test]
fn a_page_needs_nothing_from_elsewhere_and_says_everything_once() {
    let cluster = cluster(12);
    let design = Design::of(&cluster);
    let html = page(&cluster, &design, &Bill::of(&cluster));
    for forbidden in ["<script", "<link", "<img", "src=", "@import", "url("] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    for part in [
        "Findings",
        "The rack",
        "The wiring",
        "The network",
        "Parts",
        "Left for workloads",
        "prefers-color-scheme:dark",
    ] {
        assert!(html.contains(part), "{part}");
    }
    // Every picture is well-formed: as many tags are closed as are opened.
    assert_eq!(html.matches("<svg ").count(), html.matches("</svg>").count());
    assert_eq!(html.matches("<text ").count(), html.matches("</text>").count());
}

#[test]
fn what_a_user_wrote_is_text_in_a_page() {
    let text = "cluster: shelf\nnetwork: { subnet: 10.0.0.0/24 }\ndistribution: none\nhardware: { catalogue: [mine], others: [mine] }\n\
                nodes:\n  - { name: kube1, role: worker, board: generic-arm64, address: 10.0.0.1 }\n";
    let read = |_: &str| Ok("others: [{ id: mine, name: '<script>alert(1)</script>&\"' }]".to_owned());
    let loaded = bramble_spec::load_with(Path::new("bramble.yaml"), text, &[], &read);
    let cluster = &loaded.clusters[0];
    let html = page(cluster, &Design::of(cluster), &Bill::of(cluster));
    assert!(!html.contains("<script>") && html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&amp;"), "{html}");
}
