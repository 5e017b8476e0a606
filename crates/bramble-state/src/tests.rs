//! Every kind of resource: its scripts, word for word, and its answers, good and bad.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use bramble_shell::Commands;
use proptest::prelude::*;

use crate::observe::satisfied;
use crate::{
    Blob, BlobSource, Certificates, Check, Cleanup, Disk, File, Kind, Observation, ObservationError, Plan, Planner,
    Probe, Resource, Step, Unit, observe_script, plan,
};

fn every_kind() -> Vec<Resource> {
    let strings = |list: &[&str]| list.iter().map(|text| text.to_string()).collect::<Vec<_>>();
    let map = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    let commands = |text: &'static str| {
        let mut commands = Commands::new();
        commands.fixed(text);
        commands
    };
    let blob = |path: &str, source| {
        Resource::Blob(Blob { path: path.into(), sha256: "ab".repeat(32).parse().unwrap(), mode: "755".into(), source })
    };
    vec![
        Resource::Cleanup(Cleanup {
            what: "the watch".into(),
            units: strings(&["watch.service"]),
            files: strings(&["/etc/watch/"]),
            folders: strings(&["/var/lib/watch"]),
            packages: strings(&["watch"]),
            steps: vec!["watched"],
        }),
        Resource::Hostname("kube1".into()),
        Resource::Hosts("10.0.0.1 kube1\n".into()),
        Resource::Timezone("Europe/Berlin".into()),
        Resource::Locale("de_DE.UTF-8".into()),
        Resource::OwnedFolder("/var/lib/etcd".into()),
        Resource::AptLists { max_age: 3600, sources: strings(&["/etc/apt/sources.list.d/k.list"]) },
        Resource::Packages(strings(&["vim", "kubeadm=1.36.2-*"])),
        Resource::Hold(strings(&["kubeadm"])),
        Resource::Autoremove,
        Resource::BootConfig([("gpu_mem".to_owned(), vec!["16".to_owned()])].into()),
        Resource::KernelArgs(strings(&["quiet"])),
        Resource::MemoryCgroup,
        Resource::SwapOff,
        Resource::Modules(strings(&["overlay", "br_netfilter"])),
        Resource::Sysctls(map("net.ipv4.ip_forward", "1")),
        Resource::File(File::new("/etc/a b", "new\n")),
        Resource::File(File {
            mode: "600".into(),
            secret: true,
            check: Some(Check::Sshd),
            ..File::new("/etc/key", "key\n")
        }),
        blob("/usr/bin/one", BlobSource::Upload("one".into())),
        blob("/usr/bin/two", BlobSource::Url("https://example.org/two".into())),
        Resource::Unit(Unit::new("one", vec!["/etc/a b".into(), "/usr/bin/one".into()])),
        Resource::Certificates(Certificates { files: &["/etc/pki/*.crt"], before: 86400, renew: commands("renew") }),
        Resource::Disk(Disk { device: "/dev/sda".into(), label: "data".into(), wipe: false }),
        Resource::Step(Step {
            id: "begin",
            title: "begin it".into(),
            version: "2".into(),
            apply: commands("begin"),
            undo: Some(commands("end")),
        }),
    ]
}

/// A Raspberry Pi on which nothing is as it should be.
const PI: &str = "\
bramble 1
fact hostname raspberrypi
fact boot-id b1
fact cgroup 2
fact controllers cpu
fact model Raspberry Pi 4 Model B Rev 1.4
fact cmdline root=PARTUUID=1-02 rootwait
fact os debian 13 trixie
fact arch arm64
fact time 1000000
fact rpi-swap yes
fact swap /dev/zram0
fact cmdline-file /boot/firmware/cmdline.txt
fact config-file /boot/firmware/config.txt
done begin 1
kept e87d1ffcf03302a3 watch.service
text /boot/firmware/cmdline.txt
=root=PARTUUID=1-02 rootwait
.
text /boot/firmware/config.txt
=arm_boost=1
.
text /etc/fstab
=/swapfile none swap sw 0 0
.
text /etc/hosts
=127.0.0.1 localhost
.
text /etc/locale.gen
=# de_DE.UTF-8 UTF-8
.
sysctls
/proc/sys/net/ipv4/ip_forward:0
.
module overlay
stat 600 root:root 1 4 regular file|/etc/a b
sha 7aa7a5359173d05b63cfd682e3c38487f3cb4f7f1d60659fe59fab1505977d4c /etc/a b
stat 600 root:root 1 4 regular file|/etc/key
sha 7aa7a5359173d05b63cfd682e3c38487f3cb4f7f1d60659fe59fab1505977d4c /etc/key
blob 7aa7a5359173d05b63cfd682e3c38487f3cb4f7f1d60659fe59fab1505977d4c /usr/bin/one
package watch ii |1
package kubeadm ii |1.35.1-1.1
ours watch
units
LoadState=loaded
ActiveState=active
SubState=running
UnitFileState=enabled
NeedDaemonReload=no

LoadState=loaded
ActiveState=inactive
SubState=dead
UnitFileState=disabled
NeedDaemonReload=yes
.
certificate 1000100 /etc/pki/a.crt
disk /dev/sda blank
disk-is /dev/sda device 8:0, 125000000 sectors, diskseq 9, serial 0815
removable libold
end
";

#[test]
fn what_is_asked_of_a_node() {
    // Without what every look at a node begins with.
    let (script, bare) = (observe_script(&every_kind()), observe_script(&[]));
    let begin = bare.text().strip_suffix("echo end\n}\n").unwrap();
    let asked = script.text().strip_prefix(begin).unwrap();
    insta::assert_snapshot!(asked.strip_suffix("}\n").unwrap());
}

#[test]
fn a_strict_shell_asks_every_question_to_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let write = |path: &str, text: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("bin/systemctl", "#!/bin/sh\nprintf 'LoadState=not-found\\n\\nLoadState=loaded\\n'\n");
    write("bin/ip", "#!/bin/sh\necho '2: eth0    inet 10.0.0.1/24 brd 10.0.0.255 scope global eth0'\n");
    write("bin/openssl", "#!/bin/sh\necho 'notAfter=Jan  1 00:00:00 2100 GMT'\n");
    write("bin/apt-get", "#!/bin/sh\necho 'Remv libold [1]'\nexit 100\n");
    write("bin/locale", "#!/bin/sh\necho C\n");
    write("pki/a.crt", "");
    write("etc/a b", "old\n");
    write("usr/one", "one\n");
    let ledger = format!("state/ledger/1.{}", crate::entry_hash("packages", ""));
    write(&format!("{ledger}/ours"), "watch\nvim\n");
    let script = observe_script(&every_kind());
    let here = |path: &str| root.join(path).display().to_string();
    let mut text = script.text().replace("PATH=/usr", &format!("PATH={}:/usr", here("bin")));
    for (there, path) in [
        ("/run/bramble", "run"),
        ("/var/lib/bramble", "state"),
        ("/etc/pki/", "pki/"),
        ("/etc/a b", "etc/a b"),
        ("/usr/bin/one", "usr/one"),
    ] {
        text = text.replace(there, &here(path));
    }
    // The second look finds the notes of the first.
    for _ in 0..2 {
        let mut shell = Command::new("dash").arg("-s").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = shell.wait_with_output().unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{answer}");
        Observation::parse(&answer, &every_kind()).unwrap();
        let one = here("usr/one");
        for line in
            ["ours watch", "removable libold", "locale C", "disk /dev/sda missing", "fact address 10.0.0.1 eth0"]
        {
            assert!(answer.lines().any(|answered| answered == line), "{line}: {answer}");
        }
        assert!(answer.contains("\ncertificate 4102444800 "), "{answer}");
        assert!(answer.contains(&format!("content {} b2xkCg==", here("etc/a b"))), "{answer}");
        assert!(
            answer.contains(&format!("blob 2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806 {one}")),
            "{answer}"
        );
    }
}

#[test]
fn what_changes_a_node() {
    let resources = every_kind();
    let plan = plan(&resources, &Observation::parse(PI, &resources).unwrap());
    let mut text = format!("reboot {:?}, problems {:?}\n", plan.reboot, plan.problems);
    for change in &plan.changes {
        text.push_str(&format!("--- {}\n{:?}\n", change.title, change.details));
        for upload in &change.uploads {
            text.push_str(&format!("{upload:?}\n"));
        }
        text.push_str(change.script.as_str());
    }
    insta::assert_snapshot!(text);
}

/// What every node says of itself here.
const FACTS: &str = "\
fact model Raspberry Pi 4 Model B Rev 1.4
fact boot-id b1
fact os debian 13 trixie
fact time 1000000
fact rpi-swap yes
fact swap /dev/zram0
fact cmdline-file /boot/firmware/cmdline.txt
fact config-file /boot/firmware/config.txt
";

fn planned(resources: &[Resource], answer: &str) -> Plan {
    plan(resources, &Observation::parse(answer, resources).unwrap())
}

#[test]
fn nothing_is_planned_for_a_node_that_has_it_all() {
    for resource in every_kind() {
        let alone = [resource];
        let plan = planned(&alone, &satisfied(&alone, FACTS));
        assert!(plan.is_empty(), "{alone:?}: {plan:?}");
    }
    let together = every_kind();
    let answer = satisfied(&together, FACTS);
    let plan = planned(&together, &answer);
    assert!(plan.is_empty(), "{plan:?}\n{answer}");
    let seen = Observation::parse(&answer, &together).unwrap();
    assert!(seen.suffices(&together, &together));
}

#[test]
fn something_is_planned_for_a_node_that_has_nothing() {
    // What is only taken away, what is only there for others, and what lasts long enough.
    let idle = |resource: &Resource| {
        use Resource::{AptLists, Autoremove, Certificates, Cleanup};
        matches!(resource, AptLists { .. } | Autoremove | Certificates(_) | Cleanup(_))
    };
    for resource in every_kind() {
        let alone = [resource];
        let plan = planned(&alone, &format!("bramble 1\n{FACTS}end\n"));
        assert_eq!(plan.is_empty(), idle(&alone[0]), "{alone:?}: {plan:?}");
    }
}

/// A kind as another crate may bring it.
#[derive(Debug, PartialEq)]
struct Motd(&'static str);

static MOTD: crate::Question = crate::Question {
    name: "motd",
    write: |_, script| {
        script.fixed("echo \"motd $(cat /etc/motd)\"");
    },
    records: &[("motd", |text, _, seen| {
        seen.note("motd", "", text);
        Some(())
    })],
};

impl Kind for Motd {
    fn ask(&self, probe: &mut Probe) {
        probe.ask(&MOTD);
    }

    fn plan(&self, planner: &mut Planner<'_>) {
        if planner.seen().noted("motd", "") != Some(self.0) {
            planner.problem("another message of the day", "write it again");
        }
    }
}

#[test]
fn another_crate_can_bring_a_kind() {
    let resources = [Resource::other(Motd("hello"))];
    assert!(observe_script(&resources).text().ends_with("\necho \"motd $(cat /etc/motd)\"\necho end\n}\n"));
    assert!(planned(&resources, "motd hello\nend\n").is_empty());
    assert_eq!(planned(&resources, "motd bye\nend\n").problems.len(), 1);
    assert_eq!(Observation::parse("motd hello\nend\n", &[]), Err(ObservationError::Line("motd hello".into())));
    assert_eq!(resources, [Resource::other(Motd("hello"))]);
    assert_ne!(resources, [Resource::other(Motd("bye"))]);
    assert_eq!(resources[0].as_other(), Some(&Motd("hello")));
}

/// Does with an answer all that is done with one.
fn use_answer(answer: &str) {
    let resources = every_kind();
    if let Ok(seen) = Observation::parse(answer, &resources) {
        plan(&resources, &seen);
        seen.first_certificate();
        seen.suffices(&resources, &resources);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_answer_makes_a_panic(answer in any::<String>()) {
        use_answer(&format!("{answer}\nend\n"));
    }

    #[test]
    fn no_record_makes_a_panic(
        records in proptest::collection::vec(
            (
                "(fact|fact (time|memory|os|disk-free|cgroup|address|mac)|text|stat|sha|content|sysctls|module|blob|package|ours|units|certificate|disk|locale|removable|kept|done|pending|=|~|\\.)",
                "[ -9:=|]{0,6}[^\n]{0,12}( (-?[0-9]{1,22}|/usr/bin/one|/etc/a b|\\PC{0,4}))?",
            ),
            0..12,
        )
    ) {
        let records: String = records.iter().map(|(tag, rest)| format!("{tag} {rest}\n")).collect();
        use_answer(&format!("{records}end\n"));
    }

    #[test]
    fn no_damage_to_a_real_answer_makes_a_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), 0..9_usize, "[^\n]|-?[0-9]{1,20}|\n"), 1..4)
    ) {
        for answer in [PI.to_owned(), satisfied(&every_kind(), FACTS)] {
            let mut letters: Vec<char> = answer.strip_suffix("end\n").unwrap().chars().collect();
            for (at, length, with) in &damage {
                let at = at.index(letters.len());
                let end = (at + length).min(letters.len());
                letters.splice(at..end, with.chars());
            }
            let answer: String = letters.into_iter().collect();
            use_answer(&answer);
            use_answer(&format!("{answer}\nend\n"));
        }
    }
}
