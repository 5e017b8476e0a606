//! The look at a node: what a program does not answer is never taken for an empty answer.

use bramble_shell::testing::{Case, Run};
use bramble_shell::{Commands, STRICT};
use bramble_state::{Blob, BlobSource, Certificates, File, Resource, Unit, observe_script};

const PROBE: &str = include_str!("../../src/probe.sh");

/// A node that answers all that every look asks.
fn node(case: Case) -> Case {
    case.may_fail("flock -n 9", "then it waits")
        .says("dpkg --print*", "arm64")
        .says("ip -o*", "2: eth0 inet 10.0.0.1/24")
        .file("/proc/meminfo", "MemTotal: 1024 kB\n")
        .file("/proc/cgroups", "#subsys_name hierarchy num_cgroups enabled\nmemory 1 1 1\n")
        .file("/proc/swaps", "Filename Type\n")
        .file("/proc/mounts", "/dev/mmcblk0p2 / ext4 rw,noatime 0 0\n")
        .file("/etc/os-release", "ID=debian\nVERSION_ID=13\nVERSION_CODENAME=trixie\n")
        .file("/sys/class/net/eth0/address", "aa:bb\n")
        .file("/var/lib/bramble/done/version", "1.36.0\n")
}

/// The look that is planned with for these resources.
fn look(resources: &[Resource]) -> Case {
    // Its own beginning would set the PATH of a node.
    node(Case::new("", observe_script(resources).text().replacen(STRICT, "", 1)))
}

fn assert_answers(run: &Run, lines: &[&str]) {
    for line in lines {
        assert!(run.stdout.lines().any(|said| said == *line), "{line} is not in\n{}", run.stdout);
    }
}

/// The whole look must fail: one that goes to its end is believed.
fn assert_blind(case: Case, call: &str, action: &str) {
    let run = case.before_all(call, action).run(None);
    assert!(run.code != 0 && run.code != 124, "{call}: {}", run.stdout);
    assert!(!run.stdout.ends_with("end\n"), "{call}: {}", run.stdout);
}

#[test]
fn a_look_says_what_it_sees() {
    let run = node(Case::new("", PROBE)).check();
    let lines = ["fact arch arm64", "fact address 10.0.0.1 eth0", "fact memory 1024", "done version 1.36.0"];
    assert_answers(&run, &lines);
    assert_answers(&run, &["fact mac eth0 aa:bb", "fact os debian 13 trixie"]);
    for call in ["ip *", "stat -f *", "dpkg --print*"] {
        assert_blind(look(&[]), call, "false");
    }
    node(Case::new("", PROBE)).without("dpkg-query").refuses("its system has no dpkg");
    let busy = node(Case::new("", PROBE)).on("flock*", "false").run(None);
    assert!(busy.code == 75 && busy.stdout.ends_with("waiting\nbusy\n"), "{}", busy.stdout);
}

#[test]
fn units_and_packages_are_seen_or_the_look_fails() {
    let resources = [Resource::Unit(Unit::new("one", Vec::new())), Resource::Packages(vec!["vim".into()])];
    let case = || {
        look(&resources)
            .says("systemctl show*", "LoadState=loaded")
            .says("dpkg-query*", "package vim ii |1")
            .may_fail("dpkg-query*", "1 says that there is none")
    };
    assert_answers(&case().check(), &["LoadState=loaded", "package vim ii |1", "end"]);
    assert_blind(case(), "systemctl*", "false");
    assert_blind(case(), "systemctl*", "echo LoadState=loaded; exit 4");
    assert_blind(case(), "dpkg-query*", "echo 'dpkg-query: error: failed to open package info file' >&2; exit 2");
    assert_blind(case(), "dpkg-query*", "exit 127");
}

/// A user of the board can let it point to what only root can read, and plans are shown and logged.
#[test]
fn the_text_behind_a_link_is_not_shown() {
    let resources = [Resource::File(File::new("/var/pi/file", "new\n"))];
    let link = "/usr/bin/mkdir $R/var/pi; /usr/bin/ln -s $R/etc/shadow $R/var/pi/file\n";
    let run = look(&resources).file("/etc/shadow", "secret\n").after(link).run(None);
    assert!(run.code == 0 && !run.stdout.contains("content "), "{}{}", run.stdout, run.stderr);
}

/// It would be read for ever.
#[test]
fn a_pipe_in_the_place_of_a_file_does_not_stop_the_look() {
    let blob = Blob {
        path: "/var/pi/blob".into(),
        sha256: "ab".repeat(32).parse().unwrap(),
        mode: "755".into(),
        source: BlobSource::Url("https://example.org/one".into()),
    };
    let resources = [Resource::File(File::new("/var/pi/file", "new\n")), Resource::Blob(blob)];
    let pipes = "/usr/bin/mkdir $R/var/pi; /usr/bin/mkfifo $R/var/pi/file $R/var/pi/blob\n";
    let run = look(&resources).after(pipes).run(None);
    assert!(run.code == 0 && run.stdout.ends_with("end\n"), "{} {}", run.code, run.stderr);
}

#[test]
fn files_are_seen_or_the_look_fails() {
    let blob = Blob {
        path: "/usr/local/bin/one".into(),
        sha256: "ab".repeat(32).parse().unwrap(),
        mode: "755".into(),
        source: BlobSource::Url("https://example.org/one".into()),
    };
    let resources = [
        Resource::File(File::new("/etc/a b", "new\n")),
        Resource::File(File { secret: true, ..File::new("/etc/key", "new\n") }),
        Resource::Blob(blob),
    ];
    let missing = "it fails for each file that is not there";
    let case = || {
        look(&resources)
            .file("/etc/a b", "old\n")
            .file("/etc/key", "secret\n")
            .file("/usr/local/bin/one", "one\n")
            .may_fail("stat -c stat*", missing)
            .may_fail("stat -c %s*", missing)
            .may_fail("sha256sum --*", missing)
    };
    let run = case().check();
    let digest = "2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806";
    assert_answers(&run, &["content /etc/a b b2xkCg==", &format!("blob {digest} /usr/local/bin/one"), "end"]);
    assert!(!run.stdout.contains("c2VjcmV0"), "{}", run.stdout);
    assert_blind(case(), "base64*", "false");
    // One whose digest is known is not read again.
    let script = include_str!("../../src/resource/blob.sh");
    let known = Case::new("B=/var/lib/bramble", format!("f=/etc/one h=abcd\nlook() {{ {script}}}\nlook\nlook"))
        .file("/etc/one", "one\n")
        .may_fail("stat*", missing)
        .check();
    assert_eq!(known.calls.iter().filter(|call| *call == "sha256sum").count(), 1, "{:?}", known.calls);
    assert_eq!(known.stdout, format!("blob {digest} /etc/one\n").repeat(2));
    // The rest of a pipe's right side is as strict.
    let shown =
        format!("expected() {{ w=show; }}\nprintf 'ab  /etc/one\\n' | {}", include_str!("../../src/resource/file.sh"));
    let run = Case::new("", shown).file("/etc/one", "one\n").check();
    assert_eq!(run.stdout, "sha ab /etc/one\ncontent /etc/one b25lCg==\n");
}

#[test]
fn certificates_are_seen_once() {
    let resource = Certificates { files: &["/etc/pki/*.crt"], before: 86400, renew: Commands::new() };
    let case = || {
        look(&[Resource::Certificates(resource.clone())])
            .file("/etc/pki/a.crt", "x")
            .says("openssl x509*", "notAfter=Jan  1 00:00:00 2100 GMT")
            .may_fail("stat -L*", "it is gone, or was never there")
            .may_fail("openssl*", "it is no certificate")
    };
    assert_answers(&case().check(), &["certificate 4102444800 /etc/pki/a.crt", "end"]);
    let script = format!("for f in /etc/pki/*.crt; do\n{}", include_str!("../../src/resource/certificates.sh"));
    let twice = Case::new("B=/var/lib/bramble", format!("{script}{script}"))
        .file("/etc/pki/a.crt", "x")
        .says("openssl x509*", "notAfter=Jan  1 00:00:00 2100 GMT")
        .run(None);
    assert_eq!(twice.calls.iter().filter(|call| call.starts_with("openssl")).count(), 1, "{:?}", twice.calls);
    assert_eq!(twice.stdout, "certificate 4102444800 /etc/pki/a.crt\n".repeat(2));
}

#[test]
fn a_disk_is_blank_only_if_blkid_says_so() {
    // A test has no block device: a file stands in for it.
    let script = include_str!("../../src/resource/disk.sh").replace("[ ! -b ", "[ ! -e ");
    let script = format!("disk_identity() {{ echo one; }}\n{script}");
    let disk = |action: &str| {
        let case = Case::new("f=/etc/disk", script.clone()).file("/etc/disk", "").on("blkid*", action);
        let run = case.run(None);
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.stdout
    };
    assert_eq!(disk("exit 2"), "disk /etc/disk blank\ndisk-is /etc/disk one\n");
    assert_eq!(disk("printf 'TYPE=ext4\\nLABEL=data\\n'"), "disk /etc/disk ext4 data\ndisk-is /etc/disk one\n");
    assert_eq!(disk("printf 'PTTYPE=gpt\\n'"), "disk /etc/disk a partition table \ndisk-is /etc/disk one\n");
    // A disk that cannot be read, or is of two kinds, is not blank.
    for action in ["exit 1", "exit 8", "exit 127", "echo PTTYPE=gpt; exit 2", ""] {
        assert!(!disk(action).contains("blank"), "{action}");
    }
    assert_eq!(Case::new("f=/etc/disk", script.clone()).run(None).stdout, "disk /etc/disk missing\n");
}

/// A device of a test has the number 0:0, since it is a file.
fn which(files: &[(&str, &str)]) -> Case {
    let at = "/sys/dev/block/0:0";
    let case =
        Case::new(include_str!("../../src/resource/disk_identity.sh"), "disk_identity /etc/disk").file("/etc/disk", "");
    files.iter().fold(case, |case, (name, text)| case.file(&format!("{at}/{name}"), text))
}

#[test]
fn a_disk_is_known_by_its_number_its_medium_and_what_its_maker_calls_it() {
    let run = which(&[
        ("size", "1000\n"),
        ("diskseq", "7\n"),
        ("serial", "S1"),
        ("device/wwid", "naa.5\n"),
        ("device/model", "T7 Shield   \n"),
    ]);
    assert_eq!(run.check().stdout, "device 0:0, 1000 sectors, diskseq 7, WWID naa.5, model T7 Shield, serial S1\n");
}

#[test]
fn a_partition_is_known_by_its_place_and_its_disk() {
    let case = which(&[("size", "8\n"), ("partition", "1\n"), ("start", "2048\n")]);
    let run = case.file("/sys/dev/block/diskseq", "7\n").file("/sys/serial", "S2\n");
    assert_eq!(run.check().stdout, "device 0:0, 8 sectors, start 2048, diskseq 7, serial S2\n");
}

#[test]
fn a_disk_that_says_little_of_itself_is_known_by_that() {
    assert_eq!(which(&[("size", "8\n")]).check().stdout, "device 0:0, 8 sectors\n");
    // Without a size there is no disk.
    let none = which(&[("diskseq", "7\n")]).run(None);
    assert!(none.code != 0 && none.stdout.is_empty());
}

#[test]
fn modules_are_loaded_or_built_in() {
    let script = include_str!("../../src/resource/module.sh");
    let case = Case::new(script, "modules overlay nf-x br_netfilter ip_vs nf_conntrack zram gone")
        .file("/proc/modules", "nf_x 1 0\n")
        .file("/proc/filesystems", "nodev\toverlay\n")
        .file("/proc/sys/net/bridge/", "")
        .file("/proc/sys/net/netfilter/nf_conntrack_max", "1\n")
        .file("/proc/sys/kernel/osrelease", "none\n")
        .file("/sys/module/zram/", "");
    let loaded = ["overlay", "nf-x", "br_netfilter", "nf_conntrack", "zram"];
    assert_eq!(case.check().stdout, loaded.map(|name| format!("module {name}\n")).concat());
}

#[test]
fn a_root_that_keeps_nothing_is_told() {
    let root = |mounts: &str| {
        let begin = PROBE.find("r=\nwhile read -r _ p").unwrap();
        let body = &PROBE[begin..begin + PROBE[begin..].find("esac\n").unwrap() + 5];
        Case::new("", body).file("/proc/mounts", mounts).check().stdout
    };
    assert_eq!(root("/dev/mmcblk0p2 / ext4 rw,noatime 0 0\n/dev/sda1 /boot vfat ro 0 0\n"), "");
    assert_eq!(root("/dev/mmcblk0p2 / ext4 ro,noatime 0 0\n"), "fact root read-only\n");
    assert_eq!(root("/dev/root / ext4 errors=remount-ro,ro 0 0\n"), "fact root read-only\n");
    assert_eq!(root("/dev/root / ext4 rw 0 0\noverlay / overlay rw,lowerdir=/ro 0 0\n"), "fact root overlay\n");
    assert_eq!(root("/dev/root / ext4 rw,errors=remount-ro 0 0\n"), "");
}

fn texts() -> &'static str {
    &PROBE[PROBE.find("texts() {").unwrap()..PROBE.find("line run").unwrap()]
}

#[test]
fn a_text_with_bytes_that_lines_lose_is_told_whole() {
    let told = |text: &str| Case::new(texts(), "texts /etc/hosts /etc/none").file("/etc/hosts", text).check().stdout;
    assert_eq!(told("a\tb\r\nc"), "text /etc/hosts\n=a\tb\r\n~c\n.\n");
    assert_eq!(told(""), "text /etc/hosts\n.\n");
    for (text, encoded) in [("a\n\0\0", "YQoAAA=="), ("\0", "AA=="), ("# K\u{fc}\n", "IyBLw7wK"), ("\u{7f}", "fw==")] {
        let told = told(text);
        assert!(told.ends_with(&format!("\n*{encoded}\n.\n")), "{told}");
    }
}

#[test]
fn boot_settings_are_read_where_the_firmware_reads_them() {
    let boot = |folder: &str| {
        Case::new(texts(), include_str!("../../src/resource/boot_config.sh"))
            .file(&format!("{folder}/cmdline.txt"), "quiet\n")
            .file(&format!("{folder}/config.txt"), "a=1")
            .file("/boot/cmdline.txt", "moved\n")
            .check()
            .stdout
    };
    assert_eq!(
        boot("/boot/firmware"),
        "text /boot/firmware/cmdline.txt\n=quiet\n.\ntext /boot/firmware/config.txt\n~a=1\n.\n"
    );
}

#[test]
fn packages_that_are_ours_are_told() {
    let script = include_str!("../../src/resource/cleanup.sh");
    let run = Case::new("B=/var/lib/bramble h=abcd", format!("set -- watch vim\n{script}"))
        .file("/var/lib/bramble/ledger/000001.abcd/ours", "watch\nother\n")
        .file("/var/lib/bramble/ledger/000002.ef/ours", "vim\n")
        .check();
    assert_eq!(run.stdout, "ours watch\n");
}

#[test]
fn that_nothing_is_to_be_removed_is_remembered_only_if_apt_says_so() {
    let mark = "var/lib/bramble/nothing-to-remove";
    let look = |action: &str| {
        Case::new("B=/var/lib/bramble", include_str!("../../src/resource/autoremove.sh"))
            .on("apt-get -s autoremove", action)
            .may_fail("apt-get*", "broken packages are mended by the plan, and nothing is remembered")
    };
    let nothing = look("echo '0 upgraded'").check();
    assert!(nothing.stdout.is_empty() && nothing.file(mark).is_some());
    let some = look("printf '%s\\n' 'Remv libold [1]' 'Remv libolder [1]'").check();
    assert_eq!(some.stdout, "removable libold\nremovable libolder\n");
    assert!(some.file(mark).is_none());
    let broken = look("exit 100").run(None);
    assert!(broken.code == 0 && broken.file(mark).is_none());
    let known = look("").file(&format!("/{mark}"), "").run(None);
    assert!(known.calls.is_empty());
}

#[test]
fn locales_are_seen_or_the_look_fails() {
    let case = || look(&[Resource::Locale("de_DE.UTF-8".into())]).on("locale -a", "printf '%s\\n' C de_DE.utf8");
    let case = || case().may_fail("stat -c stat*", "there is none");
    assert_answers(&case().check(), &["locale C", "locale de_DE.utf8", "end"]);
    assert_blind(case(), "locale*", "false");
}
