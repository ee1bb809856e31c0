//! Finds out at compile time what kind of handler a function is.

use std::{future::Future, marker::PhantomData};

use super::{Later, LaterTry, Now, NowTry, Signature};

/// Says which kind a handler is of, or leaves it to inference.
#[derive(Debug)]
pub struct Kind<M>(PhantomData<fn() -> M>);

impl<M> Kind<M> {
    /// The compiler finds the kind out.
    pub const INFERRED: Self = Self(PhantomData);
}

/// Finds the kind of a handler from what it gives, where nothing else fixes it: a `Result` whose error could be stored
/// too is taken for a failure, not for a reply.
///
/// Method look-up tries the traits below from the most to the least references: the order of preference.
#[derive(Debug)]
pub struct Probe<O>(PhantomData<fn() -> O>);

impl<O> Probe<O> {
    /// A probe of what `handler` gives.
    pub fn of<H: Signature<A, Output = O>, A>(_handler: &H) -> Self {
        Self(PhantomData)
    }
}

macro_rules! probes {
    ($($trait:ident: [$($generics:tt)*] $receiver:ty => $kind:ident, $doc:literal;)*) => {$(
        #[doc = $doc]
        pub trait $trait {
            /// The kind.
            fn kind<X>(&self) -> Kind<($kind, X)> {
                Kind::INFERRED
            }
        }

        impl<$($generics)*> $trait for $receiver {}
    )*};
}

probes! {
    ProbeLaterTry: [F: Future<Output = Result<R, E>>, R, E] &&&Probe<F> => LaterTry, "Futures of results.";
    ProbeLater: [F: Future] &&Probe<F> => Later, "Other futures.";
    ProbeNowTry: [R, E] &Probe<Result<R, E>> => NowTry, "Results.";
    ProbeNow: [O] Probe<O> => Now, "Whatever else.";
}

/// The [`Kind`] of a handler, found from what it gives.
#[doc(hidden)]
#[macro_export]
macro_rules! __kind_of {
    ($handler:expr) => {{
        #[allow(unused_imports)]
        use $crate::__private::{ProbeLater as _, ProbeLaterTry as _, ProbeNow as _, ProbeNowTry as _};
        (&&&&$crate::__private::Probe::of(&$handler)).kind()
    }};
}
