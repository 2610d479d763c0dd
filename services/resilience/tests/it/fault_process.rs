//! Faults that act on a whole process, on processes of their own: a crash kills once, stress comes and goes.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use valerix_resilience::Resilience;
use valerix_resilience::policy::{CpuStressFault, CrashFault, Fault, FaultState, MemoryStressFault};

use crate::fault_effects::{allowed, within_a_tenth};
use crate::process::{Process, say, setting};
use crate::support::{Mount, eventually, faults};

const SIGABRT: i32 = 6;

async fn library() -> Resilience {
    let folder = setting("FOLDER").unwrap();
    let folder = Path::new(&folder);
    Resilience::builder()
        .pod_uid("uid-1")
        .policy_folder(folder)
        .state_folder(folder.join("state"))
        .start()
        .await
        .unwrap()
}

/// Lives until a crash fault ends it, or says that the fault is over and ends well.
pub(crate) async fn crash() {
    let resilience = library().await;
    say("up");
    eventually("the fault is decided on", || !resilience.report().faults.is_empty()).await;
    eventually("the fault is over", || {
        resilience.report().faults[0].state == FaultState::Ended
    })
    .await;
    let fault = resilience.report().faults[0].clone();
    assert_eq!(fault.reason, None, "that it restarted is the fault's effect");
    say("over");
}

#[tokio::test]
async fn a_crash_ends_a_real_process_as_often_as_asked_and_never_again() {
    for times in [1, 2] {
        let mut mount = Mount::with_policy(&allowed());
        let folder = mount.folder().to_str().unwrap().to_owned();
        let start = || Process::start("crash", &[("FOLDER", &folder)]);
        let mut process = start();
        assert_eq!(process.hear().await.as_deref(), Some("up"));
        let crash = Fault {
            crash: Some(CrashFault { times }),
            ..Fault::default()
        };
        mount.faults = Some(faults("crash", crash, "60s").render());
        mount.publish();
        for death in 1..=times {
            // Restarted, it meets the fault before it is up.
            assert_eq!(process.hear().await, None, "death {death} of {times}");
            assert_eq!(process.end().await.signal(), Some(SIGABRT));
            process = start();
        }
        for _ in 0..3 {
            assert_eq!(process.hear().await.as_deref(), Some("up"), "after {times}");
            assert_eq!(process.hear().await.as_deref(), Some("over"));
            assert!(process.end().await.success());
            process = start();
        }
    }
}

/// Shows stress of the processor and of memory, each until its own end.
pub(crate) async fn stress() {
    let mut mount = Mount::with_policy(&allowed());
    let resilience = mount.start().await;
    let cpu = CpuStressFault {
        load_percent: 30,
        workers: 2,
    };
    let memory = MemoryStressFault {
        size: "64Mi".to_owned(),
    };
    let idle = resident_mib();
    let stresses = [
        (
            "cpu",
            Fault {
                cpu_stress: Some(cpu),
                ..Fault::default()
            },
        ),
        (
            "memory",
            Fault {
                memory_stress: Some(memory),
                ..Fault::default()
            },
        ),
    ];
    for (name, fault) in stresses {
        mount.faults = Some(faults(name, fault, "3s").render());
        mount.publish();
        match name {
            "cpu" => {
                eventually("both threads work", || stress_threads() == 2).await;
                takes_its_share(0.6).await;
            }
            _ => {
                let taken = || resident_mib().saturating_sub(idle) as f64;
                eventually("the memory is taken", || within_a_tenth(taken(), 64.0)).await;
            }
        }
        let fault = resilience.report().faults[0].clone();
        assert_eq!((fault.run.as_str(), fault.state), (name, FaultState::Active));
        let begun = tokio::time::Instant::now();
        let left = Duration::from_millis(fault.remaining_ms);
        eventually("it ends", || resilience.report().faults[0].state == FaultState::Ended).await;
        assert!(
            begun.elapsed() + Duration::from_millis(1) >= left,
            "{name} ended too early"
        );
        eventually("its threads end", || stress_threads() == 0).await;
        let kept = || resident_mib().saturating_sub(idle);
        eventually("a tenth of its memory at the most is kept", || kept() <= 6).await;
    }
    say("over");
}

#[tokio::test]
async fn stress_is_there_while_it_lasts_and_gone_by_itself() {
    let mut process = Process::start("stress", &[]);
    assert_eq!(process.hear().await.as_deref(), Some("over"), "see its panic above");
    assert!(process.end().await.success());
}

/// The stress threads want that much of one processor and take no more. What a busy machine keeps them waiting for they want
/// all the same.
async fn takes_its_share(asked: f64) {
    let begun = std::time::Instant::now();
    let (ran_before, waited_before) = processor_time();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (ran, waited) = processor_time();
    let elapsed = begun.elapsed().as_secs_f64();
    let (ran, waited) = ((ran - ran_before) / elapsed, (waited - waited_before) / elapsed);
    assert!(
        ran <= asked * 1.1,
        "they took {ran:.3} of a processor, asked were {asked}"
    );
    assert!(
        ran + waited >= asked * 0.9,
        "they took {ran:.3} of a processor and waited for {waited:.3}, asked were {asked}"
    );
}

/// How long the stress threads ran until now, and how long they were kept waiting for a processor, in seconds.
fn processor_time() -> (f64, f64) {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let read = |task: std::io::Result<std::fs::DirEntry>| {
        let folder = task.ok()?.path();
        let name = std::fs::read_to_string(folder.join("comm")).ok()?;
        if !name.starts_with("valerix-cpu") {
            return None;
        }
        let times = std::fs::read_to_string(folder.join("schedstat")).ok()?;
        let mut times = times.split_whitespace().map(|time| time.parse::<f64>().unwrap() / 1e9);
        Some((times.next()?, times.next()?))
    };
    let all = tasks.filter_map(read);
    all.fold((0.0, 0.0), |(ran, waited), (more, longer)| {
        (ran + more, waited + longer)
    })
}

fn stress_threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name.starts_with("valerix-"))
        .count()
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}
