//! Images of disks, shaped as the systems' own are: what `bramble image build` writes is looked at with other people's tools.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use bramble_image::Wifi;
use common::bench::Bench;
use common::disk::{BOOT, CMDLINE, Disk, ISSUE, START, image, tool};
use common::{Rack, assert_code, read, text};
use serde_json::{Value, json};

/// Something that is not to change, and is longer than a cluster.
fn kernel() -> String {
    (0..40_000).map(|n: u32| char::from(b'a' + (n % 26) as u8)).collect()
}

fn cloud_config(disk: &Disk) -> Value {
    let text = disk.read("user-data");
    let config = text.strip_prefix("#cloud-config\n").unwrap();
    serde_json::from_str(config).unwrap()
}

#[test]
fn cloud_init_is_told_who_the_board_is_in_both_layouts() {
    let bench = Bench::new(", dns: [10.0.0.2, 9.9.9.9]");
    for cmdline in ["cmdline.txt", "current/cmdline.txt"] {
        let kernel = kernel();
        let given = format!("{CMDLINE} ds=nocloud;i=rpi-imager-1\n");
        let before = bench.image(
            "bootfs",
            &[
                ("config.txt", "dtparam=audio=on\n[cm4]\notg_mode=1\n"),
                (cmdline, &given),
                ("kernel8.img", &kernel),
                ("user-data", "#cloud-config\n# An example that is much longer than nothing.\n"),
                ("meta-data", "instance_id: rpi-image\n"),
                ("network-config", "network: {}\n"),
            ],
        );
        let disk = bench.built(&before);
        assert_eq!(disk.read("kernel8.img"), kernel);
        assert_eq!(
            disk.read("config.txt"),
            "dtparam=audio=on\n[cm4]\notg_mode=1\n# BEGIN bramble\n[all]\ngpu_mem=16\n# END bramble\n"
        );
        let config = cloud_config(&disk);
        assert_eq!(config["hostname"], "kube1");
        assert_eq!(config["user"]["name"], "dietpi");
        assert_eq!(config["user"]["ssh_authorized_keys"][0], read(&bench.path("key.pub")).trim());
        assert_eq!(config["ssh_pwauth"], false);
        assert_eq!(config["timezone"], "Europe/Berlin");
        let meta: Value = serde_json::from_str(&disk.read("meta-data")).unwrap();
        let id = meta["instance-id"].as_str().unwrap();
        assert!(id.starts_with("shelf-kube1-"), "{id}");
        assert_eq!(disk.read(cmdline), format!("{CMDLINE} cgroup_enable=memory ds=nocloud;i={id}\n"));
        let network: Value = serde_json::from_str(&disk.read("network-config")).unwrap();
        let board = &network["ethernets"]["eth0"];
        assert_eq!(board["addresses"][0], "10.0.0.50/24");
        assert_eq!(board["match"]["macaddress"], "dc:a6:32:00:00:01");
        assert_eq!(board["nameservers"]["addresses"][1], "9.9.9.9");

        // The key is that of the board, whose public half is trusted now, and the first boot blanks it where it lies.
        let private = config["ssh_keys"]["ed25519_private"].as_str().unwrap();
        let own = bench.path("own");
        crate::write_private(&own, private);
        let public = text(&tool("ssh-keygen", &["-y", "-f", &own.display().to_string()]));
        let key = public.split(' ').nth(1).unwrap();
        let known = read(&bench.path(".bramble/known_hosts"));
        assert_eq!(known.lines().count(), 1, "{known}");
        assert!(known.starts_with("10.0.0.50 ssh-ed25519 ") && known.contains(key), "{known}");
        let data = bench.path("user-data");
        fs::write(&data, disk.read("user-data")).unwrap();
        let scrub = config["runcmd"][2][2].as_str().unwrap();
        let here = bench.name("user-data");
        let scrub = scrub
            .replace("/boot/firmware/user-data /boot/user-data", &here)
            .replace("/run/user-data", &bench.name("run"));
        tool("sh", &["-c", &scrub]);
        let scrubbed = read(&data);
        assert_eq!(scrubbed.len(), disk.read("user-data").len(), "it was written in place");
        assert!(!scrubbed.contains("PRIVATE KEY"));
        let rest: Value = serde_json::from_str(scrubbed.strip_prefix("#cloud-config\n").unwrap()).unwrap();
        assert_eq!(rest["ssh_keys"], serde_json::json!({ "ed25519_public": config["ssh_keys"]["ed25519_public"] }));
    }
}

fn write_private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    tool("chmod", &["600", &path.display().to_string()]);
}

#[test]
fn a_board_without_a_gateway_asks_dhcp() {
    let bench = Bench::new("");
    let file = read(&bench.path("bramble.yaml"))
        .replace(", gateway: 10.0.0.1", "")
        .replace(", mac: \"dc:a6:32:00:00:01\"", "");
    fs::write(bench.path("bramble.yaml"), file).unwrap();
    let before = bench.image("system-boot", &[("cmdline.txt", CMDLINE), ("user-data", ""), ("meta-data", "")]);
    let disk = bench.built(&before);
    let network: Value = serde_json::from_str(&disk.read("network-config")).unwrap();
    assert_eq!(network["ethernets"]["eth0"], json!({ "match": { "name": "e*" }, "dhcp4": true, "optional": false }));
}

#[test]
fn an_older_raspberry_pi_os_gets_a_script_that_is_run_once() {
    let bench = Bench::new("");
    let kernel = kernel();
    let before = bench.image(
        "bootfs",
        &[
            ("config.txt", "arm_64bit=1\n"),
            ("cmdline.txt", CMDLINE),
            ("kernel8.img", &kernel),
            ("a long name.dtbo", "x"),
            ISSUE,
        ],
    );
    let disk = bench.built(&before);
    assert_eq!(
        disk.read("cmdline.txt"),
        format!(
            "{CMDLINE} cgroup_enable=memory systemd.run=-/boot/firmware/firstrun.sh systemd.run=-/boot/firstrun.sh systemd.run_success_action=reboot systemd.unit=kernel-command-line.target"
        )
    );
    let script = disk.read("firstrun.sh");
    fs::write(bench.path("firstrun.sh"), &script).unwrap();
    tool("sh", &["-n", &bench.name("firstrun.sh")]);
    assert!(script.contains("address=10.0.0.50/24\ngateway=10.0.0.1\ndns=10.0.0.1\n"), "{script}");
    let mut names = disk.names();
    names.sort();
    assert_eq!(names, ["a long name.dtbo", "cmdline.txt", "config.txt", "firstrun.sh", "issue.txt", "kernel8.img"]);
    assert_eq!(disk.read("kernel8.img"), kernel);
}

/// A board of the rack is no Raspberry Pi with that system, whose firmware would run the script through systemd before
/// everything else: here a shell runs it, and the board boots after that.
#[test]
#[ignore = "needs root: `make test`"]
fn a_board_of_the_rack_after_the_script_is_met_under_the_key_that_was_made_for_it() {
    let rack = Rack::bare("t-first", 1, "10.78.20.0/24", &["--passwordless-sudo", "--system", "bookworm"]);
    let node = rack.node(1);
    let file = read(&rack.file()).replace("user: pi", "user: ada");
    let file = file
        .replace("distribution:\n", "image: { file: image }\nprepare: { timezone: Europe/Berlin }\ndistribution:\n");
    fs::write(rack.file(), file).unwrap();
    // Nothing is known of the board but what is made for it.
    let known = rack.dir.path().join(".bramble/known_hosts");
    fs::remove_file(&known).unwrap();
    image(rack.dir.path(), "label: dos", ["c", "83"], "bootfs", &[("config.txt", ""), ("cmdline.txt", CMDLINE), ISSUE]);
    let built = rack.dir.path().join("built");
    assert_code(&rack.run(&["image", "build", &node, "--to", built.to_str().unwrap()]), 0);
    let boot = rack.dir.path().join("boot-after");
    fs::write(&boot, &fs::read(&built).unwrap()[START..START + BOOT]).unwrap();
    let disk = Disk { boot };
    let firmware = rack.disk(&node).join("boot/firmware");
    for name in ["firstrun.sh", "cmdline.txt"] {
        fs::write(firmware.join(name), disk.read(name)).unwrap();
    }
    let said = rack.shell(&node, "sh /boot/firmware/firstrun.sh >/dev/null; echo $?");
    assert_eq!(said, "0\n");
    assert!(!firmware.join("firstrun.sh").exists());
    assert_eq!(read(&firmware.join("cmdline.txt")), CMDLINE);
    for action in ["cut", "start"] {
        assert!(rack.lab(&[action, &format!("t-first/{node}")]).status.success());
    }
    let met = rack.run(&["run", "id -un; hostname; sudo id -u; cat /etc/timezone"]);
    assert_code(&met, 0);
    for word in ["ada", node.as_str(), "0", "Europe/Berlin"] {
        assert!(text(&met).lines().any(|line| line.trim().ends_with(word)), "{word}: {}", text(&met));
    }
    assert_eq!(
        rack.shell(&node, "ls /etc/ssh/ssh_host_*; sshd -T | grep '^passwordauthentication'").lines().count(),
        3
    );
    assert_eq!(rack.shell(&node, "sshd -T | grep '^passwordauthentication'"), "passwordauthentication no\n");
    assert_code(&rack.run(&["up", "--yes"]), 0);
}

#[test]
fn boards_join_the_wifi_that_they_are_told_of_and_the_passphrase_goes_nowhere() {
    let bench = Bench::new(", wifi: { country: DE, ssid: \"shelf's own\", password: wifi.txt }");
    fs::write(bench.path("wifi.txt"), "correct horse\n").unwrap();
    let key = Wifi::key("shelf's own", "correct horse").unwrap();
    let given = [("config.txt", ""), ("cmdline.txt", CMDLINE), ISSUE];
    for (more, names) in [
        (&[("user-data", "")][..], &["network-config"][..]),
        (&[][..], &["firstrun.sh"]),
        (
            &[("dietpi.txt", "AUTO_SETUP_NET_WIFI_ENABLED=0\n"), ("dietpi-wifi.txt", "aWIFI_SSID[0]=''\n")],
            &["dietpi.txt", "dietpi-wifi.txt"],
        ),
    ] {
        let before = bench.image("bootfs", &[&given, more].concat());
        let disk = bench.built(&before);
        let said: String = names.iter().map(|name| disk.read(name)).collect();
        assert!(said.contains(&key) && said.contains("DE") && !said.contains("correct horse"), "{said}");
        match names[0] {
            "network-config" => {
                let network: Value = serde_json::from_str(&said).unwrap();
                let wlan = &network["wifis"]["wlan0"];
                assert_eq!(wlan["access-points"]["shelf's own"]["password"], key);
                assert_eq!(wlan["addresses"][0], "10.0.0.50/24");
                assert_eq!(network["ethernets"]["eth0"]["optional"], true);
                assert!(disk.read("cmdline.txt").contains(" cfg80211.ieee80211_regdom=DE "));
            }
            "firstrun.sh" => assert!(said.contains(r"ssid='shelf'\''s own'"), "{said}"),
            _ => assert!(said.contains(r"aWIFI_SSID[0]='shelf'\''s own'"), "{said}"),
        }
    }
    fs::write(bench.path("wifi.txt"), "short\n").unwrap();
    let refused = bench.build("other");
    assert_code(&refused, 1);
    assert!(text(&refused).contains("has no password of a Wi-Fi"), "{}", text(&refused));
}

#[test]
fn a_gateway_is_told_of_its_two_sides() {
    let bench = Bench::new(", wifi: { country: DE, ssid: shelf, password: wifi.txt }");
    fs::write(bench.path("wifi.txt"), "correct horse\n").unwrap();
    let file = read(&bench.path("bramble.yaml"));
    let others = file.replace("control-plane", "worker");
    let others = others.replace("k3s: { version: stable }", "none");
    let gateway = |uplink: &str| {
        let text = others.replace("role: worker", &format!("role: gateway, uplink: {{ interface: {uplink} }}"));
        let text = text.replace("address: 10.0.0.50", "address: 10.0.0.1");
        fs::write(bench.path("bramble.yaml"), text).unwrap();
    };
    let given = [("config.txt", ""), ("cmdline.txt", CMDLINE), ISSUE];
    for (uplink, inside) in [("wlan0", "eth0"), ("eth0", "eth1")] {
        gateway(uplink);
        let disk = bench.built(&bench.image("bootfs", &[&given[..], &[("user-data", "")]].concat()));
        let network: Value = serde_json::from_str(&disk.read("network-config")).unwrap();
        assert_eq!(network["ethernets"][inside]["match"]["name"], inside);
        assert_eq!(network["ethernets"][inside]["addresses"][0], "10.0.0.1/24");
        assert_eq!(network["ethernets"][inside]["routes"], Value::Null, "the way out is on the other side");
        if uplink == "eth0" {
            assert_eq!(network["ethernets"]["eth0"]["match"]["name"], "eth0");
            assert_eq!(network["ethernets"]["eth0"]["dhcp4"], true);
        } else {
            assert_eq!(network["wifis"]["wlan0"]["dhcp4"], true);
        }
        let disk = bench.built(&bench.image("bootfs", &given));
        let script = disk.read("firstrun.sh");
        assert!(script.contains(&format!("inside={inside}\ninside_address=10.0.0.1/24\n")), "{script}");
    }
    bench.image("boot", &[&given[..], &[("dietpi.txt", "")]].concat());
    let refused = bench.build("other");
    assert_code(&refused, 1);
    assert!(text(&refused).contains("Raspberry Pi OS"), "{}", text(&refused));
}

#[test]
fn public_key_that_is_none() {
    let bench = Bench::new("");
    bench.image("bootfs", &[("config.txt", ""), ("cmdline.txt", CMDLINE), ISSUE]);
    let private = read(&bench.path("key"));
    for (public, says) in [
        (private.as_str(), "it holds a private key, which goes nowhere"),
        ("PuTTY-User-Key-File-3: ssh-rsa\n", "it holds a private key"),
        ("ssh-rsa\n", "line 1 has the type ssh-rsa and no key"),
        ("hello world\n", "line 1 is no public key"),
    ] {
        fs::write(bench.path("key.pub"), public).unwrap();
        let refused = bench.build("refused");
        assert_code(&refused, 1);
        assert!(text(&refused).contains(says) && text(&refused).contains("key.pub"), "{}", text(&refused));
        assert!(!bench.path("refused").exists());
    }
    // A private key alone has its public half in it.
    fs::remove_file(bench.path("key.pub")).unwrap();
    assert_code(&bench.build("made"), 0);
    let public = bramble_remote::public_half(&private).unwrap();
    // A file of public keys may have any name.
    fs::write(bench.path("key"), format!("# mine\n{public}\n")).unwrap();
    assert_code(&bench.build("made-too"), 0);
    let file = read(&bench.path("bramble.yaml"));
    fs::write(bench.path("bramble.yaml"), file.replace("keys: [key]", &format!("keys: [\"{public}\"]"))).unwrap();
    let refused = bench.build("refused");
    assert!(text(&refused).contains("has a key where the name of its file is expected"), "{}", text(&refused));
    fs::write(bench.path("bramble.yaml"), &file).unwrap();
    fs::write(bench.path("key"), "-----BEGIN RSA PRIVATE KEY-----\n").unwrap();
    let refused = bench.build("refused");
    assert!(text(&refused).contains("ssh-keygen -y -f"), "{}", text(&refused));
    tool("mkfifo", &[&bench.name("key.pub")]);
    let refused = bench.build("refused");
    assert!(text(&refused).contains("is no small plain file"), "{}", text(&refused));
}

#[test]
fn a_host_key_that_was_written_by_half_is_on_no_image() {
    let bench = Bench::new("");
    bench.image("bootfs", &[("config.txt", ""), ("cmdline.txt", CMDLINE), ISSUE]);
    assert_code(&bench.build("first"), 0);
    let (private, public) = (bench.path(".bramble/host-keys/kube1"), bench.path(".bramble/host-keys/kube1.pub"));
    let (secret, open) = (read(&private), read(&public));
    tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &bench.name("other")]);
    for (file, wrong) in [
        (&private, ""),
        (&private, "garbage"),
        (&private, &secret[..secret.len() / 2]),
        (&public, &read(&bench.path("other.pub"))),
        (&public, ""),
    ] {
        fs::write(&private, &secret).unwrap();
        fs::write(&public, &open).unwrap();
        fs::write(file, wrong).unwrap();
        let refused = bench.build("refused");
        assert_code(&refused, 1);
        assert!(text(&refused).contains("are not the two halves of one key"), "{}", text(&refused));
        assert!(!bench.path("refused").exists());
    }
    // The second half is made of the first.
    fs::write(&private, &secret).unwrap();
    fs::remove_file(&public).unwrap();
    assert_code(&bench.build("second"), 0);
    assert_eq!(read(&public).split(' ').nth(1), open.split(' ').nth(1));
}

#[test]
fn wifi_password_file() {
    let bench = Bench::new(", wifi: { country: DE, ssid: shelf, password: wifi.txt }");
    let before = bench.image("bootfs", &[("config.txt", ""), ("cmdline.txt", CMDLINE), ISSUE]);
    let psk = |password: &str| {
        fs::write(bench.path("wifi.txt"), password).unwrap();
        let script = bench.built(&before).read("firstrun.sh");
        script.lines().find(|line| line.starts_with("psk=")).unwrap().to_owned()
    };
    assert_eq!(psk("\u{feff}secret123\r\n"), psk("secret123"));
    for (password, says) in [
        ("secret123\nmore\n", "has several lines"),
        ("Schl\u{fc}ssel1", "no password of a Wi-Fi"),
        ("short", "8 to 63"),
    ] {
        fs::write(bench.path("wifi.txt"), password).unwrap();
        let refused = bench.build("refused");
        assert_code(&refused, 1);
        assert!(text(&refused).contains(says) && !text(&refused).contains("secret123"), "{}", text(&refused));
    }
}

#[test]
fn config_txt_latin1_in_image() {
    let bench = Bench::new("");
    let mut image =
        bench.image("bootfs", &[("config.txt", "# K?che\r\narm_boost=1\r\n"), ("cmdline.txt", CMDLINE), ISSUE]);
    let at = image.windows(7).position(|window| window == b"# K?che").unwrap();
    image[at + 3] = 0xfc;
    fs::write(bench.path("image"), &image).unwrap();
    bench.built(&image);
    let boot = fs::read(bench.path("boot-after")).unwrap();
    let wanted = b"# K\xfcche\r\narm_boost=1\r\n# BEGIN bramble\r\n[all]\r\ngpu_mem=16\r\n# END bramble\r\n";
    assert!(boot.windows(wanted.len()).any(|window| window == wanted), "the comment is another one");
}

#[test]
fn rpi_preseed_is_told_by_its_own_file_and_a_script_for_what_that_has_no_word_for() {
    let bench = Bench::new("");
    let kernel = kernel();
    let before = bench.image(
        "bootfs",
        &[
            ("config.txt", "arm_64bit=1\n"),
            ("cmdline.txt", CMDLINE),
            ("kernel8.img", &kernel),
            ISSUE,
            ("rpi-preseed.toml", ""),
        ],
    );
    let disk = bench.built(&before);
    let settings = disk.read("rpi-preseed.toml");
    let key = fs::read_to_string(bench.path("key.pub")).unwrap();
    for line in [
        "config_version = \"1.0\"",
        "hostname = \"kube1\"",
        "name = \"dietpi\"",
        "passwordless_sudo = true",
        "timezone = \"Europe/Berlin\"",
        "early = [\"sh /boot/firmware/bramble-first-boot.sh\"]",
        &format!("authorized_keys = [\"{}\"]", key.trim()),
    ] {
        assert!(settings.lines().any(|written| written == line), "{line}: {settings}");
    }
    let script = disk.read("bramble-first-boot.sh");
    fs::write(bench.path("script"), &script).unwrap();
    tool("sh", &["-n", &bench.name("script")]);
    assert!(script.contains("script=bramble-first-boot.sh\n") && script.contains("address=10.0.0.50/24\n"), "{script}");
    assert_eq!(disk.read("cmdline.txt"), format!("{CMDLINE} cgroup_enable=memory"));
}

#[test]
fn dietpi_has_its_own_file() {
    let bench = Bench::new("");
    let own =
        "# Settings\nAUTO_SETUP_AUTOMATED=0\n#AUTO_SETUP_NET_STATIC_IP=192.168.0.100\nAUTO_SETUP_NET_STATIC_IP=x\n";
    let before = bench.image("boot", &[("config.txt", ""), ("cmdline.txt", CMDLINE), ("dietpi.txt", own)]);
    let disk = bench.built(&before);
    let told = disk.read("dietpi.txt");
    assert!(told.starts_with("# Settings\nAUTO_SETUP_AUTOMATED=1\nAUTO_SETUP_NET_STATIC_IP=10.0.0.50\n"), "{told}");
    for line in
        ["AUTO_SETUP_NET_HOSTNAME=kube1", "AUTO_SETUP_NET_STATIC_MASK=255.255.255.0", "AUTO_SETUP_SWAPFILE_SIZE=0"]
    {
        assert!(told.lines().any(|known| known == line), "{line}: {told}");
    }
    let password = told.lines().find_map(|line| line.strip_prefix("AUTO_SETUP_GLOBAL_PASSWORD=")).unwrap();
    assert!(password.len() == 32 && password != "dietpi");
    assert!(disk.read("Automation_Custom_Script.sh").contains("usermod -p '*' root\n"));
    assert!(disk.read("Automation_Custom_PreScript.sh").contains("systemctl mask dropbear.service"));
    assert!(told.contains(&format!("AUTO_SETUP_SSH_PUBKEY={}", read(&bench.path("key.pub")).trim())));
    let file = read(&bench.path("bramble.yaml")).replace("user: dietpi", "user: pi");
    fs::write(bench.path("bramble.yaml"), file).unwrap();
    let refused = bench.build("other");
    assert_code(&refused, 1);
    assert!(text(&refused).contains("say `access: { user: dietpi }`"), "{}", text(&refused));
}

#[test]
fn a_gpt_is_read_as_well() {
    let bench = Bench::new("");
    let files = [("cmdline.txt", CMDLINE), ("user-data", ""), ("meta-data", "")];
    let before = image(bench.dir.path(), "label: gpt", ["uefi", "linux"], "bootfs", &files);
    let disk = bench.built(&before);
    assert_eq!(cloud_config(&disk)["hostname"], "kube1");

    // Its first entry ends before it begins; then there are more entries than any table has.
    for (at, byte) in [(1024 + 40, 0), (512 + 83, 0x7f)] {
        let mut damaged = before.clone();
        damaged[at..at + if at > 1000 { 8 } else { 1 }].fill(byte);
        fs::write(bench.path("image"), damaged).unwrap();
        fs::remove_file(bench.path("disk")).ok();
        let refused = bench.build("disk");
        assert_code(&refused, 1);
        assert!(text(&refused).contains("its partition table is damaged"), "{}", text(&refused));
    }
}

#[test]
fn images_come_packed_in_three_ways() {
    let bench = Bench::new("");
    let before = bench.image("bootfs", &[("cmdline.txt", CMDLINE), ("user-data", ""), ("meta-data", "")]);
    for pack in ["xz -T0 --block-size=8MiB -0", "xz -0", "gzip -1", "zstd -q -1"] {
        // Packed in two parts, one behind the other, as some tools do it.
        let command = format!(
            "(head -c 9M {0} | {pack} -c; tail -c +9437185 {0} | {pack} -c) >{1}",
            bench.name("image"),
            bench.name("packed")
        );
        tool("sh", &["-c", &command]);
        let file = read(&bench.path("bramble.yaml"));
        fs::write(bench.path("bramble.yaml"), file.replace("file: image ", "file: packed ")).unwrap();
        bench.built(&before);

        // Half of it is not it.
        let whole = fs::read(bench.path("packed")).unwrap();
        fs::write(bench.path("packed"), &whole[..whole.len() / 2]).unwrap();
        let cut = bench.build("cut");
        assert_code(&cut, 1);
        assert!(text(&cut).contains("cannot unpack"), "{pack}: {}", text(&cut));
        assert!(!bench.path("cut").exists() && !bench.path("cut.part").exists());
    }
}

#[test]
fn an_image_for_another_architecture_is_refused() {
    let bench = Bench::new("");
    let file = read(&bench.path("bramble.yaml")).replace("rpi-4b-4gb", "rock-pi-x-4gb");
    let pi = [("kernel8.img", ""), ("cmdline.txt", CMDLINE), ("user-data", "")];
    let small = [("kernel.img", ""), ("kernel7.img", ""), ("cmdline.txt", CMDLINE), ("user-data", "")];
    let off =
        [("kernel8.img", ""), ("config.txt", "[all]\narm_64bit=0\n"), ("cmdline.txt", CMDLINE), ("user-data", "")];
    let pc = [("EFI/BOOT/BOOTX64.EFI", ""), ("user-data", "")];
    for (files, board, why) in [
        (&pi[..], "rock-pi-x-4gb", Some("it is for Raspberry Pi, and the board is amd64")),
        (&pi[..], "rpi-5-8gb", None),
        (&pc[..], "rpi-5-8gb", Some("it is for amd64, and the board is arm64")),
        (&pc[..], "rock-pi-x-4gb", None),
        (&small[..], "rpi-4b-4gb", Some("it is for 32-bit systems, and the board is arm64")),
        (&off[..], "rpi-4b-4gb", Some("it is for 32-bit systems, and the board is arm64")),
    ] {
        bench.image("bootfs", files);
        fs::write(bench.path("bramble.yaml"), file.replace("rock-pi-x-4gb", board)).unwrap();
        fs::remove_file(bench.path("disk")).ok();
        let output = bench.build("disk");
        assert_code(&output, i32::from(why.is_some()));
        assert!(text(&output).contains(why.unwrap_or("is the disk of kube1")), "{}", text(&output));
        assert_eq!(bench.path("disk").exists(), why.is_none());
    }
}

#[test]
fn what_cannot_be_the_image_of_a_disk_is_refused_and_leaves_nothing() {
    let bench = Bench::new("");
    let good = bench.image("bootfs", &[("cmdline.txt", CMDLINE), ("user-data", ""), ("meta-data", "")]);
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut image = good.clone();
        change(&mut image);
        image
    };
    let entry = 446;
    for (image, why) in [
        (b"PK\x03\x04 and more".to_vec(), "it is a zip file"),
        (b"hello".to_vec(), "it has no partition table"),
        (vec![0; 1 << 20], "it has no partition table"),
        (good[START..].to_vec(), "it has no partition table"),
        (with(&|image| image[entry + 4] = 0x83), "none of its partitions has a FAT file system"),
        (with(&|image| image[entry + 12..entry + 16].fill(0xff)), "it broke off: it has"),
        (with(&|image| image[entry + 8..entry + 16].fill(0xff)), "it broke off: it has"),
        // Its boot partition is whole.
        (good[..good.len() - (3 << 20)].to_vec(), "it broke off: it has"),
        (Vec::new(), "it is empty"),
        ([&[0; 257][..], b"ustar\0", &[0; 512]].concat(), "it is a tar archive"),
        (
            with(&|image| {
                image[entry + 4] = 0xee;
                image[4096..4104].copy_from_slice(b"EFI PART");
            }),
            "it is for disks with sectors of 4096 bytes",
        ),
        (with(&|image| image[entry + 4] = 0xee), "there is no GPT behind its protective MBR"),
        (with(&|image| image[START..START + 512].fill(7)), "cannot read its boot partition"),
        (bench.image("EFI", &[("readme", "x")]), "its system is not known: its boot partition `EFI`"),
        // The firmware's files, and a system that knows no firstrun.sh.
        (
            bench.image("ALPINE", &[("config.txt", ""), ("cmdline.txt", "modules=loop,squashfs console=tty1")]),
            "its system is not known: its boot partition `ALPINE`",
        ),
    ] {
        fs::write(bench.path("image"), image).unwrap();
        let refused = bench.build("disk");
        assert_code(&refused, 1);
        assert!(text(&refused).contains(why), "{why}: {}", text(&refused));
        assert!(!bench.path("disk").exists() && !bench.path("disk.part").exists(), "{why}");
        assert!(!bench.path(".bramble/known_hosts").exists(), "{why}: a key is trusted that no board has");
    }
    fs::write(bench.path("disk"), "mine").unwrap();
    let refused = bench.build("disk");
    assert_code(&refused, 1);
    assert_eq!(read(&bench.path("disk")), "mine");
}
