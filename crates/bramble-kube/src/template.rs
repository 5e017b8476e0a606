//! Texts with values in them.

/// Fills in a text: each `@NAME@` that is known becomes its value.
pub(crate) fn fill(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some(start) = rest.find('@') {
        let (before, after) = (&rest[..start], &rest[start + 1..]);
        filled.push_str(before);
        let known = values.iter().find_map(|(name, value)| Some((value, after.strip_prefix(name)?.strip_prefix('@')?)));
        rest = match known {
            Some((value, behind)) => {
                filled.push_str(value);
                behind
            }
            None => {
                filled.push('@');
                after
            }
        };
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_become_their_values_once() {
        let values = [("NAME", "@OTHER@"), ("OTHER", "x")];
        assert_eq!(fill("a @NAME@ b@OTHER@\n\"$@\" @UNKNOWN@", &values), "a @OTHER@ bx\n\"$@\" @UNKNOWN@");
    }
}
