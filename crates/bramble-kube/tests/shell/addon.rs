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
        .says("k3s kubectl*get nodes*", "True")
        .says("k3s kubectl*get deployments*", "Deployment|a|a|1|1||2|2|2|2||||");
    let run = check(case.clone());
    assert!(run.called("k3s kubectl*delete*objects") && run.called("k3s kubectl*apply*books.json"));
    let job = k3s("addon_apply a /run/bramble/lines ''").file("/run/bramble/lines", "2\tbatch/Job/a/j\t{}\t{}\n").on(
        "k3s kubectl*apply*objects",
        "if [ -e $R/x ]; then :; else : >$R/x; echo 'The Job \"j\" is invalid: field is immutable'; false; fi",
    );
    let run = job.run(None);
    assert!(run.code == 0 && run.called("k3s kubectl*delete*old-jobs"), "{}", run.stdout);
}

/// The workload, whether a node is away, and what is said of it; nothing if it is ready.
const WORKLOADS: [(&str, bool, &str); 11] = [
    ("Deployment|a|d|1|1||2|2|2|2||||", false, ""),
    ("Deployment|a|d|1|1||0||||||||", false, ""),
    ("Deployment|a|d|2|1||2|2|2|2||||", false, "Deployment/d in a: 2 of 2 ready"),
    ("Deployment|a|d|1|||2||||||||", false, "Deployment/d in a: 0 of 2 ready"),
    ("Deployment|a|d|1|1||2|3|2|2||||", false, "Deployment/d in a: 2 of 2 ready, not all of them new"),
    ("DaemonSet|a|s|1|1|RollingUpdate||||||3|3|2", false, "DaemonSet/s in a: 2 of 3 ready"),
    ("DaemonSet|a|s|1|1|RollingUpdate||||||3|3|2", true, ""),
    ("DaemonSet|a|s|1|1|OnDelete||||||3|1|3", false, ""),
    ("DaemonSet|a|s|1|1|RollingUpdate||||||3|1|3", false, "DaemonSet/s in a: 3 of 3 ready, not all of them new"),
    ("StatefulSet|a|t|1|1|RollingUpdate|3|3|2|3|1|||", false, ""),
    ("StatefulSet|a|t|1|1|RollingUpdate|3|3|2|3||||", false, "StatefulSet/t in a: 3 of 3 ready, not all of them new"),
];

#[test]
fn a_workload_is_ready_when_it_is_as_its_object_wants_it() {
    for (workload, away, said) in WORKLOADS {
        let case = k3s("D=/run/bramble; unready a; cat $D/waits")
            .on("k3s kubectl*get nodes*", if away { "printf 'True\\nUnknown\\n'" } else { "echo True" })
            .says("k3s kubectl*get deployments*", workload);
        assert_eq!(check(case).stdout.trim_end(), said, "{workload}");
    }
}

#[test]
fn what_is_waited_for_is_told() {
    let case = |pods: &str| {
        k3s("D=/run/bramble; wait_ready a")
            .says("k3s kubectl*get nodes*", "True")
            .says("k3s kubectl*get deployments*", "Deployment|a|d|1|1||1|1|1|0||||")
            .says("k3s kubectl*get pods*", pods)
    };
    let run =
        case("d-1|Pending||| ImagePullBackOff Back-off pulling image: unauthorized").refuses("d-1: ImagePullBackOff");
    assert!(run.stdout.contains("@waiting Deployment/d in a: 0 of 1 ready; d-1: ImagePullBackOff"), "{}", run.stdout);
    check(
        k3s("D=/run/bramble; echo 'Deployment/d in a: 0 of 1 ready' >$D/waits; pods_say; grep -q waiting $D/why")
            .says("k3s kubectl*get pods*", "d-1|Pending||| waiting"),
    );
    let made =
        case("d-1|Pending|||ContainerCreating ContainerCreating |a\nd-2|Pending||PodInitializing |PodInitializing |a")
            .says("k3s kubectl*get events*", "d-1: no sandbox\nd-2: the volume cannot be mounted\nd-3: unhealthy");
    let run = made.refuses("d-1: no sandbox");
    assert!(
        run.stdout.contains("d-2: the volume cannot be mounted") && !run.stdout.contains("unhealthy"),
        "{}",
        run.stdout
    );
    check(
        k3s("D=/run/bramble; echo a >$D/spaces; echo 'd-1|Pending|||ContainerCreating |a' >$D/pods; events_say; cat $D/told")
            .says("k3s kubectl*get events*", "d-1: no sandbox"),
    );
    case("d-1|Pending|0/1 nodes are available: insufficient memory||").refuses("insufficient memory");
}

#[test]
fn instances_of_another_addons_definitions_wait_for_its_webhook() {
    let said = "Internal error occurred: failed calling webhook \"webhook.cert-manager.io\"";
    let case = k3s("addon_apply a /run/bramble/lines ''")
        .file("/run/bramble/lines", "2\tcert-manager.io/Certificate/a/c\t{}\t{}\n")
        .on("k3s kubectl*apply*objects", &format!("if [ -e $R/x ]; then :; else : >$R/x; echo '{said}'; false; fi"));
    let run = case.run(None);
    assert!(run.code == 0 && run.stdout.contains("@waiting a webhook"), "{}", run.stdout);
    let other = k3s("addon_apply a /run/bramble/lines ''")
        .file("/run/bramble/lines", "2\tx.io/Certificate/a/c\t{}\t{}\n")
        .on("k3s kubectl*apply*objects", "echo 'no matches for kind'; false");
    other.refuses("no matches for kind");
}

#[test]
fn a_provisioner_stays_as_long_as_somebody_has_a_volume_of_it() {
    let with = |volumes: &str| {
        k3s("addon_remove a ''")
            .on("k3s kubectl*get configmap*", "printf '2\\tstorage.k8s.io/StorageClass/default/local-path\\t{}\\n'")
            .on("k3s kubectl*get persistentvolumes*", volumes)
    };
    let run = with("echo 'local-path|Bound|shop/data|pvc-1'").refuses("shop/data (pvc-1, class local-path)");
    assert!(!run.called("k3s kubectl*delete*"), "{:?}", run.calls);
    check(with("echo 'other|Bound|shop/data|pvc-1'"));
    check(k3s("D=/run/bramble; printf '2\\tapps/Deployment/a/a\\t{}\\n' >$D/old; without_volumes $D/old"));
    // What is released goes by itself.
    let going = "if [ -e $R/x ]; then :; else : >$R/x; echo 'local-path|Released|shop/data|pvc-1'; fi";
    assert_eq!(with(going).run(None).code, 0);
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
