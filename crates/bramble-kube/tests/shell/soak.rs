//! Boards under full load.

use super::*;

const SOAK: &str = include_str!("../../src/soak/soak.sh");

fn soak(body: &str) -> Case {
    let text = library("units= again=no", &[include_str!("../../src/why/why.sh"), SOAK]);
    Case::new(text, body).file("/proc/uptime", "812.33 99.0\n")
}

#[test]
fn a_load_is_begun_looked_at_and_ended() {
    let run = check(soak("soak_begin 900 85000 'echo the program'").says("systemctl show -p LoadState*", "not-found"));
    assert!(run.called(
        "systemd-run -q --unit=bramble-soak --collect -p Nice=19 /bin/sh -c echo the program soak 900 85000 /run/bramble/soak"
    ));
    assert_eq!(run.file("/run/bramble/soak/asked").as_deref(), Some("812\n"));
    let look = soak("soak_look")
        .file("/run/bramble/soak/asked", "1\n")
        .file("/run/bramble/soak/ended", "limit\n")
        .file("/sys/class/thermal/thermal_zone0/temp", "48312\n")
        .file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1500000\n")
        .file("/sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq", "600000\n")
        .without("vcgencmd")
        .says("systemctl show -p ActiveState*", "inactive")
        .run(None);
    assert_eq!(look.stdout, "temperature 48312\nclock 1500000\nstate inactive\nended limit\n", "{}", look.stderr);
    assert_eq!(look.file("/run/bramble/soak/asked").as_deref(), Some("812\n"));
    assert_eq!(
        soak("core_clock").file("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "7\n").run(None).stdout,
        "7\n"
    );
    let ended = check(soak("soak_end").file("/run/bramble/soak/asked", "1\n").says("systemctl show*", "loaded"));
    assert!(ended.called("systemctl stop bramble-soak") && ended.file("/run/bramble/soak/asked").is_none());
    assert!(!check(soak("soak_end").says("systemctl show*", "not-found")).called("systemctl stop*"));
}
