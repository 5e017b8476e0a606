//! The scripts of every kind of resource, word for word.

#![allow(clippy::unwrap_used)]

use bramble_state::{
    Blob, BlobSource, Certificates, Check, Cleanup, Commands, Disk, File, Observation, Resource, Step, Unit,
    observe_script, plan,
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
            packages: strings(&["watch"]),
            steps: vec!["watched"],
        }),
        Resource::Hostname("kube1".into()),
        Resource::Hosts(vec![("10.0.0.1".into(), "kube1".into())]),
        Resource::Timezone("Europe/Berlin".into()),
        Resource::Locale("de_DE.UTF-8".into()),
        Resource::OwnedFolder("/var/lib/etcd".into()),
        Resource::AptLists { max_age: 3600, sources: strings(&["/etc/apt/sources.list.d/k.list"]) },
        Resource::Packages(strings(&["vim", "kubeadm=1.36.2-*"])),
        Resource::Hold(strings(&["kubeadm"])),
        Resource::Autoremove,
        Resource::BootConfig(map("gpu_mem", "16")),
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
removable libold
end
";

#[test]
fn what_is_asked_of_a_node() {
    // Without what every look at a node begins with.
    let (script, bare) = (observe_script(&every_kind()), observe_script(&[]));
    let begin = bare.strip_suffix("echo end\n").unwrap();
    insta::assert_snapshot!(script.strip_prefix(begin).unwrap());
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
