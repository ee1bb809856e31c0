//! Jobs of which there is one at a time: which job holds a key, and what becomes of a call while another one does.

pub(crate) mod key;

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use super::job::{Duplicate, Unique};
use super::{
    job::{JobId, NewJob, StateKind},
    lifecycle::later,
};

/// The key of a call, and how its job is to hold it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyedCall {
    pub(crate) key: String,
    pub(crate) on_duplicate: Duplicate,
    /// For how long after its enqueue the job holds the key at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lasting: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) put_off: Option<Duration>,
}

impl KeyedCall {
    /// How a job holds the key that is enqueued at this time.
    pub(crate) fn enqueued(&self, at: Timestamp) -> Unique {
        let until = self.lasting.map(|lasting| later(at, lasting));
        Unique { on_duplicate: self.on_duplicate, until, put_off: self.put_off }
    }
}

/// The job that has taken a key last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The job.
    pub job: JobId,
    /// Until when it holds the key at least.
    pub until: Option<Timestamp>,
    /// How the job stands; nothing if it is not there any more.
    pub there: Option<HolderState>,
}

/// How a job stands that has taken a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HolderState {
    /// The state that it is in.
    pub state: StateKind,
    /// The number of its latest attempt.
    pub attempt: u32,
    /// When it was enqueued.
    pub enqueued: Timestamp,
}

/// What becomes of a call that has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Its job takes the key.
    Takes,
    /// The holder is the job of the call.
    Joins,
    /// The holder is the job of the call, with the call's arguments and priority, and is due at this time.
    Replaces(Timestamp),
    /// The call is refused.
    Refused,
}

impl Holder {
    /// Whether it holds the key at this time.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.there.is_some_and(|there| !there.state.is_ended()) || self.until.is_some_and(|until| until > now)
    }
}

impl Unique {
    /// What becomes of a call while this is the holder of its key. A call that is made again finds its own job.
    pub fn claim(&self, new: &NewJob, holder: &Holder) -> Claim {
        if holder.job == new.call.id || !holder.holds(new.call.enqueued) {
            return Claim::Takes;
        }
        let waits = |there: &HolderState| there.state == StateKind::Waiting && there.attempt == 0;
        match (self.on_duplicate, holder.there.filter(waits)) {
            (Duplicate::Refuse, _) => Claim::Refused,
            (Duplicate::Replace, Some(there)) => {
                let latest = self.put_off.map_or(Timestamp::MAX, |most| later(there.enqueued, most));
                Claim::Replaces(new.due.min(latest))
            }
            (Duplicate::Replace | Duplicate::Join, _) => Claim::Joins,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{job::JobCall, json::Json};

    const NOW: Timestamp = Timestamp::constant(1_700_000_000, 0);

    fn new() -> NewJob {
        NewJob::from(JobCall {
            id: JobId::new(),
            task: "t".into(),
            queue: "default".into(),
            priority: 0,
            args: Json::from_stored("{}"),
            max_time: None,
            expires: None,
            enqueued: NOW,
            trace: None,
            key: Some("k".into()),
            after: None,
        })
    }

    fn holder(state: StateKind, attempt: u32) -> Holder {
        let there = Some(HolderState { state, attempt, enqueued: NOW - Duration::from_secs(50) });
        Holder { job: JobId::new(), until: None, there }
    }

    fn claims(on_duplicate: Duplicate, holder: &Holder) -> Claim {
        Unique { on_duplicate, ..Unique::default() }.claim(&new(), holder)
    }

    #[test]
    fn a_job_that_lives_holds_its_key_and_one_that_has_ended_does_not() {
        use Duplicate::{Join, Refuse, Replace};
        for (state, attempt) in [(StateKind::Waiting, 0), (StateKind::Waiting, 2), (StateKind::Running, 1)] {
            let holder = holder(state, attempt);
            let is_new = attempt == 0;
            assert_eq!(claims(Join, &holder), Claim::Joins);
            assert_eq!(claims(Refuse, &holder), Claim::Refused);
            assert_eq!(claims(Replace, &holder), if is_new { Claim::Replaces(NOW) } else { Claim::Joins });
        }
        for state in [StateKind::Done, StateKind::Dead, StateKind::Cancelled] {
            for policy in [Join, Refuse, Replace] {
                assert_eq!(claims(policy, &holder(state, 1)), Claim::Takes);
            }
        }
        assert_eq!(claims(Join, &Holder { there: None, ..holder(StateKind::Done, 1) }), Claim::Takes);
    }

    #[test]
    fn a_key_may_be_held_for_a_time_whatever_becomes_of_the_job() {
        let after = Some(NOW + Duration::from_millis(1));
        for there in [None, holder(StateKind::Done, 1).there] {
            let held = Holder { until: after, there, ..holder(StateKind::Done, 1) };
            assert_eq!(claims(Duplicate::Join, &held), Claim::Joins);
            assert_eq!(claims(Duplicate::Replace, &held), Claim::Joins, "what has ended is not replaced");
            assert_eq!(claims(Duplicate::Refuse, &held), Claim::Refused);
            assert_eq!(claims(Duplicate::Join, &Holder { until: Some(NOW), ..held }), Claim::Takes);
        }
    }

    #[test]
    fn a_job_is_put_off_for_so_long_and_no_longer() {
        let holder = holder(StateKind::Waiting, 0);
        let put_off = |seconds, most| {
            let new = NewJob { due: NOW + Duration::from_secs(seconds), ..new() };
            let put_off = Some(Duration::from_secs(most));
            Unique { on_duplicate: Duplicate::Replace, put_off, until: None }.claim(&new, &holder)
        };
        assert_eq!(put_off(5, 60), Claim::Replaces(NOW + Duration::from_secs(5)));
        assert_eq!(put_off(15, 60), Claim::Replaces(NOW + Duration::from_secs(10)));
    }

    #[test]
    fn a_call_that_is_made_again_finds_its_own_job() {
        let (new, unique) = (new(), Unique { on_duplicate: Duplicate::Refuse, ..Unique::default() });
        assert_eq!(unique.claim(&new, &Holder { job: new.call.id, ..holder(StateKind::Running, 1) }), Claim::Takes);
    }
}
