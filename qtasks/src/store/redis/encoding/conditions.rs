//! Which jobs a search finds, as the script takes it. The script passes over jobs that cannot be among them, and
//! [`Find::passes`] decides about the others.

use super::codes::state_code;
use crate::{
    model::job::StateKind,
    store::{Find, codec::millis},
};

const STATES: [StateKind; 5] =
    [StateKind::Waiting, StateKind::Running, StateKind::Done, StateKind::Dead, StateKind::Cancelled];

/// The states, or nothing where all will do; the text of the error; four times; and the tasks, queues, words and arguments, each
/// list behind its length. Each argument is two lists: where it is, and its values.
pub(crate) fn conditions(find: &Find) -> Vec<Vec<u8>> {
    let states = STATES.iter().filter(|state| find.passes_state(**state));
    let states: String = states.map(|state| state_code(*state).to_string()).collect();
    let error = find.error.as_ref().map(|text| text.to_lowercase()).unwrap_or_default();
    let times = [find.after, find.before, find.ended_after, find.ended_before];
    let mut all = vec![if states.len() == STATES.len() { String::new() } else { states }, error];
    all.extend(times.map(|time| time.map(|time| millis(time).to_string()).unwrap_or_default()));
    let mut list = |texts: Vec<String>| {
        all.push(texts.len().to_string());
        all.extend(texts);
    };
    list(find.tasks.clone());
    list(find.queues.clone());
    list(find.words.iter().map(|word| word.to_lowercase()).collect());
    all.push(find.args.len().to_string());
    for arg in &find.args {
        for texts in [&arg.path, &arg.values] {
            all.push(texts.len().to_string());
            all.extend(texts.iter().cloned());
        }
    }
    all.into_iter().map(String::into_bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::FindArg;

    #[test]
    fn the_script_is_told_what_may_be_found() {
        let find = Find { error: Some("No".into()), words: vec!["MAIL".into()], ..Find::default() }.task("x");
        let arg = FindArg { path: vec!["user".into(), "id".into()], values: vec!["42".into()] };
        let find = Find { args: vec![arg], ..find };
        let told = ["34", "no", "", "", "", "", "1", "x", "0", "1", "mail", "1", "2", "user", "id", "1", "42"];
        assert_eq!(conditions(&find), told.map(str::as_bytes));
    }
}
