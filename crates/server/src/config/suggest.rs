//! Finds the name an operator meant, by optimal string alignment distance: insertions, deletions,
//! substitutions and swaps of neighbours each cost one.

/// The known name nearest to `wrong`, unless even that one is mostly different.
pub(crate) fn nearest<'k>(wrong: &str, known: &[&'k str]) -> Option<&'k str> {
    let wrong = normal(wrong);
    known
        .iter()
        .map(|name| (distance(&wrong, &normal(name)), *name))
        .filter(|(cost, name)| *cost <= (name.len().max(wrong.len()) / 2).max(1))
        .min_by_key(|(cost, _)| *cost)
        .map(|(_, name)| name)
}

/// The end of an error message about an unknown name.
pub(crate) fn hint(wrong: &str, known: &[&str]) -> String {
    match nearest(wrong, known) {
        Some(name) => format!("; did you mean `{name}`?"),
        None => format!("; known here: {}", known.join(", ")),
    }
}

/// Words in any order and spelling of separators count as near: `max-recipients` and `recipients_max`.
fn normal(name: &str) -> Vec<u8> {
    let lower = name.to_ascii_lowercase().replace('-', "_");
    let mut words: Vec<&str> = lower.split('_').collect();
    words.sort_unstable();
    words.join("_").into_bytes()
}

fn distance(left: &[u8], right: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    let mut left_previous = None;
    for (row, &l) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        let mut right_previous = None;
        for (column, &r) in right.iter().enumerate() {
            let at =
                |costs: &[usize], index: usize| costs.get(index).copied().unwrap_or(usize::MAX);
            let substitute = at(&above, column) + usize::from(l != r);
            let mut cost = substitute
                .min(at(&above, column + 1) + 1)
                .min(at(&current, column) + 1);
            if left_previous == Some(r) && right_previous == Some(l) {
                cost = cost.min(at(&before, column - 1).saturating_add(1));
            }
            current.push(cost);
            right_previous = Some(r);
        }
        left_previous = Some(l);
        before = std::mem::replace(&mut above, current);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_the_key() {
        let known = ["recipients_max", "message_size_max", "errors_max"];
        assert_eq!(nearest("recipient_max", &known), Some("recipients_max"));
        assert_eq!(nearest("recipeints_max", &known), Some("recipients_max"));
        assert_eq!(nearest("max-recipients", &known), Some("recipients_max"));
        assert_eq!(nearest("zebra", &known), None);
    }

    #[test]
    fn a_swap_of_neighbours_costs_one() {
        assert_eq!(distance(b"abcd", b"abdc"), 1);
        assert_eq!(distance(b"", b"abc"), 3);
        assert_eq!(distance(b"kitten", b"sitting"), 3);
    }
}
