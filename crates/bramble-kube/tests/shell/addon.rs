//! Add-ons that come and go: `addon/lib.sh`.

use super::*;

const OBJECT: &str = "{\"kind\":\"Namespace\"}";

fn lines() -> String {
    format!("1\tv1/Namespace/a\t{OBJECT}\t{OBJECT}\n2\tapps/Deployment/a/a\t{{}}\t{{}}\n3\tx.io/Pool/a\t{{}}\t{{}}\n")
}

#[test]
fn an_addon_comes_and_what_it_lost_goes() {
    let case = k3s("addon_apply a /run/bramble/lines kept/x")
        .file("/run/bramble/lines", &lines())
        .on("k3s kubectl*get configmap*", "printf '2\\tv1/Old/a\\t{\"old\":1}\\n2\\tkept/x\\t{}\\n'")
        .says("k3s kubectl*get deployments*", "a Deployment/a");
    let run = check(case.clone());
    assert!(run.called("k3s kubectl*delete*objects") && run.called("k3s kubectl*apply*books.json"));
    case.on("k3s kubectl*rollout*", "false").refuses("does not get ready");
    let job = k3s("addon_apply a /run/bramble/lines ''").file("/run/bramble/lines", "2\tbatch/Job/a/j\t{}\t{}\n").on(
        "k3s kubectl*apply*objects",
        "if [ -e $R/x ]; then :; else : >$R/x; echo 'The Job \"j\" is invalid: field is immutable'; false; fi",
    );
    let run = job.run(None);
    assert!(run.code == 0 && run.called("k3s kubectl*delete*old-jobs"), "{}", run.stdout);
}

#[test]
fn an_addon_goes() {
    let case = k3s("addon_remove a kept/x")
        .on("k3s kubectl*get configmap*", "printf '2\\tv1/Old/a\\t{\"old\":1}\\n2\\tkept/x\\t{}\\n'");
    let run = check(case);
    assert!(run.called("k3s kubectl*delete configmap bramble-addon-a*"));
    let gone = k3s("addon_remove a ''")
        .on("k3s kubectl*get configmap*", "printf '2\\tv1/Old/a\\t{}\\n'")
        .on("k3s kubectl*delete*objects", "echo 'no matches for kind \"Old\"'; false");
    assert_eq!(gone.run(None).code, 0);
}

#[test]
fn longhorn_stays_as_long_as_it_has_volumes_or_nobody_knows() {
    let with = |volumes: &str| {
        k3s("addon_remove longhorn ''")
            .says("k3s kubectl*get customresourcedefinition*", "crd")
            .on("k3s kubectl*get volumes.longhorn.io*", volumes)
    };
    with("echo volume/a").refuses("Longhorn holds 1 volumes");
    check(with(":"));
    check(k3s("addon_remove longhorn ''"));
}

#[test]
fn addons_of_microk8s_are_as_it_says() {
    let status = |state: &str| ("microk8s status*", state.to_owned());
    let (call, state) = status("enabled");
    let tried = "what it says afterwards counts";
    let case = microk8s("addon_enable metallb:10.0.0.5-10.0.0.9 again").says(call, &state);
    check(case.may_fail("microk8s disable*", tried).may_fail("microk8s enable*", tried));
    let case = microk8s("addon_disable metallb").says(call, "disabled");
    check(case.may_fail("microk8s disable*", tried));
    microk8s("addon_disable metallb").says(call, "enabled").refuses("is not disabled");
    assert!(check(microk8s("addon_disable dns")).calls.is_empty());
}
