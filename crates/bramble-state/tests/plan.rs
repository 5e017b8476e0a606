//! From an observation to a plan, and what its script does to real files.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use bramble_shell::Commands;
use bramble_state::{
    Cleanup, Detail, File, Observation, ObservationError, Record, Resource, Step, Unit, observe_script, parse_record,
    plan,
};
use sha2::{Digest, Sha256};

const PI: &str = "\
bramble 1
fact hostname kube1
fact boot-id b1
fact cgroup 2
fact controllers cpu memory
fact model Raspberry Pi 4 Model B Rev 1.4
fact cmdline coherent_pool=1M cgroup_disable=memory root=PARTUUID=1-02 rootwait
fact os debian 12 bookworm
fact arch arm64
fact time 1000000
fact cmdline-file /boot/firmware/cmdline.txt
fact config-file /boot/firmware/config.txt
text /boot/firmware/cmdline.txt
=root=PARTUUID=1-02 rootwait
.
text /boot/firmware/config.txt
=arm_boost=1
=[cm4]
=otg_mode=1
.
";

fn seen(more: &str, resources: &[Resource]) -> Observation {
    Observation::parse(&format!("{PI}{more}end\n"), resources).unwrap()
}

fn titles(resources: &[Resource], more: &str) -> Vec<String> {
    plan(resources, &seen(more, resources)).changes.into_iter().map(|change| change.title).collect()
}

#[test]
fn an_answer_that_was_cut_off_is_no_observation() {
    assert_eq!(Observation::parse(PI, &[]), Err(ObservationError::CutOff { lines: PI.lines().count() }));
    assert_eq!(Observation::parse("busy\n", &[]), Err(ObservationError::Busy));
    assert!(matches!(Observation::parse("what\nend\n", &[]), Err(ObservationError::Line(_))));
}

#[test]
fn the_memory_cgroup_of_a_pi_is_a_token_and_a_reboot() {
    let resources = [Resource::KernelArgs(vec!["quiet".into()]), Resource::MemoryCgroup];
    let plan = plan(&resources, &seen("", &resources));
    assert_eq!(plan.reboot.as_deref(), Some("the running kernel lacks quiet cgroup_enable=memory"));
    let [change] = plan.changes.as_slice() else { panic!("{plan:?}") };
    let Detail::Text { to, .. } = &change.details[0] else { panic!("{change:?}") };
    assert_eq!(to, "root=PARTUUID=1-02 rootwait quiet cgroup_enable=memory\n");
}

/// The Raspberry Pi Imager's user-data has `hostname:` and `manage_etc_hosts: true`.
#[test]
fn cloud_init_is_told_to_keep_the_name_and_gets_the_hosts_where_it_is() {
    let resources = [Resource::Hostname("kube1".into()), Resource::Hosts("10.0.0.1 kube1\n".into())];
    let plain = "text /etc/hosts\n=127.0.0.1 localhost\n.\n";
    assert_eq!(titles(&resources, plain), ["write /etc/hostname", "change /etc/hosts"]);
    let more = format!(
        "{plain}stat 755 root:root 4096 1 directory|/etc/cloud/cloud.cfg.d\n\
         text /etc/cloud/templates/hosts.debian.tmpl\n=## template:jinja\n=127.0.1.1 {{{{hostname}}}}\n.\n"
    );
    let found = plan(&resources, &seen(&more, &resources)).changes;
    assert_eq!(
        found.iter().map(|change| change.title.as_str()).collect::<Vec<_>>(),
        [
            "write /etc/hostname",
            "write /etc/cloud/cloud.cfg.d/99-bramble.cfg",
            "change /etc/hosts",
            "change /etc/cloud/templates/hosts.debian.tmpl"
        ]
    );
    let Detail::Text { to, .. } = &found[3].details[0] else { panic!("{found:?}") };
    assert_eq!(to, "## template:jinja\n127.0.1.1 {{hostname}}\n# BEGIN bramble\n10.0.0.1 kube1\n# END bramble\n");
}

#[test]
fn a_board_without_cmdline_is_told_what_to_do() {
    let resources = [Resource::KernelArgs(vec!["quiet".into()])];
    let seen = Observation::parse("bramble 1\nfact cmdline root=/dev/sda1\nend\n", &resources).unwrap();
    let plan = plan(&resources, &seen);
    assert!(plan.changes.is_empty());
    assert!(plan.problems[0].to_string().contains("set it in its boot loader"), "{plan:?}");
}

#[test]
fn a_reboot_that_was_announced_and_did_not_happen_is_still_due() {
    let due = |boot: &str| plan(&[], &seen(&format!("pending reboot {boot}\n"), &[])).reboot;
    assert!(due("b1").is_some());
    assert_eq!(due("an-earlier-boot"), None);
}

#[test]
fn a_changed_file_restarts_only_its_reader() {
    let reader = |name: &str, path: &str| Resource::Unit(Unit::new(name, vec![path.into()]));
    let resources = [Resource::File(File::new("/etc/a", "new\n")), reader("a", "/etc/a"), reader("b", "/etc/b")];
    let running = "LoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no\n";
    let units = format!("units\n{running}\n{running}.\n");
    assert_eq!(titles(&resources, &units), ["write /etc/a", "restart a.service"]);
    // The restart that a crash prevented is made up for.
    let done = "stat 644 root:root 1 4 regular file|/etc/a\nsha 7aa7a5359173d05b63cfd682e3c38487f3cb4f7f1d60659fe59fab1505977d4c /etc/a\n";
    assert_eq!(titles(&resources, &format!("{done}{units}")), [] as [&str; 0]);
    assert_eq!(titles(&resources, &format!("{done}pending restart.a.service \n{units}")), ["restart a.service"]);
}

#[test]
fn swap_is_turned_off_in_all_its_forms() {
    let off = "units\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\nNeedDaemonReload=no\n.\n";
    let on = "units\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\nNeedDaemonReload=no\n.\n";
    let swap = [Resource::SwapOff];
    assert_eq!(titles(&swap, off), [] as [&str; 0]);
    assert_eq!(titles(&swap, on), ["turn dphys-swapfile off"]);
    let fstab = "text /etc/fstab\n=/swapfile none swap sw 0 0\n.\n";
    assert_eq!(titles(&swap, &format!("fact swap /swapfile\n{fstab}{off}")), ["change /etc/fstab", "turn swap off"]);
    assert_eq!(
        titles(&swap, &format!("fact rpi-swap yes\nfact swap /dev/zram0\n{off}")),
        ["write /etc/rpi/swap.conf.d/90-bramble.conf", "turn swap off"]
    );
}

#[test]
fn package_lists_are_fetched_only_for_a_package() {
    let resources = [Resource::AptLists { max_age: 3600, sources: Vec::new() }, Resource::Packages(vec!["vim".into()])];
    assert_eq!(titles(&resources, "package vim ii |9.0\n"), [] as [&str; 0]);
    assert_eq!(titles(&resources, "package vim rc |9.0\n"), ["fetch the package lists", "install packages"]);
}

#[test]
fn config_txt_is_edited_under_all() {
    let settings = BTreeMap::from([("gpu_mem".to_owned(), vec!["16".to_owned()])]);
    let resources = [Resource::BootConfig(settings)];
    let plan = plan(&resources, &seen("", &resources));
    let Detail::Text { to, .. } = &plan.changes[0].details[0] else { panic!() };
    assert!(to.ends_with("[cm4]\notg_mode=1\n# BEGIN bramble\n[all]\ngpu_mem=16\n# END bramble\n"), "{to}");
    assert!(plan.reboot.is_some());
}

#[test]
fn a_secret_is_not_shown() {
    let file = File { secret: true, mode: "600".into(), ..File::new("/etc/key", "s3cret") };
    let resources = [Resource::File(file)];
    let plan = plan(&resources, &seen("", &resources));
    assert_eq!(plan.changes[0].details, [Detail::Hidden]);
    assert!(!format!("{:?} {:?}", plan.changes[0].title, plan.changes[0].details).contains("s3cret"));
    assert!(!observe_script(&resources).text().contains("s3cret"));
}

#[test]
fn records_are_told_from_what_programs_print() {
    assert_eq!(parse_record("@start 3"), Record::Start(3));
    assert_eq!(parse_record("@fail 3 17"), Record::Failed(3, 17));
    assert_eq!(parse_record("@fact ca-hash sha256:ab cd"), Record::Fact("ca-hash", "sha256:ab cd"));
    for line in ["@start", "@start x", "@someone wrote this", "plain", "@"] {
        assert_eq!(parse_record(line), Record::Line(line));
    }
}

#[test]
fn the_default_locale_is_written_where_the_system_keeps_it() {
    let resources = [Resource::Locale("C.UTF-8".into())];
    assert_eq!(titles(&resources, ""), ["write /etc/default/locale"]);
    let link = "stat 777 root:root 1 14 symbolic link|/etc/default/locale\n";
    assert_eq!(
        titles(&resources, link),
        ["write /etc/locale.conf"],
        "systemd of Debian 13 makes the link at each boot"
    );
}

#[test]
fn every_script_is_one_that_a_posix_shell_accepts() {
    let resources = [
        Resource::Hostname("kube1".into()),
        Resource::Hosts("10.0.0.1 kube1\n".into()),
        Resource::Timezone("Europe/Berlin".into()),
        Resource::Locale("de_DE.UTF-8".into()),
        Resource::Modules(vec!["overlay".into()]),
        Resource::Sysctls([("vm.swappiness".to_owned(), "10".to_owned())].into()),
        Resource::SwapOff,
        Resource::Autoremove,
        Resource::Packages(vec!["vim".into()]),
        Resource::File(File::new("/etc/it's", "text")),
    ];
    let units = "units\nLoadState=not-found\nActiveState=inactive\nUnitFileState=\nNeedDaemonReload=no\n.\n";
    let scripts =
        [observe_script(&resources), plan(&resources, &seen(units, &resources)).script(), bramble_state::undo_script()];
    for script in scripts {
        let mut shell =
            std::process::Command::new("dash").arg("-n").stdin(std::process::Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut shell.stdin.take().unwrap(), script.text().as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success(), "{}", script.text());
    }
}

#[test]
fn a_real_shell_reads_kernel_settings_whole() {
    // pid_max is a number of several digits on every Linux, and the kernel hands it out in one piece only.
    let resources = [Resource::Sysctls([("kernel.pid_max".to_owned(), "1".to_owned())].into())];
    let look = observe_script(&resources);
    let script = look.text();
    let part = &script[script.find("echo sysctls").unwrap()..];
    let output =
        std::process::Command::new("dash").args(["-c", &part[..part.find("\nstat").unwrap()]]).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let plan = plan(&resources, &seen(&lines, &resources));
    let pid_max = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap().trim().to_owned();
    let change = plan.changes.iter().find(|change| change.title == "set kernel.pid_max").unwrap();
    assert_eq!(change.details, [Detail::Value { from: Some(pid_max), to: "1".into() }]);
}

#[test]
fn what_bramble_brought_and_nobody_wants_any_more_goes_and_nothing_else() {
    let hash = |kind: &str, name: &str| {
        bramble_spec::hex(&Sha256::digest(format!("{kind}:{name}").as_bytes()))[..16].to_owned()
    };
    let gone = Resource::Cleanup(Cleanup {
        what: "the watch".into(),
        units: vec!["watch.service".into(), "kept.service".into(), "theirs.service".into()],
        files: vec!["/etc/watch/".into(), "/etc/other".into()],
        folders: vec!["/var/lib/watch".into(), "/var/lib/kept".into(), "/var/lib/theirs".into()],
        packages: vec!["watch".into(), "shared".into(), "theirs".into()],
        steps: vec!["watched", "kept"],
    });
    let step = |id| Step { id, title: id.into(), version: "1".into(), apply: Commands::new(), undo: None };
    let wanted = [
        gone,
        Resource::File(File::new("/etc/watch/kept", "")),
        Resource::Unit(Unit::new("kept", vec![])),
        Resource::OwnedFolder("/var/lib/kept".into()),
        Resource::Packages(vec!["shared".into()]),
        Resource::Step(step("kept")),
    ];
    let mut ledger = String::new();
    for (kind, name) in [
        ("file", "/etc/watch/a"),
        ("file", "/etc/watch/kept"),
        ("file", "/etc/watcher"),
        ("unit", "watch.service"),
        ("unit", "kept.service"),
        ("folder", "/var/lib/watch"),
        ("folder", "/var/lib/kept"),
    ] {
        ledger.push_str(&format!("kept {} {name}\n", hash(kind, name)));
    }
    // An edit of a file that is not ours has its path in the ledger, too.
    ledger.push_str(&format!("kept {} /etc/other\n", hash("edit", "/etc/other")));
    ledger.push_str("ours watch\nours shared\n");
    for name in ["watch", "shared", "theirs"] {
        ledger.push_str(&format!("package {name} ii |1\n"));
    }
    let found = plan(&wanted, &seen(&ledger, &wanted)).changes;
    assert_eq!(found[0].title, "remove the watch");
    let list = "watch.service /etc/watch/a /var/lib/watch watch".to_owned();
    assert_eq!(found[0].details, [Detail::Value { from: Some(list), to: String::new() }]);
    let script = found[0].script.as_str();
    for (kind, name, goes) in [
        ("unit", "watch.service", true),
        ("unit", "kept.service", false),
        ("step", "watched", true),
        ("step", "kept", false),
        ("folder", "/var/lib/watch", true),
        ("folder", "/var/lib/kept", false),
    ] {
        assert_eq!(script.contains(&hash(kind, name)), goes, "{name}: {script}");
    }
    // Where nothing of it is there, nothing is said.
    assert!(!titles(&wanted, "").contains(&"remove the watch".to_owned()));
}

#[test]
fn the_text_of_a_file_that_not_everybody_may_read_is_not_shown() {
    let shown = |mode: &str, there: Option<&str>| {
        let file = Resource::File(File { mode: mode.into(), ..File::new("/etc/app.conf", "key = hunter2\n") });
        let stat =
            there.map_or(String::new(), |mode| format!("stat {mode} root:root 1 2 regular file|/etc/app.conf\n"));
        let seen = Observation::parse(&format!("bramble 1\n{stat}end\n"), std::slice::from_ref(&file)).unwrap();
        let plan = bramble_state::plan(&[file], &seen);
        format!("{:?}", plan.changes[0].details).contains("hunter2")
    };
    for (mode, there, expected) in [
        ("644", None, true),
        ("644", Some("644"), true),
        ("755", None, true),
        ("600", None, false),
        ("640", None, false),
        ("400", Some("644"), false),
        // What is there may be the secret.
        ("644", Some("600"), false),
        ("4711", None, false),
    ] {
        assert_eq!(shown(mode, there), expected, "{mode} {there:?}");
    }
}
