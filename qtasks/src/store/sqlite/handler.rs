//! Handlers that run in a transaction of the SQLite store.

use std::{
    future::{Ready, ready},
    marker::PhantomData,
};

use super::transaction::{InTransaction, KIND, Transaction};
use crate::{
    error::{BoxError, Error},
    execution::{
        attempt::Attempt,
        handler::{BoxHandler, Handler, NowTry, Signature, inject::Inject},
    },
    schema::{need::Need, returns::Reply},
};

/// Stands around what such a handler takes besides the transaction, so that its implementations do not meet those of other handlers.
#[derive(Debug)]
pub struct Transacted<X>(PhantomData<fn() -> X>);

macro_rules! handlers {
    ($($extra:ident),*) => {
        impl<H, Y, R, E, $($extra,)*> Handler<Y, R, (NowTry, Transacted<(E, $($extra,)*)>)> for H
        where
            H: Fn(&Transaction<'_>, Y, $($extra),*) -> Result<R, E> + Copy + Send + Sync + 'static,
            Y: Send + 'static,
            R: Reply,
            E: Into<BoxError>,
            $($extra: Inject,)*
        {
            type Future = Ready<Result<R, BoxError>>;

            fn handle(&self, _value: Y, _attempt: &Attempt) -> Self::Future {
                ready(Err(Error::Misuse("a handler in a transaction is run by its store").into()))
            }

            const IN_TRANSACTION: Option<BoxHandler<Self, Y, R>> = Some(|&handler, value, handling| {
                let run: InTransaction = Box::new(move |tx| {
                    let _attempt = handling.attempt();
                    handling.handle(|| handler(tx, value, $($extra::inject(_attempt)),*).map_err(Into::into))
                });
                Box::new(run)
            });
        }

        impl<H, Y, O, $($extra: Inject,)*> Signature<Transacted<(Y, $($extra,)*)>> for H
        where
            H: Fn(&Transaction<'_>, Y, $($extra),*) -> O,
        {
            type Output = O;

            fn needs() -> Vec<Need> {
                let needs: [Option<Need>; _] = [Some(Need::Transaction(KIND)), $($extra::need()),*];
                needs.into_iter().flatten().collect()
            }
        }
    };
}

handlers!();
handlers!(A1);
handlers!(A1, A2);
