//! A line for each call, for those who want to see what happened when: which worker answered, from which moment on calls
//! failed.

use std::{
    fs::File,
    io::{self, LineWriter, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use crate::{
    failure::Failure,
    load::{Outcome, Sample, Target},
};

/// Names of the columns: the policy; when the call began, in seconds since 1970; how long it took, in seconds; the
/// worker, if that is known; "OK" or the name of a status.
const HEAD: &str = "run,begun,seconds,worker,outcome";

/// The list, if one is wanted. Each line is written when its call ends.
#[derive(Clone, Default)]
pub(super) struct Calls(Option<Arc<List>>);

struct List {
    path: PathBuf,
    file: Mutex<LineWriter<File>>,
    /// What went wrong first.
    error: Mutex<Option<io::Error>>,
}

impl Calls {
    /// A list in this file.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        let begin = || {
            let mut file = LineWriter::new(File::create(path)?);
            writeln!(file, "{HEAD}")?;
            Ok(Mutex::new(file))
        };
        let file = begin().map_err(|source| Failure::write(path, source))?;
        let list = List { path: path.to_owned(), file, error: Mutex::default() };
        Ok(Self(Some(Arc::new(list))))
    }

    /// The same target, each of whose calls is written down.
    pub(super) fn listing<T>(&self, run: &str, target: T) -> Listed<T> {
        Listed { target, run: run.into(), calls: self.clone() }
    }

    /// Whether all lines could be written.
    pub(super) fn check(&self) -> Result<(), Failure> {
        let Some(list) = &self.0 else { return Ok(()) };
        let error = list.error.lock().unwrap_or_else(PoisonError::into_inner).take();
        error.map_or(Ok(()), |source| Err(Failure::write(&list.path, source)))
    }
}

impl List {
    fn write(&self, line: &str) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = writeln!(file, "{line}") {
            self.error.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }
}

/// A target whose calls are written down.
#[derive(Clone)]
pub(super) struct Listed<T> {
    target: T,
    run: Arc<str>,
    calls: Calls,
}

impl<T: Target> Target for Listed<T> {
    async fn call(&self, index: u64) -> Sample {
        let (begun, started) = (SystemTime::now(), Instant::now());
        let sample = self.target.call(index).await;
        if let Some(list) = &self.calls.0 {
            list.write(&line(&self.run, begun, started.elapsed(), &sample));
        }
        sample
    }
}

/// Neither names of policies and statuses nor ids of workers hold a comma.
fn line(run: &str, begun: SystemTime, took: Duration, sample: &Sample) -> String {
    let begun = begun.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let worker = sample.worker_id.as_deref().unwrap_or_default();
    let outcome = match &sample.outcome {
        Outcome::Ok => "OK",
        Outcome::Failed(status) => status,
    };
    format!("{run},{:.6},{:.6},{worker},{outcome}", begun.as_secs_f64(), took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_value_for_each_column() {
        let begun = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
        let took = Duration::from_micros(20_500);
        let answered = line("p2c", begun, took, &Sample::ok().on_worker("w1"));
        assert_eq!(answered, "p2c,1.500000,0.020500,w1,OK");
        let failed = line("p2c", begun, took, &Sample::failed("UNAVAILABLE"));
        assert_eq!(failed, "p2c,1.500000,0.020500,,UNAVAILABLE");
        assert_eq!(failed.split(',').count(), HEAD.split(',').count());
    }

    #[tokio::test]
    async fn each_call_is_a_line_when_it_has_ended() {
        #[derive(Clone)]
        struct Answered;
        impl Target for Answered {
            async fn call(&self, _index: u64) -> Sample {
                Sample::ok()
            }
        }
        let path = std::env::temp_dir().join(format!("lbctl-calls-{}", std::process::id()));
        let calls = Calls::create(&path).unwrap();
        let target = calls.listing("random", Answered);
        target.call(0).await;
        target.call(1).await;
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(text.lines().count(), 3, "{text}");
        assert!(calls.check().is_ok());
    }
}
