//! Boards that are looked for and asked, on a rack.

use std::fs;

use crate::common::{Rack, assert_code, read, text};
use serde_json::{Value, json};

fn found(rack: &Rack, more: &[&str], code: i32) -> Vec<Value> {
    let output = rack.run(&[&["discover", "-o", "json"], more].concat());
    assert_code(&output, code);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    told["machines"].as_array().unwrap().clone()
}

/// The EEPROM's tools are stand-ins that take and give what upstream's do: there is no EEPROM here. The scripts have been
/// run by hand with upstream's own of 2026-08 and images of the bootloaders of a Pi 4 and a Pi 5.
const EEPROM: &str = r#"mkdir -p /run/boot && printf '[all]\nBOOT_UART=1\nBOOT_ORDER=0xf41\n[gpio8=0]\nBOOT_ORDER=0xf2\n' >/run/eeprom
touch /run/newest
cat >/usr/local/bin/rpi-eeprom-update <<'END'
#!/bin/sh
case $1 in
-b) echo /run/boot ;;
-l) echo /run/newest ;;
'') printf 'BOOTLOADER: up to date\n   CURRENT: a (1746713597)\n    LATEST: a (1746713597)\n' ;;
*) exit 2 ;;
esac
END
cat >/usr/local/bin/rpi-eeprom-config <<'END'
#!/bin/sh
case $1 in
'') cat /run/eeprom ;;
--apply)
    [ $# = 2 ] && cp "$2" /run/boot/pieeprom.upd
    { sha256sum </run/boot/pieeprom.upd | cut -d ' ' -f 1; echo 'ts: 1778249597'; } >/run/boot/pieeprom.sig
    ;;
/*) cat "$1" ;;
*) exit 2 ;;
esac
END
chmod +x /usr/local/bin/rpi-eeprom-*"#;

#[test]
#[ignore = "needs root: `make test`"]
fn boards_are_found_by_key_mac_and_name_and_say_from_what_they_boot() {
    let rack = Rack::bare("t-find", 3, "10.78.21.0/24", &[]);
    let names = [rack.node(1), rack.node(2), rack.node(3)];
    let machines = found(&rack, &[], 0);
    assert_eq!(machines.len(), 3, "{machines:?}");
    for (machine, name) in machines.iter().zip(&names) {
        assert_eq!(machine["node"], *name);
        assert!(machine["by"].as_array().unwrap().contains(&"host key".into()), "{machine}");
        assert_eq!(machine["mac"].as_str().unwrap().len(), 17);
    }

    // Two boards have each other's address: their MACs, or a lease with their name, tell.
    let file = read(&rack.file());
    let address = |n: usize| machines[n]["address"].as_str().unwrap();
    let lines: Vec<String> = file
        .lines()
        .map(|line| {
            if line.contains(&format!("name: {}", names[0])) {
                line.replace(address(0), address(1))
            } else if line.contains(&format!("name: {}", names[1])) {
                line.replace(address(1), address(0))
            } else {
                line.to_owned()
            }
        })
        .collect();
    fs::write(rack.file(), lines.join("\n")).unwrap();
    let known = rack.dir.path().join(".bramble/known_hosts");
    let keys = read(&known);
    fs::remove_file(&known).unwrap();
    let leases = rack.dir.path().join("leases");
    let lease =
        |n: usize| format!("1795312345 {} {} {} *\n", machines[n]["mac"].as_str().unwrap(), address(n), names[n]);
    fs::write(&leases, format!("{}{}", lease(0), lease(1))).unwrap();
    let swapped = found(&rack, &["--leases", leases.to_str().unwrap()], 3);
    for n in [0, 1] {
        assert_eq!(swapped[n]["address"], address(n), "{swapped:?}");
        assert!(swapped[n]["remark"].as_str().unwrap().contains("the cluster file says"), "{swapped:?}");
    }
    assert_eq!((&swapped[2]["by"], &swapped[2]["remark"]), (&json!(["MAC"]), &Value::Null));

    // One that no node is, and one that is off.
    fs::write(rack.file(), &file).unwrap();
    fs::write(rack.file(), crate::common::without(&file, &names[2])).unwrap();
    assert!(rack.lab(&["cut", &format!("t-find/{}", names[1])]).status.success());
    let shown = rack.run(&["discover"]);
    assert_code(&shown, 3);
    let shown = text(&shown);
    let mac = machines[2]["mac"].as_str().unwrap();
    assert!(shown.contains(&format!("{mac}  a Raspberry Pi that is no node")), "{shown}");
    assert!(shown.lines().any(|line| line.starts_with('✗') && line.contains("not found")), "{shown}");

    // It becomes a node again: nobody logs in to a board whose key nobody has seen, and nothing else in the file changes.
    let without = read(&rack.file());
    let third = machines[2]["address"].as_str().unwrap();
    let refused = rack.run(&["adopt", third, "--yes"]);
    assert_code(&refused, 1);
    assert!(text(&refused).contains("host key"), "{}", text(&refused));
    fs::write(&known, keys).unwrap();
    assert_code(&rack.run(&["adopt", third]), 1);
    let taken = rack.run(&["adopt", third, "--yes", "--name", &names[0]]);
    assert!(text(&taken).contains(&format!("there is a node {} already", names[0])), "{}", text(&taken));
    assert_eq!(read(&rack.file()), without);
    let adopted = rack.run(&["adopt", third, "--yes"]);
    assert_code(&adopted, 0);
    println!("{}", text(&adopted));
    let line = format!("  - {{ name: {}, role: worker, board: ", names[2]);
    let own = read(&rack.file());
    let added: Vec<&str> = own.lines().filter(|line| !without.contains(*line)).collect();
    assert!(
        matches!(added[..], [one] if one.starts_with(&line) && one.ends_with(&format!("address: {third}, mac: \"{mac}\" }}"))),
        "{added:?}"
    );
    assert_eq!(own.replace(&format!("{}\n", added[0]), ""), without);
    assert_code(&rack.run(&["adopt", third, "--yes"]), 1);
    fs::write(rack.file(), &without).unwrap();

    // What the first one boots from.
    let own = fs::read_to_string(rack.file()).unwrap();
    let foreign = rack.run(&["boot-order", "-n", &names[0]]);
    assert_code(&foreign, 1);
    assert!(text(&foreign).contains("which bramble does not know"), "{}", text(&foreign));
    let one = crate::common::without(&own, &names[1])
        .replace("generic-amd64", "rpi-4b-4gb")
        .replace("generic-arm64", "rpi-4b-4gb");
    fs::write(rack.file(), one).unwrap();
    let none = rack.run(&["boot-order"]);
    assert_code(&none, 1);
    assert!(text(&none).contains("rpi-eeprom"), "{}", text(&none));
    rack.shell(&names[0], EEPROM);
    for (arguments, said) in [
        (&["boot-order"][..], "sd, usb\n"),
        (&["boot-order", "usb,sd"], "usb, sd, from its next boot on\n"),
        (&["boot-order"], "usb, sd, from its next boot on\n"),
    ] {
        let output = rack.run(arguments);
        assert_code(&output, 0);
        assert!(text(&output).contains(&format!("{}  {said}", names[0])), "{}", text(&output));
    }
    let kept = rack.shell(&names[0], "cat /run/boot/pieeprom.upd");
    assert_eq!(kept, "[all]\nBOOT_UART=1\nBOOT_ORDER=0xf14\n[gpio8=0]\nBOOT_ORDER=0xf2\n");
    let wrong = rack.run(&["boot-order", "floppy"]);
    assert_code(&wrong, 2);
}
