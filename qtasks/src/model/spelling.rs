//! Names that people have misspelled.

/// The name that differs from this one by few letters, if there is one.
pub(crate) fn nearest<'n>(name: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let (distance, nearest) = names.into_iter().map(|known| (distance(known, name), known)).min()?;
    is_near(distance, name).then_some(nearest)
}

/// Whether a name that differs by so many letters from this one may be meant.
pub(crate) fn is_near(distance: usize, name: &str) -> bool {
    distance <= name.len() / 3
}

/// What is said behind an error for the name that may be meant.
pub(crate) fn did_you_mean(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

/// How many letters differ: the
/// [Levenshtein distance](https://en.wikipedia.org/wiki/Levenshtein_distance#Iterative_with_two_matrix_rows).
pub(crate) fn distance(one: &str, other: &str) -> usize {
    let other: Vec<_> = other.chars().collect();
    let mut row: Vec<_> = (0..=other.len()).collect();
    for (at, c) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (position, &d) in other.iter().enumerate() {
            let changed = diagonal + usize::from(c != d);
            diagonal = row[position + 1];
            row[position + 1] = changed.min(diagonal + 1).min(row[position] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_differs_by_few_letters_may_be_meant() {
        let names = ["memory", "sqlite", "redis", "postgres"];
        for (name, meant) in [
            ("sqllite", Some("sqlite")),
            ("postgre", Some("postgres")),
            ("reddis", Some("redis")),
            ("mysql", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, names), meant, "{name}");
        }
        assert_eq!(nearest("redis", []), None);
        assert_eq!((distance("kitten", "sitting"), distance("", "abc"), distance("same", "same")), (3, 3, 0));
    }
}
