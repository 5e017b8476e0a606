//! Boards under load whose heat is a model's: they get warmer while their cores are busy, and the firmware slows them down from 80 °C on.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::common::{Rack, assert_code, read, text, wait_for};

/// Degrees per second while the load runs and while it does not, and the most. Begins at 45 °C.
fn model(rack: &Rack, n: usize, rise: u32, most: u32) {
    let script = format!(
        "mkdir -p /root/hot/thermal_zone0; echo 45000 >/root/hot/thermal_zone0/temp; mount --bind /root/hot /sys/class/thermal
cat >/usr/local/bin/vcgencmd <<'END'
#!/bin/sh
read -r t </sys/class/thermal/thermal_zone0/temp
if [ $t -ge 80000 ]; then echo throttled=0x60006; else echo throttled=0x0; fi
END
chmod +x /usr/local/bin/vcgencmd
cat >/root/model <<'END'
while sleep 1; do
    read -r t </root/hot/thermal_zone0/temp
    if systemctl -q is-active bramble-soak; then t=$((t + {rise})); [ $t -le {most} ] || t={most}
    else t=$((t - 3000)); [ $t -ge 45000 ] || t=45000; fi
    # In its place, and never empty.
    printf '%05d' $t | dd of=/root/hot/thermal_zone0/temp conv=notrunc 2>/dev/null
done
END
systemd-run -q --unit=model sh /root/model && echo good"
    );
    assert!(rack.shell(&rack.node(n), &script).ends_with("good\n"));
}

/// What keeps the cores busy, on the board's own console.
fn load(rack: &Rack, n: usize) -> String {
    rack.shell(&rack.node(n), "pgrep -c sha256sum; ls /run/bramble/soak 2>/dev/null; systemctl is-active bramble-soak")
}

#[test]
#[ignore = "needs root: `make test`"]
fn a_load_tells_which_boards_are_cooled_and_ends_with_the_connection() {
    let rack = Rack::bare("t-soak", 2, "10.78.45.0/24", &[]);
    model(&rack, 1, 1500, 62_000);
    model(&rack, 2, 2000, 83_000);
    let picture = rack.dir.path().join("heat.svg");
    let refused = rack.run(&["soak"]);
    assert_code(&refused, 1);
    assert!(text(&refused).contains("pass --yes, or --drain"), "{}", text(&refused));
    let output = rack.run(&["soak", "--minutes", "1", "--yes", "--svg", picture.to_str().unwrap(), "-o", "json"]);
    assert_code(&output, 1);
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let result = |at: usize, key: &str| said["nodes"][at]["result"][key].clone();
    assert_eq!((result(0, "enough"), result(1, "enough")), (Value::Bool(true), Value::Bool(false)), "{said}");
    assert!(result(0, "slowedAfter").is_null() && result(0, "celsius")[1] == 62.0, "{said}");
    assert!(
        result(1, "slowedAfter").as_f64().is_some_and(|after| after > 5.0) && result(1, "celsius")[1] == 83.0,
        "{said}"
    );
    assert!(said["nodes"][0]["samples"].as_array().unwrap().len() > 20, "{said}");
    assert_eq!(read(&picture).matches("<polyline").count(), 2);
    for n in [1, 2] {
        assert_eq!(load(&rack, n), "0\ninactive\n");
    }

    // It stops itself at its limit.
    let second = rack.node(2);
    let hot = rack.run(&["soak", "--minutes", "2", "--limit", "60", "--yes", &second]);
    assert_code(&hot, 1);
    assert!(text(&hot).contains("it reached 60 °C after"), "{}", text(&hot));

    // The cable is pulled: nobody asks any more, and the cores are free again.
    let mut soak = rack.command(&["soak", "--minutes", "5", "--yes", &second]);
    let mut soak = soak.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the load", || load(&rack, 2).contains("\nactive"));
    assert_code(&rack.lab(&["link", "down", &format!("{}/{second}", rack.name)]), 0);
    std::thread::sleep(Duration::from_secs(15));
    wait_for("the load to end", || load(&rack, 2).starts_with("0\n"));
    assert_code(&rack.lab(&["link", "up", &format!("{}/{second}", rack.name)]), 0);
    soak.kill().unwrap();
    soak.wait().unwrap();
    // The next one begins anew.
    let again = rack.run(&["soak", "--minutes", "1", "--limit", "60", "--yes", &second]);
    assert!(text(&again).contains("it reached 60 °C after"), "{}", text(&again));
    assert_eq!(load(&rack, 2), "0\ninactive\n");
}
