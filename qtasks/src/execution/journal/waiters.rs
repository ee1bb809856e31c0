//! The wakers of futures that wait for one kind of change. The lock that guards the change guards them too.

use std::{mem, task::Waker};

/// Futures that wait. There is hardly ever more than one, which needs no allocation.
#[derive(Default)]
pub(crate) struct Waiters {
    first: Option<Waiter>,
    more: Vec<Waiter>,
    /// How many ids were given so far.
    numbered: u64,
}

struct Waiter {
    id: WaiterId,
    waker: Waker,
}

/// The number under which a future waits. No number is given twice, so that a future which was woken cannot remove another
/// one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WaiterId(u64);

/// Waiters that were taken out, to be woken after the lock is released.
#[must_use]
#[derive(Default)]
pub(crate) struct Woken {
    first: Option<Waiter>,
    more: Vec<Waiter>,
}

impl Waiters {
    /// Lets the next change wake `waker`. Gives the waker that it replaces, to be dropped after the lock is released.
    pub(crate) fn register(&mut self, id: &mut Option<WaiterId>, waker: &Waker) -> Option<Waker> {
        let waits = id.and_then(|id| self.iter_mut().find(|waiter| waiter.id == id));
        match waits {
            Some(waiter) if waiter.waker.will_wake(waker) => None,
            Some(waiter) => Some(mem::replace(&mut waiter.waker, waker.clone())),
            None => {
                *id = Some(self.add(waker.clone()));
                None
            }
        }
    }

    fn add(&mut self, waker: Waker) -> WaiterId {
        self.numbered += 1;
        let id = WaiterId(self.numbered);
        let waiter = Waiter { id, waker };
        match &mut self.first {
            None => self.first = Some(waiter),
            Some(_) => self.more.push(waiter),
        }
        id
    }

    /// Removes a future that waits no longer, unless it was woken. Gives its waker, to be dropped after the lock is released.
    pub(crate) fn remove(&mut self, id: WaiterId) -> Option<Waker> {
        let waiter = self.first.take_if(|waiter| waiter.id == id).or_else(|| {
            let at = self.more.iter().position(|waiter| waiter.id == id)?;
            Some(self.more.swap_remove(at))
        });
        waiter.map(|waiter| waiter.waker)
    }

    /// Takes out all waiters.
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
        let ((kept, waker), mut waiters, mut id) = (waker(), Waiters::default(), None);
        for _ in 0..9 {
            assert!(waiters.register(&mut id, &waker).is_none());
        }
        assert_eq!(Arc::strong_count(&kept), 3);
        assert!(waiters.remove(id.unwrap()).is_some_and(|removed| removed.will_wake(&waker)));
        assert!(waiters.remove(id.unwrap()).is_none() && waiters.iter_mut().next().is_none());
    }

    #[test]
    fn a_future_that_moves_to_another_task_is_woken_there() {
        let ((first, from), (second, to), mut waiters, mut id) = (waker(), waker(), Waiters::default(), None);
        assert!(waiters.register(&mut id, &from).is_none());
        assert!(waiters.register(&mut id, &to).is_some());
        assert_eq!((Arc::strong_count(&first), Arc::strong_count(&second)), (2, 3));
    }

    #[test]
    fn a_future_that_was_woken_does_not_take_another_one_out() {
        let ((_, waker), mut waiters, mut ids) = (waker(), Waiters::default(), [None; 3]);
        for id in &mut ids[..2] {
            assert!(waiters.register(id, &waker).is_none());
        }
        waiters.take().wake();
        assert!(waiters.register(&mut ids[2], &waker).is_none());
        assert!(ids[..2].iter().all(|id| waiters.remove(id.unwrap()).is_none()));
        assert!(waiters.remove(ids[2].unwrap()).is_some());
    }
}
