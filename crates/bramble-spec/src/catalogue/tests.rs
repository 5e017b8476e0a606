use super::*;

/// Every entry of the built-in files, with the names of its figures and its sources.
fn entries() -> Vec<(String, Vec<&'static str>, From)> {
    let catalogue = Catalogue::built_in();
    let families = catalogue.families.values().map(|family| (family.id.clone(), family.figures(), family.from.clone()));
    let needs = catalogue.needs.values().map(|need| (need.id.clone(), need.figures(), need.from.clone()));
    let parts = catalogue.parts().map(|part| (part.id().to_owned(), part.figures(), part.from().clone()));
    families.chain(needs).chain(parts).collect()
}

#[test]
fn every_file_can_be_read_and_every_figure_has_a_source() {
    let mut catalogue = Catalogue::default();
    for (name, text) in BUILT_IN {
        assert_eq!(catalogue.extend(name, text), Vec::<String>::new());
    }
    let all = entries();
    assert!(all.len() > 100, "{}", all.len());
    for (id, figures, from) in all {
        for figure in figures {
            let source = from.of(figure).unwrap_or_else(|| panic!("{figure} of {id} has no source"));
            let source = catalogue.sources.get(source).unwrap_or_else(|| panic!("{id}: no source is called {source}"));
            assert!(!source.title.is_empty() && source.read.starts_with("20"), "{id}: {source:?}");
        }
    }
    for source in catalogue.sources.values() {
        assert!(source.url.as_ref().is_none_or(|url| url.starts_with("http")), "{source:?}");
    }
}

#[test]
fn every_entry_has_what_its_kind_cannot_do_without() {
    for part in Catalogue::built_in().parts() {
        let (id, figures) = (part.id(), part.figures());
        let needed: &[&str] = match part.as_ref() {
            Part::Board(board) if board.id.starts_with("generic-") => &[],
            Part::Board(board) => {
                assert!(board.family.is_some(), "{id}");
                &["cores", "memory"]
            }
            Part::Supply(_) => &["output", "volts", "connector"],
            Part::Charger(_) => &["ports", "output"],
            Part::Switch(_) => &["ports"],
            Part::Disk(_) => &["kind", "size"],
            Part::Case(_) => &["boards"],
            Part::Heatsink(_) => &["fits", "boards"],
            Part::Cable(_) => &["kind", "pack"],
            Part::Hat(_) => &["fits"],
            Part::Accelerator(_) => &["chip"],
            Part::Router(_) | Part::Adapter(_) | Part::Fan(_) | Part::Other(_) => &[],
        };
        assert_ne!(part.name(), id, "{id} has no name");
        for figure in needed {
            assert!(figures.contains(figure), "{id} has no {figure}");
        }
    }
    let board = Catalogue::built_in().board("rpi-4b-4gb").expect("a board of the catalogue");
    assert_eq!(board.memory, Some(4096));
    assert_eq!(board.figure(|family| family.worst).map(|worst| worst.0), Some(15_300));
}

#[test]
fn a_file_adds_parts_and_overrides_single_figures() {
    let mut catalogue = Catalogue::clone(Catalogue::built_in());
    let mistakes = catalogue.extend(
        "parts.yaml",
        "sources: { shop: { title: a shop, read: 2026-11 } }\n\
         boards:\n- { id: rpi-4b-4gb, price: $99.00, from: shop }\n\
         families:\n- { id: rpi-4b, load: 7 W }\n\
         switches:\n- { id: own-switch, name: my switch, ports: 16, from: shop }\n",
    );
    assert_eq!(mistakes, Vec::<String>::new());
    let board = catalogue.board("rpi-4b-4gb").expect("the board");
    assert_eq!(board.price.map(|price| price.to_string()).as_deref(), Some("$99.00"));
    assert_eq!(
        (board.memory, board.from.of("price"), board.from.of("memory")),
        (Some(4096), Some("shop"), Some("makers"))
    );
    let family = board.family.as_ref().expect("its family");
    assert_eq!((family.load.map(|load| load.0), family.idle.map(|idle| idle.0)), (Some(7000), Some(2700)));
    // Nobody says where the new figure is from.
    assert_eq!(family.from.of("load"), Some("own"));
    assert!(catalogue.part("own-switch").is_some());
}

#[test]
fn mistakes_name_the_file_the_line_and_the_next_step() {
    let mut catalogue = Catalogue::clone(Catalogue::built_in());
    let mistakes = catalogue.extend(
        "parts.yaml",
        "disks:\n- { id: a, size: 64 }\n- { id: b, sise: 64 GB }\n- { id: tl-sg108 }\n- { id: c, from: nowhere }\n\
         boards:\n- { id: mine }\n- { id: other, arch: arm64, family: none }\n",
    );
    let text = mistakes.join("\n");
    for part in [
        "parts.yaml, line 2: `64` has no unit",
        "write it like 64 GB",
        "parts.yaml, line 3: unknown key `sise`; did you mean `size`?",
        "`tl-sg108` is the id of another kind of part",
        "the source `nowhere` of `c` is not listed",
        "the board `mine` needs an `arch`",
        "the board `other` is of no known family: `none`",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}
