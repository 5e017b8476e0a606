//! Many names in few words: `kube[1-8,10], nas`.

/// Names that are listed one by one.
const LISTED: usize = 4;

/// Writes names down, a few one by one, many as ranges of their last numbers; their order is kept.
pub fn name_ranges<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    if names.len() <= LISTED {
        return names.join(", ");
    }
    let mut runs: Vec<Run> = Vec::new();
    for name in names {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let digits = &name[stem.len()..];
        // With leading zeros it is no number to count with, and neither is a long one.
        let number = digits.parse::<u32>().ok().filter(|number| number.to_string() == digits);
        match (number, runs.last_mut()) {
            (Some(number), Some(run)) if run.stem == stem && !run.ranges.is_empty() => match run.ranges.last_mut() {
                Some((_, end)) if number.checked_sub(1) == Some(*end) => *end = number,
                _ => run.ranges.push((number, number)),
            },
            (Some(number), _) => runs.push(Run { stem, ranges: vec![(number, number)] }),
            (None, _) => runs.push(Run { stem: name, ranges: Vec::new() }),
        }
    }
    runs.iter().map(Run::text).collect::<Vec<_>>().join(", ")
}

/// The same within one line of a terminal: of names that do not fold well, the first ones and how many there are.
pub fn short_name_ranges<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const LINE: usize = 100;
    let names: Vec<&str> = names.into_iter().collect();
    let whole = name_ranges(names.iter().copied());
    match names.as_slice() {
        [first, second, rest @ ..] if whole.len() > LINE && !rest.is_empty() => {
            format!("{first}, {second} and {} others", rest.len())
        }
        _ => whole,
    }
}

/// Names that differ in their last number.
struct Run<'a> {
    stem: &'a str,
    /// First and last of each, both included; empty for a name without a number.
    ranges: Vec<(u32, u32)>,
}

impl Run<'_> {
    fn text(&self) -> String {
        let range = |(first, last): &(u32, u32)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        };
        match self.ranges.as_slice() {
            [] => self.stem.to_owned(),
            [(first, last)] if first == last => format!("{}{first}", self.stem),
            ranges => format!("{}[{}]", self.stem, ranges.iter().map(range).collect::<Vec<_>>().join(",")),
        }
    }
}

/// Puts together what is the same for several names; the order is that of the first of each.
pub fn group<'a, T: PartialEq>(items: impl IntoIterator<Item = (&'a str, T)>) -> Vec<(Vec<&'a str>, T)> {
    let mut groups: Vec<(Vec<&str>, T)> = Vec::new();
    for (name, item) in items {
        match groups.iter_mut().find(|(_, other)| *other == item) {
            Some((names, _)) => names.push(name),
            None => groups.push((vec![name], item)),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_names_are_listed_and_many_are_folded() {
        assert_eq!(name_ranges(["kube1", "kube2", "kube3", "kube4"]), "kube1, kube2, kube3, kube4");
        assert_eq!(name_ranges(["kube1", "kube2", "kube3", "kube4", "kube6", "nas"]), "kube[1-4,6], nas");
        assert_eq!(name_ranges(["a01", "a02", "a03", "b1", "c2"]), "a01, a02, a03, b1, c2");
        assert_eq!(name_ranges(["r1-n1", "r1-n2", "r2-n1", "r2-n2", "pi"]), "r1-n[1-2], r2-n[1-2], pi");
        assert_eq!(name_ranges(["a9", "a10", "a11", "a99999999999", "a"]), "a[9-11], a99999999999, a");
        let thousand: Vec<String> = (0..1000).map(|n| format!("n{n}")).collect();
        assert_eq!(name_ranges(thousand.iter().map(String::as_str)), "n[0-999]");
    }

    #[test]
    fn what_is_the_same_is_put_together() {
        let groups = group([("a", 1), ("b", 2), ("c", 1)]);
        assert_eq!(groups, [(vec!["a", "c"], 1), (vec!["b"], 2)]);
    }
}
