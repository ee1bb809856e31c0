//! Time zones by their names. They come with the program, so that a container without them has them too.

use jiff::tz::{self, TimeZone};

use super::wrong::ScheduleError;
use crate::model::spelling::{distance, is_near};

/// The zone of this name.
///
/// # Errors
///
/// [`ScheduleError::Timezone`], with the name that is most like it.
pub(super) fn find(name: &str) -> Result<TimeZone, ScheduleError> {
    if name == "UTC" {
        return Ok(TimeZone::UTC);
    }
    tz::db().get(name).map_err(|_| ScheduleError::Timezone { timezone: name.to_owned(), nearest: nearest(name) })
}

/// The name that is most like this one: a city by its own name, or a name that differs by few letters.
fn nearest(name: &str) -> Option<String> {
    let wanted = plain(name);
    let names: Vec<_> = tz::db().available().map(|name| name.as_str().to_owned()).collect();
    let city = |name: &str| plain(name.rsplit('/').next().unwrap_or(name));
    if let Some(found) = names.iter().find(|name| city(name) == wanted) {
        return Some(found.clone());
    }
    let by_distance =
        names.into_iter().map(|name| (distance(&plain(&name), &wanted).min(distance(&city(&name), &wanted)), name));
    let (distance, name) = by_distance.min()?;
    is_near(distance, &wanted).then_some(name)
}

/// A name as people may write it: without case, spaces and underscores.
fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, ' ' | '_' | '-')).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_zone_names_the_nearest() {
        let text = |name| find(name).unwrap_err().to_string();
        assert_eq!(text("Europe/Mosow"), "there is no time zone `Europe/Mosow`; did you mean `Europe/Moscow`?");
        assert_eq!(text("Tokyo"), "there is no time zone `Tokyo`; did you mean `Asia/Tokyo`?");
        assert_eq!(
            text("america/new york"),
            "there is no time zone `america/new york`; did you mean `America/New_York`?"
        );
        assert_eq!(text("Middle/Earth/Shire"), "there is no time zone `Middle/Earth/Shire`");
        assert!(find("Europe/Berlin").is_ok() && find("UTC").is_ok());
    }

    #[test]
    fn letters_that_differ_are_counted() {
        let counts =
            [("", "abc"), ("kitten", "sitting"), ("flaw", "lawn"), ("a", "a")].map(|(one, other)| distance(one, other));
        assert_eq!(counts, [3, 3, 2, 0]);
    }
}
