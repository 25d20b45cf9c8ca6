//! The closed-loop load generator: every answer is checked, and a failure is counted, never timed.

use std::{collections::BTreeMap, error::Error, iter};

use runtime_api::BoxError;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::{
    task::{JoinError, JoinSet},
    time::{Duration, Instant, timeout},
};

use super::Latencies;

/// A worker gives up after so many failures: a dead path must not spin, and one failure already spoils a case.
const FAILURES_MAX: u64 = 100;

/// Who makes calls, one at a time.
pub trait Caller: Send + 'static {
    /// What a call brings, as it came.
    type Answer: Send;

    /// Gets ready for call `id`; untimed.
    fn prepare(&mut self, id: u64) -> impl Future<Output = Result<(), BoxError>> + Send;

    /// Makes call `id` and reads the whole answer; this is what is timed.
    fn call(&mut self, id: u64) -> impl Future<Output = Result<Self::Answer, BoxError>> + Send;

    /// Fails unless this answers call `id`; untimed.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self, id: u64, answer: &Self::Answer) -> Result<(), BoxError>;

    /// Ends sessions and connections, so that no round leaves one behind.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// What a round measured.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// How long it took.
    pub seconds: f64,
    /// Reason -> count, warm-up included.
    pub failures: BTreeMap<String, u64>,
    /// Of the successful calls.
    pub latencies: Latencies,
}

/// A round that could not be measured.
#[derive(Debug, Error)]
pub enum Unanswered {
    /// A call was neither answered nor refused.
    #[error("a call was never answered")]
    Never,
    /// A caller has a bug.
    #[error("a caller panicked")]
    Panicked(#[from] JoinError),
}

/// The callers of one round, one call in flight each.
#[derive(Debug)]
pub struct Crew<C> {
    workers: Vec<Worker<C>>,
    /// How long a call may go on after the round's time is up.
    overtime: Duration,
}

#[derive(Debug)]
struct Worker<C> {
    caller: C,
    next_id: u64,
    latencies: Latencies,
    failures: BTreeMap<String, u64>,
}

impl<C: Caller> Crew<C> {
    /// Lets `callers` call for that time, and at least once each. The latencies are thrown away, the failures count.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn warmed_up(callers: Vec<C>, warm_up: Duration, overtime: Duration) -> Result<Self, Unanswered> {
        let workers = (1..).zip(callers).map(|(number, caller)| Worker::new(caller, number)).collect();
        let mut crew = Self { workers, overtime };
        crew.run(warm_up).await?;
        crew.workers.iter_mut().for_each(|worker| worker.latencies.clear());
        Ok(crew)
    }

    /// Lets the callers call for that time, and at least once each, and closes them.
    ///
    /// # Errors
    /// [`Unanswered`].
    pub async fn measure(mut self, time: Duration) -> Result<Outcome, Unanswered> {
        let started = Instant::now();
        self.run(time).await?;
        let mut outcome = Outcome { seconds: started.elapsed().as_secs_f64(), ..Outcome::default() };
        for worker in self.workers {
            outcome.latencies.add(&worker.latencies);
            for (reason, count) in worker.failures {
                *outcome.failures.entry(reason).or_default() += count;
            }
            worker.caller.close().await;
        }
        Ok(outcome)
    }

    async fn run(&mut self, time: Duration) -> Result<(), Unanswered> {
        let until = Instant::now() + time;
        let mut running: JoinSet<Worker<C>> = self.workers.drain(..).map(|worker| worker.work(until)).collect();
        let limit = time + self.overtime;
        while let Some(worker) = timeout(limit, running.join_next()).await.map_err(|_| Unanswered::Never)? {
            self.workers.push(worker?);
        }
        Ok(())
    }
}

impl<C: Caller> Worker<C> {
    fn new(caller: C, number: u64) -> Self {
        // Ids of workers never meet, so that a swapped answer is seen even on a shared stream.
        Self { caller, next_id: number << 32, latencies: Latencies::default(), failures: BTreeMap::new() }
    }

    async fn work(mut self, until: Instant) -> Self {
        while self.failures.values().sum::<u64>() < FAILURES_MAX {
            self.next_id += 1;
            let ended = match self.call_once(self.next_id).await {
                Ok(ended) => ended,
                Err(error) => {
                    *self.failures.entry(reason(&*error)).or_default() += 1;
                    Instant::now()
                }
            };
            if ended >= until {
                break;
            }
        }
        self
    }

    /// Returns when the answer was there.
    async fn call_once(&mut self, id: u64) -> Result<Instant, BoxError> {
        self.caller.prepare(id).await?;
        let started = Instant::now();
        let answer = self.caller.call(id).await;
        let ended = Instant::now();
        self.caller.check(id, &answer?)?;
        self.latencies.record(ended - started);
        Ok(ended)
    }
}

/// An error and its causes on one line.
fn reason(error: &(dyn Error + 'static)) -> String {
    let causes = iter::successors(Some(error), |error| (*error).source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes 10 ms for each call and fails those whose number it is told.
    struct Scripted {
        fails: fn(u64) -> bool,
        answers: fn(u64) -> u64,
    }

    impl Caller for Scripted {
        type Answer = u64;

        async fn prepare(&mut self, _: u64) -> Result<(), BoxError> {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok(())
        }

        async fn call(&mut self, id: u64) -> Result<u64, BoxError> {
            tokio::time::sleep(Duration::from_millis(10)).await;
            if (self.fails)(id & 0xffff_ffff) { Err("it broke".into()) } else { Ok((self.answers)(id)) }
        }

        fn check(&self, id: u64, answer: &u64) -> Result<(), BoxError> {
            if *answer == id { Ok(()) } else { Err("another answer".into()) }
        }

        async fn close(self) {}
    }

    async fn measured(scripted: fn() -> Scripted) -> Outcome {
        let callers = vec![scripted(), scripted()];
        let crew = Crew::warmed_up(callers, Duration::ZERO, Duration::from_secs(1)).await.expect("they answer");
        crew.measure(Duration::from_millis(150)).await.expect("they answer")
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_a_call_is_that_of_the_call_alone() {
        let outcome = measured(|| Scripted { fails: |_| false, answers: |id| id }).await;

        assert_eq!(outcome.latencies.count(), 20);
        assert!((outcome.latencies.quantile_us(0.99) - 10_000.0).abs() < 20.0, "{}", outcome.latencies.quantile_us(0.99));
        assert!(outcome.failures.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_counted_and_never_timed() {
        let broken = measured(|| Scripted { fails: |number| number % 2 == 0, answers: |id| id }).await;
        let swapped = measured(|| Scripted { fails: |_| false, answers: |id| id ^ (3 << 32) }).await;

        assert_eq!((broken.latencies.count(), broken.failures["it broke"]), (10, 10));
        assert_eq!((swapped.latencies.count(), swapped.failures["another answer"]), (0, 22), "the warm-up's failures count");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_never_answered_ends_the_round() {
        struct Deaf;
        impl Caller for Deaf {
            type Answer = ();
            async fn prepare(&mut self, _: u64) -> Result<(), BoxError> {
                Ok(())
            }
            async fn call(&mut self, _: u64) -> Result<(), BoxError> {
                std::future::pending().await
            }
            fn check(&self, _: u64, (): &()) -> Result<(), BoxError> {
                Ok(())
            }
            async fn close(self) {}
        }

        let crew = Crew::warmed_up(vec![Deaf], Duration::ZERO, Duration::from_secs(1)).await;

        assert!(matches!(crew, Err(Unanswered::Never)));
    }
}
