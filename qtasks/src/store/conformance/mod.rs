//! The rules that every store keeps, each a test of its own.
//!
//! The author of a store has it pass them all with one line, which becomes one `#[test]` for each rule. It takes an async
//! closure that makes a fresh, empty store, and with it what must live as long: a directory of its own, or `()`. The feature
//! `conformance` of this crate must be on.
//!
//! ```
//! mod memory {
//!     use std::sync::Arc;
//!
//!     use qtasks::store::Memory;
//!
//!     qtasks::store_conformance!(async || ((), Arc::new(Memory::new()) as _));
//! }
//! ```
//!
//! Attributes before the closure, and a semicolon behind them, are put on each test: such as one to ignore them where a
//! server is missing.
//!
//! The example `log_store` of qtasks is a store that was written outside of it, and passes them.
//!
//! No rule sleeps: time comes in as an argument, as it does for every store. A rule panics where it is broken.

mod after;
mod counting;
mod ending;
mod enqueueing;
mod expiring;
mod fencing;
mod finding;
mod harness;
mod keys;
mod lease_expiry;
mod lease_on_enqueue;
mod leasing;
mod limits;
mod memos;
mod notes;
mod notifications;
mod order;
mod placing;
mod rates;
mod reading;
mod recording;
mod settling;

use std::sync::Arc;

pub use self::{
    after::*, counting::*, ending::*, enqueueing::*, expiring::*, fencing::*, finding::*, keys::*, lease_expiry::*,
    lease_on_enqueue::*, leasing::*, limits::*, memos::*, notes::*, notifications::*, order::*, placing::*, rates::*,
    reading::*, recording::*, settling::*,
};
use super::Store;

/// Makes a `#[test]` of each rule of [the suite](crate::store::conformance) for the stores that an async closure gives.
#[macro_export]
macro_rules! store_conformance {
    (@test [$($attribute:meta)*] $make:expr, $rule:ident) => {
        $(#[$attribute])*
        #[test]
        fn $rule() {
            $crate::store::conformance::check($make, $crate::store::conformance::$rule);
        }
    };
    (@tests $attributes:tt $make:expr => $($rule:ident)+) => {
        $($crate::store_conformance! { @test $attributes $make, $rule })+
    };
    ($(#[$attribute:meta])+; $make:expr) => {
        $crate::store_conformance! { @rules [$($attribute)+] $make }
    };
    (@rules $attributes:tt $make:expr) => {
        $crate::store_conformance! { @tests $attributes $make =>
            an_enqueued_job_is_kept_as_it_was_given
            enqueueing_again_changes_nothing
            a_batch_is_seen_whole_or_not_at_all
            a_leased_job_runs_at_its_next_attempt
            the_most_urgent_job_is_leased_first
            urgency_counts_across_queues_and_tasks
            a_lease_takes_no_more_than_its_limit
            a_job_is_not_leased_before_it_is_due
            the_next_due_time_is_that_of_a_job_the_worker_could_take
            a_clock_that_goes_back_makes_jobs_wait_again
            jobs_of_other_queues_are_left_alone
            jobs_of_unknown_tasks_are_left_alone_at_no_cost
            suspects_are_passed_over_unless_asked_for
            one_suspect_is_leased_at_a_time
            the_suspect_that_has_survived_least_is_leased_first
            a_suspect_is_leased_with_the_time_and_liable_as_asked
            suspects_wait_until_they_are_due
            two_workers_never_get_the_same_job
            concurrent_leases_give_each_job_once
            jobs_that_come_late_are_leased_and_read_in_order
            a_worker_whose_clock_is_behind_passes_over_what_is_not_due
            a_worker_whose_clock_is_behind_learns_when_the_next_job_is_due
            a_job_that_was_called_off_before_its_turn_is_passed_over
            a_job_that_is_in_line_again_is_leased_once
            new_jobs_come_to_a_worker_that_waits
            what_waits_already_comes_before_what_is_new
            a_worker_may_wait_more_than_once
            a_worker_that_waits_gets_only_new_jobs_that_are_due_and_its_own
            a_worker_that_waits_without_a_free_slot_is_given_nothing
            a_worker_that_waits_no_more_is_given_nothing
            renewing_gives_the_leases_that_are_held
            the_beat_of_a_worker_is_that_of_its_last_renewal
            workers_are_kept_apart
            a_worker_that_never_renewed_is_seen_by_its_jobs
            a_lease_that_was_not_taken_is_good_however_late_it_is
            clocks_that_differ_and_step_take_no_lease
            a_worker_without_jobs_outlasts_pruning
            held_jobs_are_found_up_to_the_limit
            a_worker_that_left_is_gone
            a_worker_that_left_without_jobs_is_forgotten
            only_a_silent_worker_without_jobs_is_forgotten
            a_renewal_in_time_or_another_takes_the_job
            recorded_steps_are_kept_in_order
            a_record_can_be_written_again
            a_gap_between_steps_is_an_error_and_writes_nothing
            a_new_step_sets_the_failures_to_0
            records_are_answered_in_order
            progress_stays_until_it_is_said_anew
            skipped_steps_are_counted_and_never_the_last
            a_later_attempt_goes_on_where_the_steps_end
            memos_are_kept_in_order
            memos_for_a_step_are_found_by_it
            memos_can_be_written_again
            a_gap_between_memos_is_an_error_and_writes_nothing
            jobs_of_a_record_are_enqueued_with_it
            jobs_of_a_record_are_notified_as_work
            an_attempt_that_was_retaken_can_write_no_more
            an_attempt_that_was_called_off_can_write_no_more
            an_attempt_that_was_given_back_can_write_no_more
            an_attempt_that_ended_its_job_well_can_write_no_more
            only_the_lease_itself_gives_the_right_to_write
            a_job_that_is_not_there_gives_nothing_and_takes_nothing
            a_settled_job_is_what_it_was_settled_to
            a_job_that_has_ended_says_when
            a_suspect_stays_one_until_it_is_settled_otherwise
            a_job_that_waits_again_is_leased_again_when_it_is_due
            only_a_job_of_a_silent_worker_is_taken_from_it
            a_job_is_settled_only_as_it_was_seen
            a_job_without_all_its_steps_is_not_done
            a_dead_job_can_be_tried_again
            settlements_are_answered_in_order
            a_cancel_wins_or_the_job_completes
            one_of_many_takes_over_a_lost_job
            attempts_that_ended_are_kept
            each_attempt_knows_how_many_steps_there_were
            of_many_attempts_the_first_and_the_last_are_kept
            the_attempt_of_a_job_that_is_done_is_kept_when_it_is_run_again
            a_settlement_that_is_fenced_off_leaves_no_history
            ended_jobs_are_pruned_after_their_retention
            live_jobs_are_never_pruned
            a_job_that_has_ended_twice_is_pruned_after_its_last_end
            one_of_many_that_has_ended_twice_is_pruned
            jobs_that_were_settled_together_are_pruned_each_at_its_age
            what_is_pruned_leaves_the_others_in_order
            pruning_deletes_all_that_belongs_to_a_job
            pruning_keeps_to_its_limit
            steps_are_read_in_pages
            lanes_with_due_jobs_are_found
            how_a_job_stands_is_what_the_job_says
            a_job_that_waits_is_moved
            a_moved_job_takes_its_place_among_others
            a_job_that_has_started_is_not_moved
            a_job_is_moved_or_leased
            a_moved_job_is_notified
            a_job_that_was_not_started_in_time_is_found
            a_job_that_is_enqueued_again_expires_as_before
            a_job_that_has_started_does_not_expire
            a_job_that_is_moved_expires_after_its_new_time
            jobs_that_have_expired_are_found_some_at_a_time
            a_job_that_has_expired_may_expire_again
            a_job_holds_its_key_until_it_has_ended
            of_calls_at_once_one_makes_the_job
            the_second_of_a_call_joins_the_first
            a_job_that_waits_is_replaced
            a_job_is_put_off_for_a_time_at_most
            a_job_is_replaced_or_leased
            a_call_is_refused_whose_key_is_held
            a_key_is_held_for_a_time
            a_pruned_job_leaves_its_key
            a_call_with_a_key_can_be_made_again
            a_job_that_is_tried_again_takes_its_key
            jobs_of_a_note_join_those_that_hold_their_keys
            a_job_waits_until_those_before_it_have_ended
            a_job_that_waits_for_others_has_its_time_too
            a_job_is_cancelled_or_runs_where_one_before_it_fails
            those_that_wait_for_a_cancelled_job_are_cancelled_too
            a_job_comes_after_one_that_has_ended
            what_is_not_there_is_not_waited_for
            a_job_that_waits_for_others_is_called_off_or_moved
            a_replaced_job_waits_for_the_same
            what_was_cancelled_stays_so_when_the_other_is_tried_again
            many_jobs_wait_for_one
            jobs_that_end_at_once_let_go_those_that_wait_for_them
            a_job_ends_or_is_waited_for
            jobs_are_found_by_what_they_are
            a_search_goes_on_where_it_ended
            a_search_stops_at_its_budget
            dead_jobs_are_found_among_many_others
            jobs_of_a_schedule_are_found_by_its_name
            jobs_are_counted_in_every_state
            what_is_done_at_once_is_counted
            a_lane_says_since_when_its_next_job_is_due
            rates_add_up
            old_rates_are_deleted
            a_note_is_kept_as_it_was_written
            a_note_is_changed_at_the_version_that_was_seen
            a_change_of_notes_can_be_made_again
            notes_change_with_their_jobs_or_not_at_all
            one_of_many_changes_a_note
            changes_of_notes_are_notified
            new_work_is_notified
            changes_of_a_job_are_notified
            the_end_of_a_job_is_notified
            a_call_has_notified_when_it_returns
            calls_without_anything_in_them_are_fine
            limits_without_end_are_fine
            thousands_at_once_are_fine
            large_values_are_kept
            text_of_any_kind_is_kept
            numbers_at_their_ends_are_kept
            times_are_kept_to_the_millisecond
        }
    };
    ($make:expr) => {
        $crate::store_conformance! { @rules [] $make }
    };
}

/// Runs one rule on a store that `make` gives; the other thing that it gives is dropped after the store.
///
/// # Panics
///
/// When the store breaks the rule.
pub fn check<G>(make: impl AsyncFnOnce() -> (G, Arc<dyn Store>), rule: impl AsyncFnOnce(Arc<dyn Store>)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    runtime.expect("a test may start threads").block_on(async {
        let (_guard, store) = make().await;
        rule(store).await;
    });
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_macro_names_every_rule() {
        let rules: Vec<_> = [
            include_str!("enqueueing.rs"),
            include_str!("leasing.rs"),
            include_str!("order.rs"),
            include_str!("lease_on_enqueue.rs"),
            include_str!("lease_expiry.rs"),
            include_str!("recording.rs"),
            include_str!("memos.rs"),
            include_str!("fencing.rs"),
            include_str!("settling.rs"),
            include_str!("ending.rs"),
            include_str!("reading.rs"),
            include_str!("placing.rs"),
            include_str!("expiring.rs"),
            include_str!("keys.rs"),
            include_str!("after.rs"),
            include_str!("finding.rs"),
            include_str!("counting.rs"),
            include_str!("rates.rs"),
            include_str!("notes.rs"),
            include_str!("notifications.rs"),
            include_str!("limits.rs"),
        ]
        .iter()
        .flat_map(|source| source.split("\npub async fn ").skip(1).filter_map(|rest| rest.split('(').next()))
        .collect();
        let (_, list) = include_str!("mod.rs").split_once("$make =>\n").unwrap();
        let (list, _) = list.split_once('}').unwrap();
        assert_eq!(list.split_whitespace().collect::<Vec<_>>(), rules);
    }
}
