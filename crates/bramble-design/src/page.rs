//! One page with everything: findings, pictures, parts, what is left for workloads. It needs nothing from elsewhere.

use std::fmt::Write;

use bramble_spec::{Cluster, Problem, Severity, short_name_ranges};

use crate::compare::Summary;
use crate::picture::{self, STYLE, Theme, escape};
use crate::{Bill, Design};

const PAGE: &str = "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--text);font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}main{max-width:1120px;margin:0 auto;padding:20px 16px 60px}h1{font-size:26px;margin:8px 0 2px}h2{font-size:19px;margin:36px 0 10px}p.dim,.dim{color:var(--dim)}.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px;margin:18px 0}.tile{background:var(--card);border:1px solid var(--edge);border-radius:8px;padding:10px 12px;overflow-wrap:anywhere}.tile b{display:block;font-size:19px}.tile span{color:var(--dim);font-size:13px}.finding{border:1px solid var(--edge);border-left:5px solid var(--edge);border-radius:6px;background:var(--card);padding:9px 12px;margin:8px 0;overflow-wrap:anywhere}.finding.error{border-left-color:var(--bad)}.finding.warning{border-left-color:var(--warn)}.finding small{color:var(--dim)}.tag{font-weight:600}.error .tag{color:var(--bad)}.warning .tag{color:var(--warn)}.scroll{overflow-x:auto;border:1px solid var(--edge);border-radius:8px;background:var(--bg)}.scroll svg{display:block}table{border-collapse:collapse;width:100%;font-size:14px}th,td{text-align:left;padding:6px 10px;border-bottom:1px solid var(--edge);vertical-align:top}th{color:var(--dim);font-weight:600}td.n,th.n{text-align:right;white-space:nowrap}tr.total td{font-weight:600;border-bottom:0}details summary{cursor:pointer;color:var(--dim)}ul{padding-left:20px;margin:6px 0}.narrow{display:none}@media(max-width:760px){.wide{display:none}.narrow{display:block}}";

/// The width of pictures on a desk and on a phone, in pixels.
const WIDE: u32 = 1060;
const NARROW: u32 = 360;

/// The page of a cluster as HTML.
pub fn page(cluster: &Cluster, design: &Design, bill: &Bill) -> String {
    let summary = Summary::of(cluster, design, bill);
    let mut body = String::new();
    let what = cluster.distribution.to_string();
    write!(body, "<h1>{}</h1><p class=\"dim\">{} nodes, {}</p>", cluster.name, cluster.nodes.len(), escape(&what)).ok();
    body.push_str("<div class=\"tiles\">");
    let (price, parts) = match (summary.price.0.is_empty(), summary.unpriced) {
        (true, _) => ("?".to_owned(), "cost; no part has a price".to_owned()),
        (false, 0) => (summary.price.to_string(), "cost, all parts".to_owned()),
        (false, n) => (summary.price.to_string(), format!("cost, without {}", counted(n, "part"))),
    };
    for (value, about) in [
        (price, parts),
        (summary.load.to_string(), format!("under load; {} idle", summary.idle)),
        (summary.worst.to_string(), "at worst".to_owned()),
        (format!("{} MiB", summary.memory), format!("for workloads, on {} cores", summary.cores)),
        (summary.single_points.to_string(), "single points of failure".to_owned()),
        (design.addresses.free.to_string(), "addresses left".to_owned()),
    ] {
        write!(body, "<div class=\"tile\"><b>{}</b><span>{}</span></div>", escape(&value), escape(&about)).ok();
    }
    body.push_str("</div>");
    findings(&mut body, design);

    body.push_str("<h2>The rack</h2>");
    both(&mut body, |width| picture::rack(cluster, design, width, None));
    if !cluster.hardware.devices.is_empty() || cluster.nodes.iter().any(|node| node.fitting.feed.is_some()) {
        body.push_str("<h2>The wiring</h2><p class=\"dim\">On each wire: its speed, the power under load, and the power at worst.</p>");
        write!(body, "<div class=\"scroll\">{}</div>", picture::wiring(cluster, design, None)).ok();
    }
    body.push_str("<h2>The network</h2>");
    both(&mut body, |width| picture::network(cluster, design, width, None));
    parts_table(&mut body, bill);
    capacity(&mut body, cluster, design, &summary);
    if !design.single_points.is_empty() {
        body.push_str("<h2>Single points of failure</h2><ul>");
        for point in &design.single_points {
            write!(body, "<li><b>{}</b>: {}</li>", escape(&point.name), escape(&point.loss)).ok();
        }
        body.push_str("</ul>");
    }
    sources(&mut body, cluster, bill);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><meta name=\"color-scheme\" content=\"light dark\"><title>{} · bramble design</title><style>{}{PAGE}{STYLE}</style></head><body><main>{body}</main></body></html>\n",
        cluster.name,
        picture::colours(Theme::Auto, ":root"),
    )
}

/// A number of things.
fn counted(number: usize, thing: &str) -> String {
    if number == 1 { format!("one {thing}") } else { format!("{number} {thing}s") }
}

/// A picture for the desk and one for the phone.
fn both(body: &mut String, draw: impl Fn(u32) -> String) {
    for (class, width) in [("wide", WIDE), ("narrow", NARROW)] {
        write!(body, "<div class=\"scroll {class}\">{}</div>", draw(width)).ok();
    }
}

fn findings(body: &mut String, design: &Design) {
    body.push_str("<h2>Findings</h2>");
    if design.findings.is_empty() {
        body.push_str("<p>Nothing is wrong.</p>");
    }
    let notes: Vec<_> = design.findings.iter().filter(|finding| finding.severity == Severity::Note).collect();
    let one = |body: &mut String, finding: &Problem| {
        let accepted = if finding.accepted { ", accepted" } else { "" };
        write!(
            body,
            "<div class=\"finding {0}\"><span class=\"tag\">{0}</span> <span class=\"dim\">{1}{accepted}</span><br><b>{2}</b>: {3}",
            finding.severity,
            finding.rule.unwrap_or_default(),
            escape(&finding.place.to_string()),
            escape(&finding.message)
        )
        .ok();
        if !finding.figures.is_empty() {
            let figures: Vec<String> =
                finding.figures.iter().map(|(name, value)| format!("{}: {}", escape(name), escape(value))).collect();
            write!(body, "<br><small>{}</small>", figures.join(" · ")).ok();
        }
        write!(body, "<br>→ {}</div>", escape(finding.next.as_deref().unwrap_or_default())).ok();
    };
    for finding in design.findings.iter().filter(|finding| finding.severity != Severity::Note) {
        one(body, finding);
    }
    if !notes.is_empty() {
        write!(body, "<details><summary>{}</summary>", counted(notes.len(), "note")).ok();
        notes.into_iter().for_each(|finding| one(body, finding));
        body.push_str("</details>");
    }
}

fn parts_table(body: &mut String, bill: &Bill) {
    body.push_str("<h2>Parts</h2><div class=\"scroll\"><table><tr><th class=\"n\">Number</th><th>Part</th><th class=\"n\">Price</th><th class=\"n\">Sum</th><th>Instead</th></tr>");
    for line in &bill.lines {
        let amount = |price: Option<bramble_spec::Price>| price.map_or("?".to_owned(), |price| price.to_string());
        write!(
            body,
            "<tr><td class=\"n\">{}</td><td>{} <span class=\"dim\">{}</span></td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>",
            line.quantity,
            escape(&line.name),
            line.kind,
            amount(line.price),
            amount(line.sum)
        )
        .ok();
        if !line.alternatives.is_empty() {
            write!(body, "<details><summary>{}</summary><ul>", counted(line.alternatives.len(), "other")).ok();
            for other in &line.alternatives {
                let changes: Vec<String> =
                    other.changes.iter().map(|(name, change)| format!("{name} {change}")).collect();
                let changes = if changes.is_empty() { "nothing changes".to_owned() } else { changes.join(", ") };
                write!(body, "<li>{} ({}): {}</li>", escape(&other.name), amount(other.price), escape(&changes)).ok();
            }
            body.push_str("</ul></details>");
        }
        body.push_str("</td></tr>");
    }
    let rest = match bill.unpriced {
        0 => String::new(),
        1 => " and one part without a price".to_owned(),
        n => format!(" and {n} parts without a price"),
    };
    write!(
        body,
        "<tr class=\"total\"><td></td><td>Total{rest}</td><td></td><td class=\"n\">{}</td><td></td></tr></table></div>",
        bill.total
    )
    .ok();
}

fn capacity(body: &mut String, cluster: &Cluster, design: &Design, summary: &Summary) {
    body.push_str("<h2>Left for workloads</h2><div class=\"scroll\"><table><tr><th>Node</th><th>Board</th><th class=\"n\">Memory</th><th class=\"n\">Taken</th><th class=\"n\">Left</th><th class=\"n\">Cores</th><th class=\"n\">Network</th></tr>");
    let rows: Vec<(&str, [String; 6])> = cluster
        .nodes
        .iter()
        .zip(design.capacity.iter().zip(&design.ports))
        .map(|(node, (capacity, port))| {
            let memory = |mib: u32| format!("{mib} MiB");
            let row = [
                node.board.name.clone(),
                capacity.memory.map_or("?".to_owned(), memory),
                memory(capacity.taken),
                if capacity.workloads { memory(capacity.free) } else { "takes no workloads".to_owned() },
                capacity.cores.to_string(),
                port.rate.map_or("?".to_owned(), |rate| rate.to_string()),
            ];
            (node.name.as_str(), row)
        })
        .collect();
    for (names, row) in bramble_spec::group(rows) {
        write!(body, "<tr><td><b>{}</b></td><td>{}</td>", escape(&short_name_ranges(names)), escape(&row[0])).ok();
        row[1..].iter().for_each(|cell| {
            write!(body, "<td class=\"n\">{}</td>", escape(cell)).ok();
        });
        body.push_str("</tr>");
    }
    write!(
        body,
        "<tr class=\"total\"><td>All</td><td></td><td></td><td></td><td class=\"n\">{} MiB</td><td class=\"n\">{}</td><td></td></tr></table></div><p class=\"dim\">Left is what each node has of its own kind; for nodes that share a line, each.</p>",
        summary.memory, summary.cores
    )
    .ok();
}

fn sources(body: &mut String, cluster: &Cluster, bill: &Bill) {
    let catalogue = &cluster.hardware.catalogue;
    let mut words: Vec<&str> = Vec::new();
    let ids = bill.lines.iter().filter_map(|line| catalogue.part(&line.id));
    for part in ids {
        words.extend(part.figures().into_iter().filter_map(|figure| part.from().of(figure)));
        if let bramble_spec::Part::Board(board) = part.as_ref()
            && let Some(family) = &board.family
        {
            words.extend(family.figures().into_iter().filter_map(|figure| family.from.of(figure)));
        }
    }
    words.sort_unstable();
    words.dedup();
    let listed: Vec<_> = words.into_iter().filter_map(|word| catalogue.sources.get(word)).collect();
    if listed.is_empty() {
        return;
    }
    body.push_str(
        "<h2>Where the figures are from</h2><details><summary>sources, with the day they were read</summary><ul>",
    );
    for source in listed {
        let title = escape(&source.title);
        let title = match &source.url {
            Some(url) => format!("<a href=\"{}\" style=\"color:inherit\">{title}</a>", escape(url)),
            None => title,
        };
        write!(body, "<li>{title}, {}</li>", escape(&source.read)).ok();
    }
    body.push_str("</ul></details>");
}
