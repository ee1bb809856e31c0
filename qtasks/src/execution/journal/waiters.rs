//! The wakers of futures that wait for one kind of change. They stand under the lock that guards the change.

use std::{mem, task::Waker};

/// Futures that wait; hardly ever more than one, for which nothing is allocated.
#[derive(Default)]
pub(crate) struct Waiters {
    first: Option<Waiter>,
    more: Vec<Waiter>,
    numbered: u64,
}

struct Waiter {
    ticket: Ticket,
    waker: Waker,
}

/// The number under which a future waits. It is never given again, so that a future which has been woken cannot take
/// another one for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(u64);

/// Wakers that were taken out, to be woken when the lock is released.
#[must_use]
#[derive(Default)]
pub(crate) struct Woken {
    first: Option<Waiter>,
    more: Vec<Waiter>,
}

impl Waiters {
    /// Has `waker` woken by the next change. Gives the waker that it takes the place of, to be dropped when the lock is
    /// released.
    pub(crate) fn register(&mut self, ticket: &mut Option<Ticket>, waker: &Waker) -> Option<Waker> {
        let waits = ticket.and_then(|ticket| self.iter_mut().find(|waiter| waiter.ticket == ticket));
        match waits {
            Some(waiter) if waiter.waker.will_wake(waker) => None,
            Some(waiter) => Some(mem::replace(&mut waiter.waker, waker.clone())),
            None => {
                *ticket = Some(self.add(waker.clone()));
                None
            }
        }
    }

    fn add(&mut self, waker: Waker) -> Ticket {
        self.numbered += 1;
        let ticket = Ticket(self.numbered);
        let waiter = Waiter { ticket, waker };
        match &mut self.first {
            None => self.first = Some(waiter),
            Some(_) => self.more.push(waiter),
        }
        ticket
    }

    /// Forgets a future that waits no longer, unless it was woken; gives its waker, to be dropped when the lock is
    /// released.
    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<Waker> {
        let waiter = self.first.take_if(|waiter| waiter.ticket == ticket).or_else(|| {
            let at = self.more.iter().position(|waiter| waiter.ticket == ticket)?;
            Some(self.more.swap_remove(at))
        });
        waiter.map(|waiter| waiter.waker)
    }

    /// Takes out all of them.
    pub(crate) fn take(&mut self) -> Woken {
        Woken { first: self.first.take(), more: mem::take(&mut self.more) }
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut Waiter> {
        self.first.iter_mut().chain(&mut self.more)
    }
}

impl Woken {
    pub(crate) fn wake(self) {
        self.first.into_iter().chain(self.more).for_each(|waiter| waiter.waker.wake());
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, task::Wake};

    use super::*;

    struct Silent;

    impl Wake for Silent {
        fn wake(self: Arc<Self>) {}
    }

    fn waker() -> (Arc<Silent>, Waker) {
        let silent = Arc::new(Silent);
        (silent.clone(), silent.into())
    }

    #[test]
    fn a_future_that_is_polled_again_and_again_waits_once() {
        let ((kept, waker), mut waiters, mut ticket) = (waker(), Waiters::default(), None);
        for _ in 0..9 {
            assert!(waiters.register(&mut ticket, &waker).is_none());
        }
        assert_eq!(Arc::strong_count(&kept), 3);
        assert!(waiters.remove(ticket.unwrap()).is_some_and(|removed| removed.will_wake(&waker)));
        assert!(waiters.remove(ticket.unwrap()).is_none() && waiters.iter_mut().next().is_none());
    }

    #[test]
    fn a_future_that_moves_to_another_task_is_woken_there() {
        let ((first, from), (second, to), mut waiters, mut ticket) = (waker(), waker(), Waiters::default(), None);
        assert!(waiters.register(&mut ticket, &from).is_none());
        assert!(waiters.register(&mut ticket, &to).is_some());
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (2, 3));
    }

    #[test]
    fn a_future_that_was_woken_does_not_take_another_one_out() {
        let ((_, waker), mut waiters, mut tickets) = (waker(), Waiters::default(), [None; 3]);
        for ticket in &mut tickets[..2] {
            assert!(waiters.register(ticket, &waker).is_none());
        }
        waiters.take().wake();
        assert!(waiters.register(&mut tickets[2], &waker).is_none());
        assert!(tickets[..2].iter().all(|ticket| waiters.remove(ticket.unwrap()).is_none()));
        assert!(waiters.remove(tickets[2].unwrap()).is_some());
    }
}
