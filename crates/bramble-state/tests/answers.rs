//! Answers of nodes that are not as expected.

#![allow(clippy::unwrap_used)]

use bramble_state::{Blob, BlobSource, Detail, File, Observation, ObservationError, Resource, Unit, plan};

fn parse(records: &str, resources: &[Resource]) -> Result<Observation, ObservationError> {
    Observation::parse(&format!("bramble 1\n{records}end\n"), resources)
}

#[test]
fn a_digest_that_is_none_is_an_error_and_not_a_panic() {
    let sha256 = "ab".repeat(32).parse().unwrap();
    let source = BlobSource::Upload("one".into());
    let resources = [Resource::Blob(Blob { path: "/a".into(), sha256, mode: "755".into(), source })];
    let upper = "AB".repeat(32);
    for digest in ["01234567890é", "", "0123", upper.as_str()] {
        for tag in ["blob", "sha"] {
            let line = format!("{tag} {digest} /a");
            let seen = parse(&format!("{line}\n"), &resources);
            if let Ok(seen) = &seen {
                plan(&resources, seen);
            }
            assert_eq!(seen, Err(ObservationError::Line(line)));
        }
    }
}

#[test]
fn a_text_keeps_the_line_ends_of_windows() {
    // Whoever edits config.txt there; a text that loses them is another one than the node has, and is never replaced.
    let resources = [Resource::BootConfig([("gpu_mem".to_owned(), vec!["16".to_owned()])].into())];
    let records = "fact config-file /boot/config.txt\ntext /boot/config.txt\n=arm_boost=1\r\n.\n";
    let plan = plan(&resources, &parse(records, &resources).unwrap());
    let [Detail::Text { from, .. }] = plan.changes[0].details.as_slice() else { panic!("{plan:?}") };
    assert_eq!(from.as_deref(), Some("arm_boost=1\r\n"));
}

#[test]
fn a_line_inside_a_text_that_is_none_of_it_is_an_error() {
    assert_eq!(parse("text /etc/hosts\n=a\nb\n.\n", &[]), Err(ObservationError::Line("b".into())));
}

#[test]
fn units_of_which_nothing_is_said_swallow_nothing_else() {
    let resources = ["a", "b"].map(|name| Resource::Unit(Unit::new(name, Vec::new())));
    assert!(!parse("units\n.\n", &resources).unwrap().runs("a"));
}

#[test]
fn the_name_of_a_group_may_have_a_space() {
    let resources = [Resource::File(File::new("/a", ""))];
    let records = "stat 644 root:domain users 1 0 regular empty file|/a\n\
                   sha e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 /a\n";
    let plan = plan(&resources, &parse(records, &resources).unwrap());
    let from = Some("mode 644 root:domain users".to_owned());
    assert_eq!(plan.changes[0].details, [Detail::Value { from, to: "mode 644 root:root".into() }]);
}

#[test]
fn a_time_beyond_all_calendars_is_an_error() {
    // Else what is reckoned with it overflows.
    for line in [format!("certificate {} /a", i64::MIN), format!("fact time {}", i64::MAX)] {
        assert_eq!(parse(&format!("{line}\n"), &[]), Err(ObservationError::Line(line)));
    }
}

#[test]
fn a_boot_file_that_was_not_read_is_never_written() {
    let wanted = [
        Resource::BootConfig([("gpu_mem".to_owned(), vec!["16".to_owned()])].into()),
        Resource::KernelArgs(vec!["quiet".into()]),
        Resource::MemoryCgroup,
    ];
    let records = "fact controllers memory\nfact config-file /boot/config.txt\nfact cmdline-file /boot/cmdline.txt\n";
    let seen = parse(records, &wanted).unwrap();
    let plan = plan(&wanted, &seen);
    assert!(plan.changes.is_empty(), "{plan:?}");
    let problems = ["/boot/config.txt could not be read", "/boot/cmdline.txt could not be read"];
    assert!(plan.problems.iter().zip(problems).all(|(problem, says)| problem.message.starts_with(says)), "{plan:?}");
    // It is read by another look.
    assert!(wanted.chunks(1).all(|one| !seen.suffices(one, &[]) && seen.suffices(one, &wanted)));
}

#[test]
fn bytes_that_are_no_text_come_back_as_they_were() {
    // A comment in Latin-1, and what a power cut has left.
    let bytes = b"# K\xfcche\n127.0.0.1 localhost\n\0\0\0";
    let encode = |bytes: &[u8]| base64::Engine::encode(&base64::prelude::BASE64_STANDARD, bytes);
    let resources = [Resource::Hosts("10.0.0.1 kube1\n".into())];
    let records = format!("text /etc/hosts\n=whatever\n*{}\n.\n", encode(bytes));
    let plan = plan(&resources, &parse(&records, &resources).unwrap());
    let script = plan.changes[0].script.as_str();
    let block = b"\n# BEGIN bramble\n10.0.0.1 kube1\n# END bramble\n";
    assert!(script.contains(&encode(&[&bytes[..], block].concat())), "{script}");
    let [Detail::Text { from, .. }] = plan.changes[0].details.as_slice() else { panic!("{plan:?}") };
    assert!(from.as_ref().unwrap().starts_with("# K\\xFCche\n"), "{from:?}");
}
