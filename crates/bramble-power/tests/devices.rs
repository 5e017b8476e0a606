//! Devices that are asked over HTTP, and programs: against servers that answer as the makers' documents say, not against devices.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bramble_power::{Credentials, Outlet, PowerError, Reading};
use bramble_spec::load;

/// What a server was asked.
struct Asked {
    method: String,
    path: String,
    headers: HashMap<String, String>,
    body: String,
}

/// What it answers: a status, further headers, and a body.
type Answer = (u16, &'static str, String);

fn ok(body: &str) -> Answer {
    (200, "", body.to_owned())
}

/// Starts a server that lives as long as the test; gives its address.
fn server(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            std::thread::spawn(move || talk(&stream, &*answer));
        }
    });
    address
}

fn talk(stream: &TcpStream, answer: &dyn Fn(&Asked) -> Answer) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        let mut words = first.split_whitespace().map(str::to_owned);
        let (method, path) = (words.next().unwrap(), words.next().unwrap());
        let mut headers = HashMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim().split_once(": ") else { break };
            headers.insert(name.to_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let (status, more, text) = answer(&Asked { method, path, headers, body: String::from_utf8(body).unwrap() });
        let head = format!(
            "HTTP/1.1 {status} x\r\n{more}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        (&mut &*stream).write_all((head + &text).as_bytes()).unwrap();
    }
}

/// The outlet of a node with this control.
fn outlet(control: &str, outlet: &str, credentials: &str) -> Outlet {
    let outlet = if outlet.is_empty() { String::new() } else { format!("outlet: {outlet}, ") };
    let text = format!(
        "cluster: c\nnetwork: {{ subnet: 10.0.0.0/24 }}\ndistribution: {{ kubeadm: {{ version: \"1.36\" }} }}\nnodes:\n  \
         - {{ name: kube1, role: control-plane, board: rpi-4b-8gb, address: 10.0.0.51, hardware: {{ {outlet}control: {{ {control} }} }} }}\n"
    );
    let loaded = load(Path::new("bramble.yaml"), &text);
    assert!(!loaded.report.has_errors(), "{}", loaded.report.render(false));
    let cluster = &loaded.clusters[0];
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credentials");
    std::fs::write(&file, credentials).unwrap();
    Outlet::of(cluster, &cluster.nodes[0], Credentials::read(&file).unwrap()).unwrap()
}

/// Switches an outlet off and on, and asks it each time.
async fn off_and_on(outlet: &Outlet, watts: Option<f64>) {
    outlet.set(false).await.unwrap();
    assert_eq!(outlet.read().await.unwrap().on, Some(false));
    outlet.set(true).await.unwrap();
    assert_eq!(outlet.read().await.unwrap(), Reading { on: Some(true), watts });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_of_routeros_as_its_rest_api_is_documented() {
    let mode = Mutex::new("auto-on".to_owned());
    let address = server(move |asked| {
        // "admin:secret"
        if asked.headers.get("authorization").map(String::as_str) != Some("Basic YWRtaW46c2VjcmV0") {
            return (
                401,
                "WWW-Authenticate: Basic realm=\"RouterOS\"\r\n",
                r#"{"error":401,"message":"Unauthorized"}"#.into(),
            );
        }
        let mut mode = mode.lock().unwrap();
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/rest/interface/ethernet/ether3") => {
                ok(&format!(r#"{{".id":"*3","name":"ether3","poe-out":"{mode}"}}"#))
            }
            ("GET", "/rest/interface/ethernet/sfp1") => ok(r#"{".id":"*9","name":"sfp1"}"#),
            ("PATCH", "/rest/interface/ethernet/ether3") => {
                *mode = asked.body.split('"').nth(3).unwrap().to_owned();
                ok("{}")
            }
            ("POST", "/rest/interface/ethernet/poe/monitor") if asked.body.contains("ether3") => ok(
                r#"[{"name":"ether3","poe-out-status":"powered-on","poe-out-voltage":"53.1","poe-out-power":"4.7"}]"#,
            ),
            _ => (404, "", r#"{"detail":"no such item","error":404,"message":"Not Found"}"#.into()),
        }
    });
    let control = format!("mikrotik: \"{address}\"");
    const LOGIN: &str = "user = admin\npassword = secret\n";
    off_and_on(&outlet(&control, "3", LOGIN), Some(4.7)).await;
    for (number, login, says) in [
        ("9", LOGIN, "it has no outlet 9, on which kube1 is said to be"),
        ("sfp1", LOGIN, "sfp1 gives no power"),
        ("3", "", "it asks for a user"),
        ("3", "user = admin\npassword = wrong\n", "user or password"),
        ("", LOGIN, "which outlet of RouterOS at"),
    ] {
        let said = outlet(&control, number, login).read().await.unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_of_a_turing_pi_with_its_old_and_its_new_firmware() {
    for nested in [true, false] {
        let on = Mutex::new(true);
        let address = server(move |asked| {
            let mut on = on.lock().unwrap();
            if let Some(value) = asked.path.strip_prefix("/api/bmc?opt=set&type=power&node2=") {
                *on = value == "1";
                return ok(r#"{"response":[{"result":"ok"}]}"#);
            }
            assert_eq!(asked.path, "/api/bmc?opt=get&type=power");
            let nodes = format!(r#"{{"node1":"0","node2":"{}","node3":"0","node4":"0"}}"#, u8::from(*on));
            ok(&if nested {
                format!(r#"{{"response":[{{"result":[{nodes}]}}]}}"#)
            } else {
                format!(r#"{{"response":[[{nodes}]]}}"#)
            })
        });
        let control = format!("turing-pi: \"{address}\"");
        off_and_on(&outlet(&control, "2", ""), None).await;
        assert!(outlet(&control, "5", "").read().await.unwrap_err().to_string().contains("it has no outlet 5"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plugs_of_shelly_of_the_first_and_the_second_generation() {
    let on = Mutex::new(true);
    let address = server(move |asked| {
        let mut on = on.lock().unwrap();
        match asked.path.as_str() {
            "/shelly" => ok(r#"{"id":"shellyplusplugs-x","gen":2,"auth_en":true}"#),
            path => {
                let entry = asked.headers.get("authorization").cloned().unwrap_or_default();
                if !(entry.starts_with("Digest ")
                    && entry.contains("username=\"admin\"")
                    && entry.contains("algorithm=SHA-256"))
                {
                    let asks = "WWW-Authenticate: Digest qop=\"auth\", realm=\"shellyplusplugs-x\", nonce=\"1\", algorithm=SHA-256\r\n";
                    return (401, asks, "{}".into());
                }
                match path {
                    "/rpc/Switch.GetStatus?id=0" => ok(&format!(r#"{{"id":0,"output":{on},"apower":6.3}}"#)),
                    "/rpc/Switch.Set?id=0&on=true" => {
                        *on = true;
                        ok(r#"{"was_on":false}"#)
                    }
                    "/rpc/Switch.Set?id=0&on=false" => {
                        *on = false;
                        ok(r#"{"was_on":true}"#)
                    }
                    _ => (404, "", r#"{"code":404,"message":"No handler"}"#.into()),
                }
            }
        }
    });
    off_and_on(&outlet(&format!("shelly: \"{address}\""), "", "user = admin\npassword = x\n"), Some(6.3)).await;

    let on = Mutex::new(true);
    let address = server(move |asked| {
        let mut on = on.lock().unwrap();
        match asked.path.as_str() {
            "/shelly" => ok(r#"{"type":"SHPLG-S","mac":"1","auth":false}"#),
            "/meter/0" => ok(r#"{"power":5.5,"is_valid":true}"#),
            path => {
                *on = match path {
                    "/relay/0?turn=on" => true,
                    "/relay/0?turn=off" => false,
                    _ => *on,
                };
                ok(&format!(r#"{{"ison":{on}}}"#))
            }
        }
    });
    off_and_on(&outlet(&format!("shelly: \"{address}\""), "", ""), Some(5.5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_with_tasmota_one_of_several_and_one_alone() {
    for (relay, key) in [("2", "POWER2"), ("", "POWER")] {
        let on = Mutex::new(true);
        let address = server(move |asked| {
            let mut on = on.lock().unwrap();
            let Some(command) = asked.path.strip_prefix("/cm?user=admin&password=a%20b%26&cmnd=") else {
                return ok(r#"{"WARNING":"Need user=<username>&password=<password>"}"#);
            };
            if command == "Status%208" {
                let watts = if relay.is_empty() { "3" } else { "[0,3]" };
                return ok(&format!(r#"{{"StatusSNS":{{"ENERGY":{{"Power":{watts}}}}}}}"#));
            }
            let rest = command.strip_prefix(&format!("Power{relay}")).unwrap();
            *on = match rest {
                "%20On" => true,
                "%20Off" => false,
                _ => *on,
            };
            ok(&format!(r#"{{"{key}":"{}"}}"#, if *on { "ON" } else { "OFF" }))
        });
        let control = format!("tasmota: \"{address}\"");
        off_and_on(&outlet(&control, relay, "user = admin\npassword = a b&\n"), Some(3.0)).await;
        let said = outlet(&control, relay, "").read().await.unwrap_err();
        assert!(matches!(&said, PowerError::NoEntry { .. }), "{said}");
    }
}

/// Answers a question about one number of SNMP v2c (RFC 3416) with a 1.
fn number_one(question: &[u8]) -> Vec<u8> {
    // All lengths are those of short messages: one byte each, at which a 1 instead of a NULL adds one.
    assert!(question.len() < 127 && question.ends_with(&[5, 0]));
    let pdu = 7 + usize::from(question[6]);
    let variables = pdu + 4 + usize::from(question[pdu + 3]) + 6;
    let mut answer = question[..question.len() - 2].to_vec();
    answer[pdu] = 0xa2;
    for length in [1, pdu + 1, variables + 1, variables + 3] {
        answer[length] += 1;
    }
    answer.extend([2, 1, 1]);
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_whose_first_answer_comes_after_the_second_question() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut question = [0; 200];
        let mut late = Some(std::time::Duration::from_millis(3500));
        while let Ok((length, from)) = socket.recv_from(&mut question) {
            std::thread::sleep(late.take().unwrap_or_default());
            // The one who asked first may be gone.
            socket.send_to(&number_one(&question[..length]), from).ok();
        }
    });
    let outlet = outlet(&format!("snmp: \"{address}\""), "3", "community = public\n");
    assert_eq!(outlet.read().await.unwrap(), Reading { on: Some(true), watts: None });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_takes_an_order_and_does_not_follow_it_or_is_another_one() {
    let deaf = server(|asked| match asked.path.as_str() {
        "/shelly" => ok(r#"{"type":"SHPLG-S"}"#),
        _ => ok(r#"{"ison":true}"#),
    });
    let said = outlet(&format!("shelly: \"{deaf}\""), "", "").set(false).await.unwrap_err().to_string();
    assert!(said.contains("told to switch its outlet off, and says after 10 s that it is not"), "{said}");
    let page = server(|_| (200, "", "<html>Welcome to nginx</html>".into()));
    let said = outlet(&format!("shelly: \"{page}\""), "", "").read().await.unwrap_err().to_string();
    assert!(said.contains("is it the device that the cluster file names?"), "{said}");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let said = outlet(&format!("tasmota: \"{nobody}\""), "", "").read().await.unwrap_err().to_string();
    assert!(said.contains("does not answer"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_of_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    std::fs::write(&state, "on 2.5\n").unwrap();
    let program = |script: &str| {
        format!("command: [sh, -c, '{script}', '{}', '{{action}}', '{{node}}', '{{outlet}}']", state.display())
    };
    let good = program("[ $2$3 = kube17 ] || exit 9; case $1 in status) cat \"$0\" ;; *) echo $1 2.5 >\"$0\" ;; esac");
    off_and_on(&outlet(&good, "7", ""), Some(2.5)).await;
    for (script, number, says) in [
        ("echo no such relay >&2; exit 4", "7", "`status` ended with exit status: 4: no such relay"),
        ("echo maybe", "7", "neither `on` nor `off`, but: maybe"),
        ("echo on", "", "which outlet of sh it hangs on is not said"),
    ] {
        let said = outlet(&program(script), number, "").read().await.unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
    let only_wakes = outlet("wake-on-lan: true", "", "");
    assert_eq!(only_wakes.read().await.unwrap(), Reading::default());
    assert!(matches!(only_wakes.set(false).await, Err(PowerError::OnlyWakes { .. })));
}
