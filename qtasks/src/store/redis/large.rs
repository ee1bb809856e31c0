//! Calls that may be too large for the server. At a call that is too large the server cuts the connection, and with it all
//! other calls that are under way there. So large calls go over a connection of their own, and a call with a value that is
//! larger than the limits that the server names is not sent. Where the server names no limits, a call is found to be too
//! large when the connection is cut again and again, although no other call goes over it and the server is there.

use std::sync::{Arc, Mutex, PoisonError};

use redis::{Arg, Cmd, Value, cmd};

use super::{connection::Link, error::Fault, server::configured};
use crate::store::Notifier;

type Asked<T> = Result<T, Fault>;

/// Every server takes calls with fewer bytes: the lowest limit that a server can be given is twice as much.
pub(super) const LARGE: usize = 512 << 10;

/// How often a call is sent by itself before it is blamed for the end of the connection.
const ALONE: usize = 2;

/// Sends large calls apart from small ones.
pub(super) struct LargeCalls {
    /// The connection for small calls.
    link: Arc<Link>,
    own: Link,
    most: Mutex<Option<Most>>,
}

/// How many bytes the server takes, as far as it says so.
#[derive(Clone, Copy, Debug)]
struct Most {
    value: usize,
    call: usize,
}

/// How many bytes a call has, and the largest value in it.
#[derive(Clone, Copy, Debug)]
struct Size {
    value: usize,
    call: usize,
}

impl LargeCalls {
    pub(super) fn new(link: Arc<Link>) -> Self {
        let own = own_link(&link);
        Self { link, own, most: Mutex::default() }
    }

    /// Asks the server. A large call goes over a connection of its own, where it cannot hurt small ones.
    pub(super) async fn ask(&self, call: &Cmd) -> Asked<Value> {
        let size = Size::of(call);
        if size.call < LARGE { self.link.ask(call).await } else { Box::pin(self.ask_apart(call, size)).await }
    }

    /// Asks the server over a connection of the call's own.
    async fn ask_apart(&self, call: &Cmd, size: Size) -> Asked<Value> {
        self.check(size).await?;
        let mut answered = self.own.ask(call).await;
        for _ in 0..ALONE {
            match answered {
                Err(fault) if fault.is_cut() => self.check_after_cut(size).await?,
                answered => return answered,
            }
            answered = own_link(&self.link).ask(call).await;
        }
        match answered {
            Err(fault) if fault.is_cut() => Err(self.blame(size).await?),
            answered => answered,
        }
    }

    /// Refuses a call with a value that the server would not take.
    async fn check(&self, size: Size) -> Asked<()> {
        let known = *self.most.lock().unwrap_or_else(PoisonError::into_inner);
        let most = match known {
            Some(most) if size.value <= most.value => return Ok(()),
            // The server may take more by now.
            _ => self.learn().await,
        };
        if size.value <= most.value { Ok(()) } else { Err(most.refuse(size)) }
    }

    /// Refuses a call that is too large as a whole. Some versions of Redis count all values of a call together and others do
    /// not, so this limit is looked at only after the connection was cut.
    async fn check_after_cut(&self, size: Size) -> Asked<()> {
        let most = self.learn().await;
        if size.value <= most.value && size.call <= most.call { Ok(()) } else { Err(most.refuse(size)) }
    }

    /// The fault that blames the call, if the server is there.
    async fn blame(&self, Size { value, call }: Size) -> Asked<Fault> {
        self.link.ask::<Value>(&cmd("PING")).await?;
        Ok(Fault::TooLarge(format!(
            "it cuts the connection at this call, which has {call} bytes, and {value} in its largest value; is that more \
             than its `proto-max-bulk-len` or its `client-query-buffer-limit`?"
        )))
    }

    async fn learn(&self) -> Most {
        let limit = async |name| configured(&self.link, name).await.ok().flatten()?.parse().ok();
        let value = limit("proto-max-bulk-len").await.unwrap_or(usize::MAX);
        let call = limit("client-query-buffer-limit").await.unwrap_or(usize::MAX);
        let most = Most { value: value.min(call), call };
        *self.most.lock().unwrap_or_else(PoisonError::into_inner) = Some(most);
        most
    }
}

/// A link with a connection of its own. Its notifier has no listeners.
fn own_link(link: &Link) -> Link {
    Link::new(link.url.clone(), Arc::new(Notifier::new()))
}

impl Most {
    fn refuse(self, size: Size) -> Fault {
        let (what, bytes, most, setting) = if self.value < self.call && size.value > self.value {
            ("value", size.value, self.value, "proto-max-bulk-len")
        } else {
            ("call", size.call, self.call, "client-query-buffer-limit")
        };
        Fault::TooLarge(format!(
            "a {what} of {bytes} bytes is more than the {most} of its `{setting}`; raise that, or store the data elsewhere and \
             pass its key"
        ))
    }
}

impl Size {
    fn of(call: &Cmd) -> Self {
        let length = |arg: Arg<&[u8]>| match arg {
            Arg::Simple(bytes) => bytes.len(),
            _ => 0,
        };
        call.args_iter().map(length).fold(Self { value: 0, call: 0 }, |size, length| Self {
            value: size.value.max(length),
            call: size.call + length,
        })
    }
}
