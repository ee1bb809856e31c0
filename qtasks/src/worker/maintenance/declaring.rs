//! Which schedules of the code are in force, where programs that differ run on one store.
//!
//! Of the running workers that have a schedule in their code, the one that started last says what it is. Each worker finds that in
//! the cards of all; so a deploy that is half way done changes a schedule once, and nobody fires what another program has
//! changed or taken out.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use crate::{
    environment::{
        App,
        holders::Holders,
        notes::delete,
        schedules::{FoundSchedule, timetable},
    },
    error::Result,
    model::{
        job::WorkerId,
        schedule::{
            definition::CodeSchedule,
            saved::{SavedSchedule, Source},
        },
    },
    store::Written,
    telemetry,
};

/// For so long a schedule is shown that has left the code.
const SHOWN: Duration = Duration::from_secs(7 * 86_400);

/// Whether the store has the schedule just as the code of this program.
pub(crate) fn is_in_force(app: &App, found: &FoundSchedule) -> bool {
    let code = app.schedules.iter().find(|code| code.name == found.name());
    code.is_some_and(|code| code.definition == found.saved.definition) && found.saved.left.is_none()
}

/// Writes the schedules of the code that the store has not, or has otherwise, if it is up to this worker. Gives whether it was to
/// write any.
pub(crate) async fn declare<'f>(
    app: &Arc<App>,
    worker: WorkerId,
    found: impl Iterator<Item = &'f FoundSchedule> + Clone,
) -> Result<bool> {
    let now = app.now();
    let mut wanted = Vec::new();
    for code in &app.schedules {
        let found = found.clone().find(|found| found.name() == code.name);
        wanted.extend(becomes(code, found, now)?.map(|becomes| (code, found, becomes)));
    }
    if wanted.is_empty() {
        return Ok(false);
    }
    let holders = Holders::read(app).await?;
    wanted.retain(|(code, ..)| holders.last_started(&code.name).is_none_or(|last| last <= worker));
    let change = |(code, found, becomes): &(&CodeSchedule, Option<&FoundSchedule>, SavedSchedule)| {
        Ok(FoundSchedule::new(&code.name, becomes.clone())?.change_from(*found))
    };
    let changes = wanted.iter().map(change).collect::<Result<Vec<_>>>()?;
    if !changes.is_empty() {
        // Where another worker was faster, the next look sees what that has written.
        _ = app.store.note(changes, Vec::new()).await?;
    }
    Ok(!wanted.is_empty())
}

/// What is to become of the note of a schedule in the code, if it is to be another.
fn becomes(code: &CodeSchedule, found: Option<&FoundSchedule>, now: Timestamp) -> Result<Option<SavedSchedule>> {
    if found.is_some_and(|found| found.saved.is_as_declared(&code.definition)) {
        return Ok(None);
    }
    let timetable = timetable(&code.name, &code.definition)?;
    Ok(Some(match found {
        None => SavedSchedule::new(code.definition.clone(), &timetable, Source::Code, now),
        Some(found) => found.saved.declared(&code.definition, &timetable, now),
    }))
}

/// Notes of each schedule that no running worker has in its code any more that it has left, and deletes those that left long ago.
pub(crate) async fn sort_out_left(app: &Arc<App>) -> Result<()> {
    let mut found = app.found_schedules().await?;
    let is_in_own_code = |found: &FoundSchedule| app.schedules.iter().any(|code| code.name == found.name());
    found.retain(|found| found.saved.source == Source::Code && !is_in_own_code(found));
    if found.is_empty() {
        return Ok(());
    }
    let (holders, now) = (Holders::read(app).await?, app.now());
    for schedule in found.iter().filter(|found| holders.last_started(found.name()).is_none()) {
        let change = match schedule.saved.left {
            Some(left) if now.duration_since(left).unsigned_abs() > SHOWN => delete(&schedule.note),
            Some(_) => continue,
            None => {
                let left = SavedSchedule { left: Some(now), ..schedule.saved.clone() };
                schedule.becoming(left)?.change_from(schedule)
            }
        };
        if app.store.note(vec![change], Vec::new()).await? == Written::Yes && schedule.saved.left.is_none() {
            telemetry::schedule_left(schedule.name());
        }
    }
    Ok(())
}
