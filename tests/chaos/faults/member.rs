//! A process of a run, and the line between it and the store, on which calls come to grief.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use fastrand::Rng;
use qtasks::{Error, Result, store::Notifier};
use qtasks_tests::{
    edge::{CarryOut, Edge},
    ledger::Ledger,
    promises::Event,
};
use tokio::{
    sync::{oneshot, watch},
    time::sleep,
};

/// What the lines of a run have in common.
pub(crate) struct Weather {
    pub(crate) ledger: Ledger,
    pub(crate) salt: u64,
    /// Of a thousand calls, how many come to grief.
    bad: usize,
    fair: AtomicBool,
    /// Whether the store is away altogether.
    away: AtomicBool,
    /// Whether calls take real time, for which tokio's clock must stand still.
    takes_time: bool,
    /// Calls that are carried out later, although their callers were told that they failed.
    to_come: AtomicUsize,
    pub(crate) faults: AtomicUsize,
}

impl Weather {
    pub(crate) fn new(seed: u64, bad: usize, takes_time: bool, ledger: &Ledger) -> Arc<Self> {
        Arc::new(Self {
            ledger: ledger.clone(),
            salt: seed,
            bad,
            fair: AtomicBool::new(false),
            away: AtomicBool::new(false),
            takes_time,
            to_come: AtomicUsize::new(0),
            faults: AtomicUsize::new(0),
        })
    }

    /// The store goes away, or comes back.
    pub(crate) fn away(&self, away: bool) {
        self.away.store(away, SeqCst);
    }

    /// From now on nothing goes wrong.
    pub(crate) fn clear(&self) {
        self.away(false);
        self.fair.store(true, SeqCst);
    }

    /// Whether nothing goes wrong any more.
    pub(crate) fn is_fair(&self) -> bool {
        self.fair.load(SeqCst)
    }

    /// Whether nothing is on its way any more.
    pub(crate) fn is_calm(&self) -> bool {
        self.to_come.load(SeqCst) == 0
    }

    fn draw(&self, rng: &Mutex<Rng>) -> Fault {
        if self.away.load(SeqCst) {
            return Fault::Refused;
        }
        let mut rng = rng.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_fair() || rng.usize(..1000) >= self.bad {
            return Fault::None;
        }
        self.faults.fetch_add(1, SeqCst);
        let wait = Duration::from_millis(match rng.u8(..4) {
            0 => 1,
            1 => rng.u64(1..100),
            2 => rng.u64(100..1_500),
            _ => rng.u64(1_500..9_000),
        });
        match rng.u8(..100) {
            0..25 => Fault::Refused,
            25..50 => Fault::AnswerLost,
            50..65 => Fault::Late(wait),
            65..75 => Fault::AnswerLate(wait),
            75..85 => Fault::Twice,
            85..95 => Fault::RefusedAndLater(wait),
            _ => Fault::Never,
        }
    }
}

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// It is not carried out.
    Refused,
    /// It is carried out, and its answer is lost.
    AnswerLost,
    /// It is carried out after others that came later.
    Late(Duration),
    /// Its answer comes after others.
    AnswerLate(Duration),
    /// It is carried out twice, and the second answer counts.
    Twice,
    /// It seems to have failed, and is carried out all the same, later.
    RefusedAndLater(Duration),
    /// Nothing is ever heard of it.
    Never,
}

/// A process of a run; its tasks take it as a state.
#[derive(Clone)]
pub(crate) struct Member {
    /// Decides which of its calls go wrong, and how; each process has its own, so that it makes no difference to one which
    /// of two others goes first.
    rng: Arc<Mutex<Rng>>,
    weather: Arc<Weather>,
    dead: watch::Sender<bool>,
    hangs: watch::Sender<bool>,
    lost_leases: Arc<AtomicBool>,
    /// Whether calls go wrong at all.
    is_exposed: bool,
    notifier: Arc<Notifier>,
}

impl Member {
    /// A process whose calls go wrong.
    pub(crate) fn exposed(weather: &Arc<Weather>, rng: &mut Rng) -> Self {
        let rng = Arc::new(Mutex::new(rng.fork()));
        let (dead, hangs, lost_leases) = (watch::Sender::new(false), watch::Sender::new(false), Default::default());
        Self {
            rng,
            weather: weather.clone(),
            dead,
            hangs,
            lost_leases,
            is_exposed: true,
            notifier: weather.ledger.notifier(),
        }
    }

    /// A process whose calls do not go wrong.
    pub(crate) fn sheltered(weather: &Arc<Weather>) -> Self {
        Self { is_exposed: false, ..Self::exposed(weather, &mut Rng::with_seed(0)) }
    }

    pub(crate) fn salt(&self) -> u64 {
        self.weather.salt
    }

    /// From now on, nothing that it does counts.
    pub(crate) fn kill(&self) {
        self.dead.send_replace(true);
    }

    /// Waits until a call hangs.
    pub(crate) async fn hung(&self) {
        let mut hangs = self.hangs.subscribe();
        hangs.wait_for(|hangs| *hangs).await.expect("this holds the sender");
    }

    /// Whether it may hold jobs that it was never told of.
    pub(crate) fn lost_leases(&self) -> bool {
        self.lost_leases.load(SeqCst)
    }

    /// Something that a task does.
    pub(crate) async fn does(&self, event: Event) {
        self.alive().await;
        self.weather.ledger.note(event);
    }

    /// Stands still for ever when the process is dead.
    async fn alive(&self) {
        if *self.dead.borrow() {
            std::future::pending::<()>().await;
        }
    }

    /// Has a call carried out, whether anybody waits for it or not.
    async fn carry_out<T: Send + 'static>(&self, call: &CarryOut<T>) -> Result<T> {
        let call = call();
        if !self.weather.takes_time {
            return call.await;
        }
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            let _still = Still::stand();
            // Nobody waits any more where the caller was dropped.
            let _ = answer.send(call.await);
        });
        answered.await.expect("a call is carried out")
    }
}

impl Edge for Member {
    async fn pass<T: Send + 'static>(&self, call: &'static str, carry_out: CarryOut<T>) -> Result<T> {
        self.alive().await;
        // An application asks for the time when it is built, and nothing that becomes of a job hangs on the answer.
        let is_exposed = self.is_exposed && call != "time";
        let fault = if is_exposed { self.weather.draw(&self.rng) } else { Fault::None };
        if call == "lease" && !matches!(fault, Fault::None | Fault::Refused | Fault::Late(_)) {
            self.lost_leases.store(true, SeqCst);
        }
        let answer = match fault {
            Fault::None => self.carry_out(&carry_out).await,
            Fault::Refused => Err(trouble()),
            Fault::AnswerLost => self.carry_out(&carry_out).await.and(Err(trouble())),
            Fault::Late(wait) => {
                sleep(wait).await;
                // What is on its way when its sender dies arrives all the same.
                self.carry_out(&carry_out).await
            }
            Fault::AnswerLate(wait) => {
                let answer = self.carry_out(&carry_out).await;
                sleep(wait).await;
                answer
            }
            Fault::Twice => {
                let _ = self.carry_out(&carry_out).await;
                self.carry_out(&carry_out).await
            }
            Fault::RefusedAndLater(wait) => {
                let member = self.clone();
                self.weather.to_come.fetch_add(1, SeqCst);
                tokio::spawn(async move {
                    sleep(wait).await;
                    let _ = member.carry_out(&carry_out).await;
                    member.weather.to_come.fetch_sub(1, SeqCst);
                });
                Err(trouble())
            }
            Fault::Never => {
                self.hangs.send_replace(true);
                std::future::pending().await
            }
        };
        self.alive().await;
        answer
    }

    fn notifier<'a>(&'a self, _of_the_store: &'a Notifier) -> &'a Notifier {
        &self.notifier
    }
}

fn trouble() -> Error {
    Error::Store { doing: "hear us", source: "the cable is out".into() }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a process")
    }
}

/// While this is there, a paused clock of tokio stands still, as it does for work on its blocking threads.
struct Still {
    _over: std::sync::mpsc::Sender<()>,
}

impl Still {
    fn stand() -> Self {
        let (over, is_over) = std::sync::mpsc::channel();
        tokio::task::spawn_blocking(move || is_over.recv());
        Self { _over: over }
    }
}
