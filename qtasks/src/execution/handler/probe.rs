//! Finds out at compile time of what kind a handler is.

use std::{future::Future, marker::PhantomData};

use super::{Later, LaterTry, Now, NowTry, Signature};

/// The form `M` of a [`Handler`](super::Handler), given or left to inference.
#[derive(Debug)]
pub struct Kind<M>(PhantomData<fn() -> M>);

impl<M> Kind<M> {
    /// The compiler infers the form.
    pub const INFERRED: Self = Self(PhantomData);
}

/// Finds the kind of a handler from its output, where nothing else fixes it: a `Result` whose error could be stored too is
/// taken for a failure, not for a reply.
///
/// Method look-up tries the traits below from the most to the least references: the order of preference.
#[derive(Debug)]
pub struct Probe<O>(PhantomData<fn() -> O>);

impl<O> Probe<O> {
    /// A probe of the output of `handler`.
    pub fn of<H: Signature<A, Output = O>, A>(_handler: &H) -> Self {
        Self(PhantomData)
    }
}

macro_rules! probes {
    ($($trait:ident: [$($generics:tt)*] $receiver:ty => $kind:ident, $doc:literal;)*) => {$(
        #[doc = $doc]
        pub trait $trait {
            /// The form of the probed handler: its kind, and parameters that are inferred.
            fn kind<X>(&self) -> Kind<($kind, X)> {
                Kind::INFERRED
            }
        }

        impl<$($generics)*> $trait for $receiver {}
    )*};
}

probes! {
    ProbeLaterTry: [F: Future<Output = Result<R, E>>, R, E] &&&Probe<F> => LaterTry, "Probes futures of results.";
    ProbeLater: [F: Future] &&Probe<F> => Later, "Probes other futures.";
    ProbeNowTry: [R, E] &Probe<Result<R, E>> => NowTry, "Probes results.";
    ProbeNow: [O] Probe<O> => Now, "Probes all other outputs.";
}

/// The [`Kind`] of a handler, found from its output.
#[doc(hidden)]
#[macro_export]
macro_rules! __kind_of {
    ($handler:expr) => {{
        #[allow(unused_imports)]
        use $crate::__private::{ProbeLater as _, ProbeLaterTry as _, ProbeNow as _, ProbeNowTry as _};
        (&&&&$crate::__private::Probe::of(&$handler)).kind()
    }};
}
